// Package netboot gets a machine from power-on to a kernel: DHCP with boot
// file names by client kind, TFTP for PXE ROMs, router advertisements that spare
// iPXE a wait, and the iPXE scripts that HTTP serves.
//
// Sources: RFC 2131 and 2132 (DHCP), RFC 4578 (PXE options), RFC 1350, 2347,
// 2348 and 2349 (TFTP), RFC 4861 (router advertisements), UEFI specification
// section 24.7 (HTTP boot), ipxe.org (option 175, scripts).
package netboot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Options say where and how to boot machines.
type Options struct {
	Interfaces []string // DHCP, TFTP and router advertisements on these and no others
	HTTPPort   int      // port of the HTTP server that has the scripts, on the interface's address
	IPXEDir    string   // directory with iPXE binaries for ROMs that are not iPXE; "" = none
	Range      string   // "A-B": addresses to hand out; "" = the interface's whole subnet
	Force      bool     // go on beside another DHCP server
	Logger     *slog.Logger
}

// Server answers machines that boot from the network.
type Server struct {
	links []*link
	log   *slog.Logger
}

// Link tells what is served on one interface.
type Link struct {
	Interface string
	Addr      netip.Addr // the server's address
	First     netip.Addr // of the range to hand out
	Last      netip.Addr
}

// Listen checks the interfaces, looks for other DHCP servers on them and opens
// the sockets. It needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_NET_BIND_SERVICE.
// The search for other servers takes up to probeTime.
func Listen(ctx context.Context, o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if len(o.Interfaces) == 0 {
		return nil, errors.New("no interface named")
	}
	if o.Range != "" && len(o.Interfaces) > 1 {
		return nil, errors.New("an address range goes with one interface, not several")
	}
	files, err := openIPXE(o.IPXEDir)
	if err != nil {
		return nil, err
	}
	s := &Server{log: o.Logger}
	for _, name := range o.Interfaces {
		l, err := newLink(name, o, files)
		if err != nil {
			return nil, err
		}
		s.links = append(s.links, l)
	}
	var served []netip.Addr
	for _, l := range s.links {
		served = append(served, l.Addr)
	}
	for _, l := range s.links {
		l.served = served
	}
	if err := s.probe(ctx); err != nil {
		return nil, err
	}
	for _, l := range s.links {
		if err := l.open(); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// probe looks for other DHCP servers on all links at once.
func (s *Server) probe(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, len(s.links))
	for i, l := range s.links {
		wg.Go(func() { errs[i] = l.probe(ctx) })
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	return errors.Join(errs...)
}

// Links returns what is served where.
func (s *Server) Links() []Link {
	var out []Link
	for _, l := range s.links {
		out = append(out, l.Link)
	}
	return out
}

// Warnings are what keeps machines from being booted, for people.
func (s *Server) Warnings() []string {
	var out []string
	for _, l := range s.links {
		for _, why := range []*string{l.gone.Load(), l.silent.Load()} {
			if why != nil {
				out = append(out, *why)
			}
		}
	}
	return out
}

// Run answers until ctx ends or a socket breaks; then it closes everything. An interface that is removed is served again when it is back.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range s.links {
		g.Go(func() error { return l.run(ctx) })
	}
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Close closes the sockets. It does not go along with Run, which closes them itself.
func (s *Server) Close() {
	for _, l := range s.links {
		l.close()
	}
}

// openIPXE opens dir so that nothing outside it can be read, even by way of
// symbolic links. (Debian's ipxe.efi is a link to a file beside it.)
func openIPXE(dir string) (*bootFiles, error) {
	if dir == "" {
		return nil, nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("iPXE directory: %w", err)
	}
	b := &bootFiles{root: root}
	if b.has(biosFile) || b.efi() != "" {
		return b, nil
	}
	root.Close()
	return nil, fmt.Errorf("iPXE directory %s has neither %s nor %s nor %s (Debian: apt install ipxe)", dir, biosFile, efiFiles[0], efiFiles[1])
}
