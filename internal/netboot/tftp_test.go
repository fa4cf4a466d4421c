package netboot

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"
)

// startTFTP runs a TFTP server on loopback that has one file, efiFiles[0], with content. set may change it before it starts.
func startTFTP(t testing.TB, content []byte, set func(*tftpServer)) *tftpServer {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, efiFiles[0]), content, 0o644); err != nil {
		t.Fatal(err)
	}
	files, err := openIPXE(dir)
	if err != nil {
		t.Fatal(err)
	}
	l := &link{Link: Link{Interface: "lo", Addr: netip.MustParseAddr("127.0.0.1")}, files: files, log: slog.New(slog.DiscardHandler)}
	if l.tftp, err = l.listen(netip.AddrPortFrom(l.Addr, 0)); err != nil {
		t.Fatal(err)
	}
	s := &tftpServer{link: l, interval: time.Hour, slots: make(chan struct{}, tftpTransfers)}
	if set != nil {
		set(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		l.close()
		l.close()
		if err := <-done; err != nil {
			t.Errorf("TFTP ended with %v", err)
		}
		files.root.Close()
	})
	return s
}

// tftpClient is a client that does as it is told.
type tftpClient struct {
	t      testing.TB
	conn   *net.UDPConn
	server netip.AddrPort // port 69, so to say
	peer   netip.AddrPort // what answered last
}

func newTFTPClient(t testing.TB, s *tftpServer) *tftpClient {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &tftpClient{t: t, conn: conn, server: s.tftp.LocalAddr().(*net.UDPAddr).AddrPort()}
}

// rrq is a read request for the file in mode octet.
func rrq(options ...string) []byte {
	return []byte("\x00\x01" + strings.Join(append([]string{efiFiles[0], "octet"}, options...), "\x00") + "\x00")
}

func ackOf(block uint16) []byte { return binary.BigEndian.AppendUint16([]byte{0, tftpACK}, block) }

func dataOf(block uint16, b []byte) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{0, tftpDATA}, block), b...)
}

func (c *tftpClient) send(to netip.AddrPort, b []byte) {
	c.t.Helper()
	if _, err := c.conn.WriteToUDPAddrPort(b, to); err != nil {
		c.t.Fatal(err)
	}
}

func (c *tftpClient) request(b []byte) { c.t.Helper(); c.send(c.server, b) }
func (c *tftpClient) answer(b []byte)  { c.t.Helper(); c.send(c.peer, b) }

// receive returns the next packet; an error only if none has come within the time.
func (c *tftpClient) receive(within time.Duration) ([]byte, error) {
	buf := make([]byte, 1<<16)
	if err := c.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	n, from, err := c.conn.ReadFromUDPAddrPort(buf)
	c.peer = from
	return buf[:n], err
}

func (c *tftpClient) want(packet []byte) {
	c.t.Helper()
	got, err := c.receive(time.Minute)
	if err != nil || !bytes.Equal(got, packet) {
		c.t.Fatalf("%v, %d octets %.60q, want %d octets %.60q", err, len(got), got, len(packet), packet)
	}
}

// get is a ROM: it asks until somebody answers, takes the file from whoever answered first, and starts again if that one falls silent.
// It is an error if there is another answer than the file.
func (c *tftpClient) get(blksize int, again time.Duration, options ...string) ([]byte, error) {
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); {
		file, err := c.try(blksize, again, options)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return file, err
		}
	}
	return nil, errors.New("no answer")
}

func (c *tftpClient) try(blksize int, again time.Duration, options []string) (file []byte, err error) {
	if _, err := c.conn.WriteToUDPAddrPort(rrq(options...), c.server); err != nil {
		return nil, err
	}
	var first netip.AddrPort
	for block := uint16(1); ; {
		b, err := c.receive(again)
		if err != nil {
			return nil, err
		}
		if first.IsValid() && c.peer != first {
			continue
		}
		first = c.peer
		switch {
		case len(options) > 0 && block == 1 && b[1] == tftpOACK:
			b = dataOf(0, nil)
		case b[1] != tftpDATA:
			return nil, fmt.Errorf("answer %.60q", b)
		case binary.BigEndian.Uint16(b[2:]) == block:
			file = append(file, b[4:]...)
			block++
		}
		if _, err := c.conn.WriteToUDPAddrPort(ackOf(binary.BigEndian.Uint16(b[2:])), c.peer); err != nil {
			return nil, err
		}
		if block > 1 && len(b) < 4+blksize {
			return file, nil
		}
	}
}

// content is n bytes that differ from block to block.
func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

// malformed is what no client should send, and what some do.
var malformed = []string{
	"", "\x00", "\x00\x00", "\x00\x01", "\x00\x01\x00", "\x00\x01\x00\x00", "\x00\x01snponly.efi", "\x00\x01snponly.efi\x00", "\x00\x01snponly.efi\x00oct",
	"\x00\x01snponly.efi\x00octet", "\x00\x01snponly.efi\x00\x00", "\x00\x01snponly.efi\x00mail\x00", "\x00\x01snponly.efi\x00netascii\x00",
	"\x00\x02", "\x00\x02snponly.efi\x00octet\x00", "\x00\x03\x00\x01data", "\x00\x04", "\x00\x04\x00\x00", "\x00\x05", "\x00\x05\x00\x00", "\x00\x06",
	"\x00\x06blksize\x00512\x00", "\x00\x07", "\xff\xff", "\x00\x01\xff\xfe\x80\x00octet\x00", "\x00\x01snponly.efi\xff\x00octet\x00blksize\x00\xff\xff\x00",
	"\x00\x01snponly.efi\x00octet\x00blksize\x00", "\x00\x01snponly.efi\x00octet\x00blksize\x0014", "\x00\x01snponly.efi\x00octet\x00\x00\x00\x00\x00",
	"\x00\x01" + strings.Repeat("a", 600) + "\x00octet\x00", "\x00\x01snponly.efi\x00octet\x00" + strings.Repeat("blksize\x00512\x00", 30),
	string(rrq("blksize", "0")), string(rrq("blksize", "-1")), string(rrq("blksize", "7")), string(rrq("blksize", "65465")),
	string(rrq("blksize", "99999999999999999999")), string(rrq("windowsize", "0")), string(rrq("windowsize", "65535", "blksize", "65464")),
	string(rrq("timeout", "0")), string(rrq("timeout", "256")), string(rrq("tsize", "x")), string(rrq("tsize", "-1")),
}

func TestTFTPOutlivesMalformedPackets(t *testing.T) {
	t.Parallel()
	file := content(1000)
	s := startTFTP(t, file, nil)
	for _, m := range malformed {
		bad := newTFTPClient(t, s)
		bad.request([]byte(m))
		got, err := newTFTPClient(t, s).get(512, time.Second)
		if err != nil || !bytes.Equal(got, file) {
			t.Fatalf("after %.80q: %v, %d bytes", m, err, len(got))
		}
	}
	// Within a transfer, too. There an ERROR ends it.
	for _, m := range malformed {
		if strings.HasPrefix(m, "\x00\x05") && len(m) >= 4 {
			continue
		}
		c := newTFTPClient(t, s)
		c.request(rrq("windowsize", "0", "tsize", "0"))
		c.want([]byte("\x00\x06tsize\x001000\x00"))
		c.answer([]byte(m))
		c.answer(ackOf(0))
		c.want(dataOf(1, file[:512]))
		c.answer([]byte(m))
		c.answer(ackOf(1))
		c.want(dataOf(2, file[512:]))
	}
}

// FuzzRequest: whatever comes in, the server goes on.
func FuzzRequest(f *testing.F) {
	for _, m := range malformed {
		f.Add([]byte(m), []byte(m))
	}
	f.Add(rrq(), ackOf(1))
	f.Add(rrq("blksize", "1468", "tsize", "0"), ackOf(0))
	file := content(1000)
	s := startTFTP(f, file, func(s *tftpServer) { s.interval = time.Second })
	f.Fuzz(func(t *testing.T, request, answer []byte) {
		if len(request) > 1<<15 || len(answer) > 1<<15 {
			return
		}
		bad := newTFTPClient(t, s)
		bad.request(request)
		if r, err := parseRequest(request[:min(len(request), 512)]); err == nil {
			b, err := bad.receive(time.Minute)
			if err != nil {
				t.Fatalf("no answer to %+v: %v", r, err)
			}
			if len(b) > 4+max(512, r.blksize) {
				t.Fatalf("%d octets in answer to %+v", len(b), r)
			}
			bad.answer(answer)
			bad.answer([]byte("\x00\x05\x00\x00enough\x00")) // none may go on until nobody has acknowledged it
		}
		bad.conn.Close()
		got, err := newTFTPClient(t, s).get(512, time.Second)
		if err != nil || !bytes.Equal(got, file) {
			t.Fatalf("%v, %d bytes", err, len(got))
		}
	})
}

func TestTFTPOptions(t *testing.T) {
	t.Parallel()
	file := content(70000)
	s := startTFTP(t, file, nil)
	for _, test := range []struct {
		options string
		want    string // the OACK without its operation code; "": the file at once
	}{
		{"", ""},
		{"blksize 8", "blksize 8"},
		{"blksize 1468", "blksize 1468"},
		{"blksize 65464", "blksize 65464"},
		{"blksize 0", ""}, {"blksize 7", ""}, {"blksize 65465", ""}, {"blksize -8", ""}, {"blksize x", ""}, {"blksize", ""},
		{"timeout 1", "timeout 1"}, {"timeout 255", "timeout 255"}, {"timeout 0", ""}, {"timeout 256", ""},
		{"tsize 0", "tsize 70000"}, {"tsize 5", "tsize 70000"},
		{"windowsize 0", ""}, {"windowsize 65535", ""},
		{"TSize 0 BLKSIZE 1024", "blksize 1024 tsize 70000"},
		{"tsize 0 blksize 1468 windowsize 4 timeout 3 multicast ", "blksize 1468 timeout 3 tsize 70000"},
	} {
		c := newTFTPClient(t, s)
		c.request(rrq(strings.Fields(test.options)...))
		want := dataOf(1, file[:512])
		if test.want != "" {
			want = []byte("\x00\x06" + strings.ReplaceAll(test.want, " ", "\x00") + "\x00")
		}
		got, err := c.receive(time.Minute)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v, %.60q, want %.60q", test.options, err, got, want)
		}
	}
}

func TestTFTPErrors(t *testing.T) {
	t.Parallel()
	s := startTFTP(t, content(1000), nil)
	for request, want := range map[string]string{
		"\x00\x01secret\x00octet\x00":              "\x00\x05\x00\x01no such file\x00",
		"\x00\x01../snponly.efi\x00octet\x00":      "\x00\x05\x00\x01no such file\x00",
		"\x00\x01ipxe.efi\x00OCTET\x00":            "\x00\x05\x00\x01no such file\x00",
		"\x00\x02snponly.efi\x00octet\x00":         "\x00\x05\x00\x04files are read only, and in mode octet\x00",
		"\x00\x01snponly.efi\x00netascii\x00":      "\x00\x05\x00\x04files are read only, and in mode octet\x00",
		"\x00\x01/snponly.efi\xff\x00Octet\x00":    string(dataOf(1, content(512))),
		"\x00\x01snponly.efi\x00octet\x00\x00\x00": string(dataOf(1, content(512))),
	} {
		c := newTFTPClient(t, s)
		c.request([]byte(request))
		if got, err := c.receive(time.Minute); err != nil || string(got) != want {
			t.Errorf("%.60q: %v, %.60q, want %.60q", request, err, got, want)
		}
	}
}

// ready is a client that acknowledges every block at once.
type ready struct {
	net.Conn
	last uint16
	file []byte
}

func (r *ready) Write(b []byte) (int, error) {
	r.last = binary.BigEndian.Uint16(b[2:])
	r.file = append(r.file, b[4:]...)
	return len(b), nil
}
func (r *ready) Read(b []byte) (int, error)      { return copy(b, ackOf(r.last)), nil }
func (r *ready) SetReadDeadline(time.Time) error { return nil }

// The numbers of blocks go round, and a file of whole blocks ends with an empty one.
func TestTFTPLongFile(t *testing.T) {
	file := content(512 * (2<<16 + 3))
	f, err := fstest.MapFS{"x": {Data: file}}.Open("x")
	if err != nil {
		t.Fatal(err)
	}
	var r ready
	size, err := (&tftpTransfer{conn: &r, ack: make([]byte, 512)}).send(f, tftpRequest{})
	if err != nil || size != int64(len(file)) || !bytes.Equal(r.file, file) || r.last != 4 {
		t.Errorf("%v, size %d, %d bytes, want %d, last block %d, want 4", err, size, len(r.file), len(file), r.last)
	}
}

func TestTFTPAcknowledgementLost(t *testing.T) {
	t.Parallel()
	file := content(1000)
	s := startTFTP(t, file, func(s *tftpServer) { s.interval = 10 * time.Millisecond })
	c := newTFTPClient(t, s)
	c.request(rrq("tsize", "0"))
	for range 2 {
		c.want([]byte("\x00\x06tsize\x001000\x00"))
	}
	// Should this test be held up for so long that the server gives up, it asks again.
	if got, err := c.get(512, 100*time.Millisecond, "tsize", "0"); err != nil || !bytes.Equal(got, file) {
		t.Errorf("%v, %d bytes", err, len(got))
	}
}

// An acknowledgement that comes twice, or late, or for what was never sent, makes nothing go out. (RFC 1123, section 4.2.3.1.)
func TestTFTPAcknowledgementTwice(t *testing.T) {
	t.Parallel()
	file := content(5 * 512)
	s := startTFTP(t, file, nil)
	c := newTFTPClient(t, s)
	c.request(rrq())
	for block := uint16(1); block <= 5; block++ {
		c.want(dataOf(block, file[512*(int(block)-1):512*int(block)]))
		for _, other := range []uint16{block - 1, block - 1, block - 2, block + 1, block + 100} {
			c.answer(ackOf(other))
		}
		stranger := newTFTPClient(t, s)
		stranger.send(c.peer, ackOf(block+1))
		c.answer(ackOf(block))
	}
	c.want(dataOf(6, nil))
}

func TestTFTPNobodyAcknowledges(t *testing.T) {
	t.Parallel()
	s := startTFTP(t, content(1000), func(s *tftpServer) { s.interval, s.slots = time.Millisecond, make(chan struct{}, 1) })
	c := newTFTPClient(t, s)
	c.request(rrq())
	c.want(dataOf(1, content(512)))
	s.slots <- struct{}{} // the transfer has ended
	for range tftpTries - 1 {
		c.want(dataOf(1, content(512)))
	}
	c.send(c.peer, ackOf(1)) // nobody is there any more
	<-s.slots
	c.request(rrq("tsize", "0"))
	c.want([]byte("\x00\x06tsize\x001000\x00"))
}

// lines is a log.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// While all transfers are taken a client hears nothing, least of all an error; it asks again.
func TestTFTPFull(t *testing.T) {
	t.Parallel()
	file := content(1000)
	said := make(lines, 100)
	s := startTFTP(t, file, func(s *tftpServer) {
		s.slots = make(chan struct{}, 1)
		s.log = slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	first := newTFTPClient(t, s)
	first.request(rrq())
	first.want(dataOf(1, file[:512]))
	second := newTFTPClient(t, s)
	second.request(rrq())
	for line := ""; !strings.Contains(line, "too many transfers"); {
		line = <-said
	}
	first.answer(ackOf(1))
	first.want(dataOf(2, file[512:]))
	first.answer(ackOf(2))
	if got, err := second.get(512, 100*time.Millisecond); err != nil || !bytes.Equal(got, file) {
		t.Errorf("%v, %d bytes", err, len(got))
	}
}

// A rack is switched on: each ROM gets its file, also when as many as there are transfers have asked for the size only and gone away without
// a word.
func TestTFTPClientsAtOnce(t *testing.T) {
	t.Parallel()
	const machines = 300
	file := content(20_000)
	s := startTFTP(t, file, func(s *tftpServer) { s.interval = tftpInterval })
	for _, gone := range []int{0, tftpTransfers} {
		for range gone {
			newTFTPClient(t, s).request(rrq("tsize", "0"))
		}
		var wg sync.WaitGroup
		errs := make([]error, machines)
		for i := range machines {
			c := newTFTPClient(t, s)
			wg.Go(func() {
				got, err := c.get(1468, time.Second, "blksize", "1468", "tsize", "0")
				if err == nil && !bytes.Equal(got, file) {
					err = fmt.Errorf("%d bytes, want %d", len(got), len(file))
				}
				errs[i] = err
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Errorf("after %d that went away: %v", gone, err)
		}
	}
}

// At the end transfers end too, however long they might wait, and it does no harm to close twice.
func TestTFTPEndsInTheMiddle(t *testing.T) {
	t.Parallel()
	s := startTFTP(t, content(1000), nil)
	c := newTFTPClient(t, s)
	c.request(rrq("timeout", "255"))
	c.want([]byte("\x00\x06timeout\x00255\x00"))
}

func TestTFTPSocketBreaks(t *testing.T) {
	t.Parallel()
	l := &link{Link: Link{Interface: "lo", Addr: netip.MustParseAddr("127.0.0.1")}, log: slog.New(slog.DiscardHandler)}
	var err error
	if l.tftp, err = l.listen(netip.AddrPortFrom(l.Addr, 0)); err != nil {
		t.Fatal(err)
	}
	l.close()
	if err := l.serveTFTP(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("ended with %v", err)
	}
}

func TestTFTPFileThatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := startTFTP(t, nil, nil)
	if err := s.files.root.Remove(efiFiles[0]); err != nil {
		t.Fatal(err)
	}
	if err := s.files.root.Mkdir(efiFiles[0], 0o755); err != nil {
		t.Fatal(err)
	}
	c := newTFTPClient(t, s)
	c.request(rrq())
	c.want([]byte("\x00\x05\x00\x00cannot read the file\x00"))
}
