package netboot

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// tftpTransfers is how many may go on at once. All machines of a rack are switched on together, and a ROM that asks for the size only
	// (option tsize) may go away without a word and come again: the first transfer then goes on until nobody has acknowledged it.
	tftpTransfers = 1000
	tftpTries     = 5           // of a packet that is not acknowledged
	tftpInterval  = time.Second // between them, unless the client names another (option timeout)
)

// Operation codes (RFC 1350, section 5, and RFC 2347), all in the first two octets of a packet.
const (
	tftpRRQ = 1 + iota
	tftpWRQ
	tftpDATA
	tftpACK
	tftpERROR
	tftpOACK
)

// Error codes (RFC 1350, appendix).
const (
	tftpNotDefined   = 0
	tftpNotFound     = 1
	tftpNotSupported = 4
)

// tftpServer sends the link's boot files and takes none: RFC 1350 with the options of RFC 2348 and 2349. A transfer needs memory for one
// block, which a client can make 64 KiB and no more: there is no option windowsize.
type tftpServer struct {
	*link
	interval time.Duration
	slots    chan struct{}
}

// serveTFTP sends boot files until the socket is closed.
func (l *link) serveTFTP(ctx context.Context) error {
	s := &tftpServer{link: l, interval: tftpInterval, slots: make(chan struct{}, tftpTransfers)}
	return s.serve(ctx)
}

func (s *tftpServer) serve(ctx context.Context) error {
	sending, cancel := context.WithCancel(ctx) // which ends after ctx, and so after the socket may have been closed
	var transfers sync.WaitGroup
	defer transfers.Wait()
	defer cancel()
	buf := make([]byte, 512) // the longest request (RFC 2347)
	for {
		n, client, err := s.tftp.ReadFromUDPAddrPort(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("TFTP on interface %s: %w", s.Interface, err)
		}
		r, err := parseRequest(buf[:n])
		if err != nil {
			s.log.Debug("not a TFTP request", "client", client, "error", err)
			continue
		}
		select {
		case s.slots <- struct{}{}:
			transfers.Go(func() {
				defer func() { <-s.slots }()
				s.answerTFTP(sending, client, r)
			})
		default:
			// Without an answer the ROM asks again; an error would send it on to its next boot entry.
			s.log.Debug("TFTP: too many transfers", "client", client)
		}
	}
}

// tftpRequest is what a client wants. Options that are unknown or out of range are as if not there, and so left out of the answer,
// which is how a server refuses them (RFC 2347).
type tftpRequest struct {
	write      bool
	name, mode string
	blksize    int // 0 = not asked for
	timeout    int // in seconds; 0 = not asked for
	tsize      bool
}

func parseRequest(b []byte) (r tftpRequest, err error) {
	if len(b) < 2 || b[len(b)-1] != 0 {
		return r, fmt.Errorf("%d octets, cut off", len(b))
	}
	op := binary.BigEndian.Uint16(b)
	if op != tftpRRQ && op != tftpWRQ {
		return r, fmt.Errorf("operation %d", op) // never answered: it may be another server's error
	}
	r.write = op == tftpWRQ
	fields := strings.Split(string(b[2:len(b)-1]), "\x00")
	if len(fields) < 2 {
		return r, errors.New("no transfer mode")
	}
	r.name, r.mode = fields[0], fields[1]
	for o := fields[2:]; len(o) >= 2; o = o[2:] {
		switch strings.ToLower(o[0]) {
		case "blksize":
			r.blksize = numberIn(o[1], 8, 65464)
		case "timeout":
			r.timeout = numberIn(o[1], 1, 255)
		case "tsize":
			r.tsize = true
		}
	}
	return r, nil
}

// numberIn reads a number from first to last; any other text is 0.
func numberIn(s string, first, last int) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < first || n > last {
		return 0
	}
	return n
}

// oack acknowledges the options of r, for a file of size bytes; nil without any.
func (r tftpRequest) oack(size int64) []byte {
	b := []byte{0, tftpOACK}
	add := func(name string, value int64) { b = fmt.Appendf(b, "%s\x00%d\x00", name, value) }
	if r.blksize > 0 {
		add("blksize", int64(r.blksize))
	}
	if r.timeout > 0 {
		add("timeout", int64(r.timeout))
	}
	if r.tsize {
		add("tsize", size)
	}
	if len(b) == 2 {
		return nil
	}
	return b
}

// answerTFTP sends one of the boot files.
func (s *tftpServer) answerTFTP(ctx context.Context, client netip.AddrPort, r tftpRequest) {
	conn, err := s.dialTFTP(ctx, client)
	if err != nil {
		if ctx.Err() == nil {
			s.log.Warn("TFTP: cannot answer", "client", client, "error", err)
		}
		return
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	t := &tftpTransfer{conn: conn, interval: s.interval, ack: make([]byte, 512)}
	// Some ROMs put a slash in front, or 0xff behind (an unterminated option 67).
	name := strings.TrimSuffix(strings.TrimPrefix(r.name, "/"), "\xff")
	if r.write || !strings.EqualFold(r.mode, "octet") {
		s.log.Warn("TFTP: files are read only, and in mode octet", "client", client, "name", fmt.Sprintf("%.64q", name), "mode", fmt.Sprintf("%.16q", r.mode))
		t.fail(tftpNotSupported, "files are read only, and in mode octet")
		return
	}
	f, err := s.files.open(name)
	if err != nil {
		s.log.Warn("TFTP: no such file", "client", client, "name", fmt.Sprintf("%.64q", name))
		t.fail(tftpNotFound, "no such file")
		return
	}
	defer f.Close()
	size, err := t.send(f, r)
	if err != nil {
		s.log.Debug("TFTP transfer broken off", "client", client, "name", name, "error", err)
		return
	}
	s.log.Info("TFTP file sent", "client", client, "name", name, "bytes", size)
}

// dialTFTP opens the socket of one transfer. Connected, it hears nobody else, and that the client has gone shows as an error, where its
// host says so.
func (l *link) dialTFTP(ctx context.Context, client netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.UDPAddr{IP: l.Addr.AsSlice()}, Control: l.control(func(int) error { return nil })}
	return d.DialContext(ctx, "udp4", client.String())
}

// tftpTransfer is one client that reads one file.
type tftpTransfer struct {
	conn     net.Conn
	interval time.Duration
	ack      []byte // buffer
}

// send sends f and returns its size.
func (t *tftpTransfer) send(f fs.File, r tftpRequest) (size int64, err error) {
	fi, err := f.Stat()
	if err != nil {
		t.fail(tftpNotDefined, "cannot read the file")
		return 0, err
	}
	if r.timeout > 0 {
		t.interval = time.Duration(r.timeout) * time.Second
	}
	if oack := r.oack(fi.Size()); oack != nil {
		// A ROM that only wanted the size breaks off here; it comes again.
		if err := t.exchange(oack, 0); err != nil {
			return 0, err
		}
	}
	packet := make([]byte, 4+cmp.Or(r.blksize, 512))
	packet[1] = tftpDATA
	for block := uint16(1); ; block++ { // 0 follows 65535, as with all clients that take so many
		n, err := io.ReadFull(f, packet[4:])
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			t.fail(tftpNotDefined, "cannot read the file")
			return size, err
		}
		binary.BigEndian.PutUint16(packet[2:], block)
		if err := t.exchange(packet[:4+n], block); err != nil {
			return size, err
		}
		size += int64(n)
		if last {
			return size, nil
		}
	}
}

// exchange sends packet until block is acknowledged.
func (t *tftpTransfer) exchange(packet []byte, block uint16) error {
	for range tftpTries {
		if _, err := t.conn.Write(packet); err != nil {
			return err
		}
		err := t.await(block)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return fmt.Errorf("block %d is not acknowledged", block)
}

// await waits for the acknowledgement of block. Only time makes a packet go out again: if the acknowledgement of another block, or the
// same once more, did, every further packet would be sent twice (RFC 1123, section 4.2.3.1).
func (t *tftpTransfer) await(block uint16) error {
	if err := t.conn.SetReadDeadline(time.Now().Add(t.interval)); err != nil {
		return err
	}
	for {
		n, err := t.conn.Read(t.ack)
		if err != nil {
			return err
		}
		if n < 4 {
			continue
		}
		switch binary.BigEndian.Uint16(t.ack) {
		case tftpERROR:
			return fmt.Errorf("the client broke off: %.64q", t.ack[4:n])
		case tftpACK:
			if binary.BigEndian.Uint16(t.ack[2:]) == block {
				return nil
			}
		}
	}
}

// fail tells the client that there is nothing for it. Nobody acknowledges that.
func (t *tftpTransfer) fail(code byte, text string) {
	_, _ = t.conn.Write(append([]byte{0, tftpERROR, 0, code}, text+"\x00"...)) // it asks again if this is lost
}
