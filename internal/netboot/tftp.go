package netboot

import (
	"context"
	"fmt"
	"io"
	"strings"

	"pack.ag/tftp"
)

// Limits of TFTP: a ROM asks for one file at a time.
const (
	tftpTransfers  = 64
	tftpRetransmit = 5
)

// newTFTP makes the read-only TFTP server of the link.
func (l *link) newTFTP() (*tftp.Server, error) {
	s, err := tftp.NewServer(l.Addr.String()+":69", tftp.ServerNet("udp4"), tftp.ServerRetransmit(tftpRetransmit))
	if err != nil {
		return nil, fmt.Errorf("TFTP on interface %s: %w", l.Interface, err)
	}
	slots := make(chan struct{}, tftpTransfers)
	s.ReadHandler(tftp.ReadHandlerFunc(func(r tftp.ReadRequest) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			l.sendFile(r)
		default:
			r.WriteError(tftp.ErrCodeNotDefined, "too many transfers")
		}
	}))
	return s, nil
}

// serveTFTP sends boot files until the socket is closed.
func (l *link) serveTFTP(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { l.tsrv.Close() })
	defer stop()
	err := l.tsrv.Serve(l.tftp)
	if ctx.Err() != nil {
		return nil
	}
	l.tsrv.Close()
	return fmt.Errorf("TFTP on interface %s: %w", l.Interface, err)
}

// sendFile sends one of the boot files. The size first: ROMs ask for it
// (option tsize, RFC 2349) and give up without.
func (l *link) sendFile(r tftp.ReadRequest) {
	// Some ROMs put a slash in front, or 0xff behind (an unterminated option 67).
	name := strings.TrimSuffix(strings.TrimPrefix(r.Name(), "/"), "\xff")
	f, err := l.files.open(name)
	if err != nil {
		l.log.Warn("TFTP: no such file", "client", r.Addr(), "name", fmt.Sprintf("%.64q", name))
		r.WriteError(tftp.ErrCodeFileNotFound, "no such file")
		return
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		r.WriteError(tftp.ErrCodeNotDefined, "cannot read the file")
		return
	}
	r.WriteSize(fi.Size())
	// A ROM that only wanted the size breaks off with an error; it comes again.
	if _, err := io.Copy(r, f); err != nil {
		l.log.Debug("TFTP transfer broken off", "client", r.Addr(), "name", name, "error", err)
		return
	}
	l.log.Info("TFTP file sent", "client", r.Addr(), "name", name, "bytes", fi.Size())
}
