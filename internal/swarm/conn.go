package swarm

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	handshakeBytes = 68 // BEP 3: 1 + 19 + 8 + 20 + 20
	maxMessage     = 1 << 20
	// leastWait is the shortest rest of a message that is worth a system call to wait for.
	leastWait = 2 << 10
	// timedLeast is how much of a message has to follow its beginning for its time to be taken.
	timedLeast = 40 << 10
	// mostWait is what is waited for at once. The kernel makes its receive buffer twice as large,
	// and wakes the reader early when it cannot.
	mostWait = 128 << 10
	// mostUnsent is how much of what was written waits in the kernel, unsent. The news of a piece goes behind it, and
	// what the peer then asks for behind that: in a chain each hop adds twice its time.
	mostUnsent = 128 << 10
)

// peerConn is a TCP connection to a peer that wakes its reader once for a message instead of once
// for a segment, or twice for a large one. At 100 Mbit/s a segment comes every tenth of a millisecond, and the
// scheduler's work for the other wake-ups was most of a node's CPU time. It follows the lengths of
// the peer protocol's messages (BEP 3) in what is read, and inside a message tells the kernel how
// much is certain to come (SO_RCVLOWAT): that never waits for anything that might not be sent.
type peerConn struct {
	*net.TCPConn
	raw    syscall.RawConn
	stream messages
	// Of the long message that is under way: when it began, which one it is, what was to come then.
	began   time.Time
	message int
	rest    int64
	timed   func(bytes int64, took time.Duration) // of a long message, from its first bytes on; may be nil
	lowat   int
	off     atomic.Bool // the kernel refused
}

// newPeerConn wraps TCP connections; others stay as they are.
func newPeerConn(c net.Conn, timed func(int64, time.Duration)) net.Conn {
	tc, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	// The library does it where it sees the type: a closed connection is gone at once. The error
	// would come again with the first read.
	_ = tc.SetLinger(0)
	raw, err := tc.SyscallConn()
	if err != nil {
		return c
	}
	if raw.Control(func(fd uintptr) {
		// A kernel without the option (before Linux 3.12) is only slower.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, mostUnsent)
	}) != nil {
		return c
	}
	return &peerConn{TCPConn: tc, raw: raw, lowat: 1, timed: timed}
}

// Read is called by one goroutine at a time.
func (c *peerConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	if n > 0 {
		c.stream.follow(b[:n])
		c.clock()
		c.expect(c.stream.rest())
	}
	return n, err
}

// clock times the long message that ends with this read, and notes when another one begins. What came
// in the read that began a message says nothing of the rate.
func (c *peerConn) clock() {
	if c.timed == nil {
		return
	}
	m := &c.stream
	if !c.began.IsZero() && m.count != c.message {
		c.timed(c.rest, time.Since(c.began))
		c.began = time.Time{}
	}
	if c.began.IsZero() && m.left >= timedLeast {
		c.began, c.message, c.rest = time.Now(), m.count, int64(m.left)
	}
}

// expect lets the kernel wake the reader when n bytes have come, 0 for any.
func (c *peerConn) expect(n int) {
	if n < leastWait {
		n = 1
	}
	n = min(n, mostWait)
	if n == c.lowat || c.off.Load() {
		return
	}
	err := c.raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, n) != nil {
			c.off.Store(true)
		}
	})
	if err == nil {
		c.lowat = n
	}
}

// messages follows a peer's stream: a handshake, then messages that begin with their length.
type messages struct {
	shaken int // bytes of the handshake that have passed
	prefix [4]byte
	have   int // bytes of prefix
	left   int // bytes of the message that have not come
	count  int // messages that are whole
	lost   bool
}

// rest is how many bytes are certain to follow.
func (m *messages) rest() int {
	if m.lost {
		return 0
	}
	return m.left
}

func (m *messages) follow(b []byte) {
	if m.shaken < handshakeBytes {
		if m.shaken == 0 && b[0] != 19 {
			m.lost = true // obfuscated, or no BitTorrent
		}
		n := min(handshakeBytes-m.shaken, len(b))
		m.shaken += n
		b = b[n:]
	}
	for len(b) > 0 && !m.lost {
		if m.left > 0 {
			n := min(m.left, len(b))
			m.left -= n
			b = b[n:]
			if m.left == 0 {
				m.count++
			}
			continue
		}
		n := copy(m.prefix[m.have:], b)
		m.have += n
		b = b[n:]
		if m.have == len(m.prefix) {
			m.have = 0
			length := binary.BigEndian.Uint32(m.prefix[:])
			m.lost = length > maxMessage
			m.left = int(length)
		}
	}
}

// connEvents are called, if not nil, for each long message that came, from its first bytes on, and for each peer that
// nobody listens at.
type connEvents struct {
	timed   func(bytes int64, took time.Duration)
	refused func(netip.AddrPort)
}

// peerListener and connDialer give the library connections of ours.
type peerListener struct {
	net.Listener
	timed func(int64, time.Duration)
}

func (l peerListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newPeerConn(c, l.timed), nil
}

type connDialer struct {
	*net.Dialer
	connEvents
}

func (d connDialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := d.Dialer.DialContext(ctx, network, addr)
	if err != nil {
		if ap, ok := parseAddr(addr); ok && d.refused != nil && errors.Is(err, syscall.ECONNREFUSED) {
			d.refused(ap)
		}
		return nil, err
	}
	return newPeerConn(c, d.timed), nil
}
