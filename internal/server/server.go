// Package server composes the parts of a swarmboot server: catalog, seeder,
// tracker, web and netboot.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"swarmboot/internal/catalog"
	"swarmboot/internal/durable"
	"swarmboot/internal/layouts"
	"swarmboot/internal/netboot"
	"swarmboot/internal/profiles"
	"swarmboot/internal/swarm"
	"swarmboot/internal/tracker"
	"swarmboot/internal/web"
)

const (
	// shutdownTime is how long running HTTP requests may go on after the end.
	shutdownTime = 2 * time.Second
	// firstScan is until when the catalog has surely looked into its directory.
	firstScan = 10 * time.Second
)

// Options of a server.
type Options struct {
	Images     string       // directory
	Interfaces []string     // for DHCP and TFTP; empty = no netboot
	HTTP       string       // address to listen on, host:port
	BTListen   string       // the seeder's address, host:port
	UploadRate int64        // bytes per second of the seeder; 0 = no limit
	Image      string       // the image to deploy when there are several
	Args       netboot.Args // what nodes get on their kernel command line
	Kernel     string       // node's kernel; "" = Images/boot/vmlinuz
	Initramfs  string       // node's initramfs; "" = Images/boot/initramfs
	IPXE       string       // directory with iPXE binaries; "" = none
	Range      string       // DHCP range "A-B"; "" = from the interface
	ForceDHCP  bool
	Logger     *slog.Logger
	Out        io.Writer // what is served, for people

	// Poll and Settle are the catalog's times; 0 = its defaults.
	Poll, Settle time.Duration
	// Listening, if set, is called with the address of HTTP once it answers.
	Listening func(net.Addr)
}

// server is one run.
type server struct {
	Options
	folder  *durable.Folder // of the images
	locked  *os.File        // says that it is this server's
	catalog *catalog.Catalog
	nodes   *web.Nodes
	tracker *tracker.Tracker
	seeder  *swarm.Seeder
	listen  net.Listener
	netboot *netboot.Server
	began   time.Time
}

// Run serves until ctx ends, which is no error.
func Run(ctx context.Context, o Options) (err error) {
	if o.Kernel == "" {
		o.Kernel = filepath.Join(o.Images, "boot", "vmlinuz")
	}
	if o.Initramfs == "" {
		o.Initramfs = filepath.Join(o.Images, "boot", "initramfs")
	}
	if err := netboot.CheckArgs(o.Args); err != nil {
		return err
	}
	s := &server{Options: o}
	defer func() {
		if cerr := s.close(); err == nil {
			err = cerr
		}
	}()
	if err := s.open(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	s.announce()
	return s.run(ctx)
}

// open makes every part, netboot last: it answers machines at once.
func (s *server) open(ctx context.Context) error {
	var err error
	// Before anything in it is read: machines and their server get power together, and the file system of the images may be mounted last.
	if s.folder, err = durable.OpenFolder(s.Images); err != nil {
		return fmt.Errorf("image directory: %w", err)
	}
	if err := s.lock(); err != nil {
		return err
	}
	if s.catalog, err = catalog.New(catalog.Options{Dir: s.Images, Folder: s.folder, Logger: s.Logger, Poll: s.Poll, Settle: s.Settle,
		Remember: filepath.Join(s.Images, ".swarmboot", "checked.json"), Ready: s.ready, Gone: s.gone}); err != nil {
		return err
	}
	state := filepath.Join(s.Images, ".swarmboot", "nodes.json")
	if s.nodes, err = web.NewNodes(web.NodesOptions{File: state, Folder: s.folder, Logger: s.Logger}); err != nil {
		return err
	}
	s.tracker = tracker.New(tracker.Options{Logger: s.Logger})
	if s.seeder, err = swarm.NewSeeder(swarm.SeederOptions{Listen: s.BTListen, UploadRate: s.UploadRate, Logger: s.Logger}); err != nil {
		return fmt.Errorf("seeder: %w", err)
	}
	s.tracker.SetSeeder(s.seeder.Port())
	if s.listen, err = (&net.ListenConfig{}).Listen(ctx, "tcp", s.HTTP); err != nil {
		return fmt.Errorf("HTTP: %w", err)
	}
	if len(s.Interfaces) == 0 {
		return nil
	}
	if err := reachable(s.listen.Addr(), nil); err != nil {
		return err
	}
	s.netboot, err = netboot.Listen(ctx, netboot.Options{Interfaces: s.Interfaces, HTTPPort: s.port(), IPXEDir: s.IPXE,
		Range: s.Range, Force: s.ForceDHCP, Logger: s.Logger})
	if err != nil {
		return err
	}
	return reachable(s.listen.Addr(), s.netboot.Links())
}

// reachable says whether nodes can reach the HTTP server under the address of each link: scripts name it by that.
func reachable(a net.Addr, links []netboot.Link) error {
	t, ok := a.(*net.TCPAddr)
	if !ok || t.IP.IsUnspecified() {
		return nil
	}
	if t.IP.IsLoopback() {
		return fmt.Errorf("HTTP listens on %s, which no node can reach; leave the host out: --http :%d", t, t.Port)
	}
	for _, l := range links {
		if t.AddrPort().Addr().Unmap() != l.Addr {
			return fmt.Errorf("HTTP listens on %s, but nodes on interface %s are sent to %s; leave the host out: --http :%d", t, l.Interface, l.Addr, t.Port)
		}
	}
	return nil
}

func (s *server) port() int { return s.listen.Addr().(*net.TCPAddr).Port }

// run runs the parts until ctx ends or one breaks.
func (s *server) run(ctx context.Context) error {
	s.began = time.Now()
	g, ctx := errgroup.WithContext(ctx)
	hs := web.Server(s.handler(), s.Logger)
	g.Go(func() error {
		if err := hs.Serve(s.listen); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("HTTP: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.Background(), shutdownTime)
		defer cancel()
		if hs.Shutdown(end) != nil {
			hs.Close()
		}
		return nil
	})
	g.Go(func() error { return s.catalog.Run(ctx) })
	g.Go(func() error { s.nodes.Run(ctx); return nil })
	if s.netboot != nil {
		g.Go(func() error { return s.netboot.Run(ctx) })
	}
	if s.Listening != nil {
		s.Listening(s.listen.Addr())
	}
	return g.Wait()
}

// close ends what open began; run has ended by then. Its error says that what the server knows is lost.
func (s *server) close() error {
	if s.netboot != nil {
		s.netboot.Close()
	}
	if s.listen != nil {
		s.listen.Close()
	}
	if s.seeder != nil {
		s.seeder.Close()
	}
	var err error
	if s.nodes != nil {
		err = s.nodes.Save()
	}
	if s.locked != nil {
		s.locked.Close()
	}
	if s.folder != nil {
		s.folder.Close()
	}
	return err
}

// ready puts an image into the swarm.
func (s *server) ready(im *catalog.Image) error {
	if err := s.seeder.Add(im.Torrent, im.Payload); err != nil {
		return fmt.Errorf("seeder: %w", err)
	}
	s.tracker.Register(im.Metainfo.InfoHash, len(im.Metainfo.Pieces)/20)
	return nil
}

func (s *server) gone(im *catalog.Image) {
	s.tracker.Unregister(im.Metainfo.InfoHash)
	s.seeder.Remove(im.Metainfo.InfoHash)
}

func (s *server) handler() http.Handler {
	o := web.Options{
		Images: images{s}, Nodes: s.nodes, Tracker: s.tracker, Needed: s.needed, Script: s.script,
		Kernel: s.Kernel, Initramfs: s.Initramfs, Logger: s.Logger,
		Profile: func(node string, macs []string) ([]byte, error) {
			return profiles.JSON(s.profiles(), profiles.Name(s.profiles(), node, macs...))
		},
		Files:  s.openFile,
		Layout: func(name string) ([]byte, error) { return layouts.JSON(s.layouts(), name) },
	}
	if s.netboot != nil {
		o.Warnings = s.netboot.Warnings
		o.IPXE = func(name string) (fs.File, error) { return s.netboot.OpenIPXE(name) }
	}
	return web.Handler(o)
}

func (s *server) needed(image, node string) bool {
	if _, checking := s.catalog.Checking(image); checking {
		return true // the server was started again and knows nothing yet: nobody is sent away
	}
	im, ok := s.catalog.Get(image)
	if !ok {
		// Requests have queued since the port was opened: the first are answered before the catalog knows any image.
		return time.Since(s.began) < firstScan
	}
	return s.tracker.Needed(im.Metainfo.InfoHash, node)
}

// profiles is the directory with the nodes' profiles. It is read at every request: a change counts at once.
func (s *server) profiles() string { return filepath.Join(s.Images, "profiles") }

// layouts is the directory with the layouts of disks, read at every request too.
func (s *server) layouts() string { return filepath.Join(s.Images, "layouts") }

// openFile opens a file that profiles refer to, out of the directory files and nowhere else.
func (s *server) openFile(name string) (fs.File, error) {
	return os.OpenInRoot(filepath.Join(s.Images, "files"), name)
}

// announce says what is served and what is amiss.
func (s *server) announce() {
	out := s.Out
	if out == nil {
		out = io.Discard
	}
	fmt.Fprintf(out, "images in %s\n", s.Images)
	for _, url := range urls(s.listen.Addr()) {
		fmt.Fprintf(out, "status page %s\n", url)
	}
	fmt.Fprintf(out, "seeder on port %d\n", s.seeder.Port())
	fmt.Fprintf(out, "machines known as deployed, which are left alone: %d\n", s.nodes.CountDeployed())
	if _, err := profiles.CheckDir(s.profiles()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.Logger.Warn("nodes with these profiles are not deployed", "error", err)
	}
	if _, err := layouts.CheckDir(s.layouts()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.Logger.Warn("nodes with these layouts are not deployed", "error", err)
	}
	if s.netboot == nil {
		fmt.Fprintln(out, "no DHCP, no TFTP (--no-netboot)")
		return
	}
	for _, l := range s.netboot.Links() {
		fmt.Fprintf(out, "interface %s: DHCP as %s, addresses %s to %s\n", l.Interface, l.Addr, l.First, l.Last)
	}
	for _, f := range []string{s.Kernel, s.Initramfs} {
		if _, err := os.Stat(f); err != nil {
			s.Logger.Warn("nodes cannot boot until this file is there", "error", err)
		}
	}
	if dir := filepath.Join(s.Images, ".swarmboot"); !writable(dir) {
		s.Logger.Warn("which nodes are deployed and which images are right cannot be kept for a restart: directory not writable", "dir", dir)
	}
}

// writable makes the directory for the server's state.
func writable(dir string) bool {
	if err := durable.MkdirAll(dir); err != nil {
		return false
	}
	f, err := os.CreateTemp(dir, ".probe-")
	if err != nil {
		return false
	}
	f.Close()
	return os.Remove(f.Name()) == nil
}

// urls lists where the HTTP server can be reached from other machines.
func urls(a net.Addr) []string {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return nil
	}
	if !t.IP.IsUnspecified() {
		return []string{"http://" + t.String() + "/"}
	}
	var out []string
	addrs, _ := net.InterfaceAddrs() // for the reader's comfort only
	for _, a := range addrs {
		ip, _, err := net.ParseCIDR(a.String())
		if err == nil && ip.To4() != nil && !strings.HasPrefix(ip.String(), "127.") {
			out = append(out, fmt.Sprintf("http://%s:%d/", ip, t.Port))
		}
	}
	if out == nil {
		out = []string{fmt.Sprintf("http://127.0.0.1:%d/", t.Port)}
	}
	return out
}
