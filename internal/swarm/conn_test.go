package swarm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stream is a handshake and messages of the given lengths, prefix not counted.
func stream(lengths ...int) []byte {
	b := append([]byte{19}, make([]byte, handshakeBytes-1)...)
	for _, n := range lengths {
		b = binary.BigEndian.AppendUint32(b, uint32(n))
		b = append(b, make([]byte, n)...)
	}
	return b
}

// TestMessagesNeverExpectTooMuch: in whatever pieces a stream arrives, what is said to follow is
// the rest of the message that has begun, and nothing between messages.
func TestMessagesNeverExpectTooMuch(t *testing.T) {
	lengths := []int{5, 16393, 0, 16393, 1, 13, 16393}
	whole := stream(lengths...)
	ends := []int{handshakeBytes}
	for _, n := range lengths {
		ends = append(ends, ends[len(ends)-1]+4+n)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		var m messages
		for pos := 0; pos < len(whole); {
			n := min(1+rng.IntN(5000), len(whole)-pos)
			m.follow(whole[pos : pos+n])
			pos += n
			want := 0
			for i, end := range ends[1:] {
				if begin := ends[i]; pos >= begin+4 && pos < end {
					want = end - pos
				}
			}
			if m.rest() != want {
				t.Fatalf("after %d bytes: %d are said to follow, want %d", pos, m.rest(), want)
			}
		}
	}
}

func TestMessagesOfAnotherProtocol(t *testing.T) {
	for name, b := range map[string][]byte{
		"no handshake": bytes.Repeat([]byte{1}, 200),
		"long message": stream()[:handshakeBytes:handshakeBytes],
	} {
		var m messages
		m.follow(b)
		m.follow([]byte{0xff, 0xff, 0xff, 0xff, 1, 2, 3})
		if m.rest() != 0 {
			t.Errorf("%s: %d bytes are said to follow", name, m.rest())
		}
	}
}

// TestPeerConnReadsAll: over a real socket every byte arrives, however it was cut, also a short
// message after a long one.
func TestPeerConnReadsAll(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	whole := stream(16393, 5, 16393, 16393, 0, 1, 40000, 3)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for b := whole; len(b) > 0; {
			n := min(1448, len(b))
			if _, err := c.Write(b[:n]); err != nil {
				return
			}
			b = b[n:]
			time.Sleep(200 * time.Microsecond) // segments of their own
		}
		_, _ = c.Read(make([]byte, 1)) // until the reader has gone
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	c := newPeerConn(raw, nil)
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(whole))
	counted := &countReads{r: c}
	if _, err := io.ReadFull(counted, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, whole) {
		t.Error("the bytes differ")
	}
	if segments := len(whole) / 1448; counted.n > segments/2 {
		t.Errorf("%d reads for %d segments", counted.n, segments)
	}
}

type countReads struct {
	r io.Reader
	n int
}

func (c *countReads) Read(b []byte) (int, error) {
	c.n++
	return c.r.Read(b)
}

func FuzzMessages(f *testing.F) {
	f.Add(stream(5, 100), 7)
	f.Add(stream(maxMessage + 1)[:100], 3)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		var m messages
		for step = max(1, step); len(b) > 0; {
			n := min(step, len(b))
			m.follow(b[:n])
			b = b[n:]
			if r := m.rest(); r < 0 || r > maxMessage {
				t.Fatalf("%d bytes are said to follow", r)
			}
		}
	})
}

// TestLittleWaitsUnsent: what a peer takes slowly waits in this process, not in the kernel, where the
// news of the next piece would wait behind it.
func TestLittleWaitsUnsent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := newPeerConn(tc, nil)
	defer c.Close()
	if err := c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Write(make([]byte, 64<<20)); err == nil {
		t.Fatalf("wrote %d bytes to a peer that does not read", n)
	}
	raw, err := tc.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	unsent := 0
	if err := errors.Join(raw.Control(func(fd uintptr) { unsent, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQNSD) }), err); err != nil {
		t.Fatal(err)
	}
	if unsent == 0 || unsent > 2*mostUnsent {
		t.Errorf("%d bytes wait unsent, want at most about %d", unsent, mostUnsent)
	}
}

// TestDialerTells: of a kernel that refuses the connection, and of nothing else.
func TestDialerTells(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	var told []netip.AddrPort
	d := connDialer{peerDialer(nil), connEvents{refused: func(a netip.AddrPort) { told = append(told, a) }}}
	c, err := d.DialContext(t.Context(), "tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	l.Close()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.DialContext(over, "tcp", addr.String()); err == nil || len(told) > 0 {
		t.Errorf("given up: %v, told of %v", err, told)
	}
	if _, err := d.DialContext(t.Context(), "tcp", addr.String()); err == nil || !slices.Equal(told, []netip.AddrPort{addr}) {
		t.Errorf("refused: %v, told of %v, want %v", err, told, addr)
	}
}
