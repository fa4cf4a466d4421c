package swarm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/anacrolix/torrent"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

const (
	dialTimeout      = 3 * time.Second  // on a LAN a peer answers at once or is gone
	keepAlivePeriod  = 10 * time.Second // of an idle TCP connection
	unackedTimeout   = 20 * time.Second // data that a dead peer does not acknowledge
	burstBytes       = chunkMost        // of the upload rate limit: the least that lets one chunk pass
	maxConnections   = 400              // for one image; a seeder of ordinary clients needs many
	keepAliveMessage = 30 * time.Second
)

// client is the library's client on a socket of ours: dials come from the listen address, dead
// peers are noticed by TCP itself, and both address families share one port.
type client struct {
	*torrent.Client
	listener net.Listener
	port     int
}

func listenTCP(listen string) (net.Listener, error) {
	if listen == "" {
		listen = ":0"
	}
	lc := net.ListenConfig{
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: keepAlivePeriod, Interval: keepAlivePeriod / 2, Count: 2,
		},
		Control: setUserTimeout,
	}
	l, err := lc.Listen(context.Background(), "tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("listen for peers: %w", err)
	}
	return l, nil
}

// setUserTimeout ends a connection whose peer went away without a word while data is under way.
func setUserTimeout(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		// An old kernel without the option still has the keep-alives.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unackedTimeout/time.Millisecond))
	})
}

// peerDialer connects from ip, or from where the kernel likes if that is unspecified.
func peerDialer(ip net.IP) *net.Dialer {
	d := &net.Dialer{
		Timeout:       dialTimeout,
		FallbackDelay: -1,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: keepAlivePeriod, Interval: keepAlivePeriod / 2, Count: 2,
		},
		Control: setUserTimeout,
	}
	if len(ip) != 0 && !ip.IsUnspecified() {
		d.LocalAddr = &net.TCPAddr{IP: ip}
	}
	return d
}

// newClient starts the library.
func newClient(listen, prefix string, uploadRate int64, cb torrent.Callbacks, ev connEvents, log *slog.Logger) (*client, error) {
	l, err := listenTCP(listen)
	if err != nil {
		return nil, err
	}
	cfg := clientConfig(prefix, uploadRate, cb, log)
	cl, err := torrent.NewClient(cfg)
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("start the BitTorrent client: %w", err)
	}
	addr := l.Addr().(*net.TCPAddr)
	cl.AddDialer(torrent.NetworkDialer{Network: "tcp", Dialer: connDialer{peerDialer(addr.IP), ev}})
	cl.AddListener(peerListener{l, ev.timed})
	return &client{Client: cl, listener: l, port: addr.Port}, nil
}

// clientConfig departs from the library's defaults where they do not fit a LAN with a topology of
// its own; README.md says what each one did.
func clientConfig(prefix string, uploadRate int64, cb torrent.Callbacks, log *slog.Logger) *torrent.ClientConfig {
	cfg := torrent.NewDefaultClientConfig()
	cfg.PeerID = newPeerID(prefix)
	cfg.Bep20 = prefix
	cfg.ExtendedHandshakeClientVersion = "swarmboot"
	cfg.Slogger = quiet(log)

	// Peers come from our tracker alone, over TCP, on the socket that newClient opened.
	cfg.DisableTCP, cfg.DisableUTP = true, true
	cfg.NoDHT, cfg.DisablePEX, cfg.NoDefaultPortForwarding = true, true, true
	cfg.DisableTrackers, cfg.DisableWebtorrent, cfg.DisableWebseeds = true, true, true
	cfg.HeaderObfuscationPolicy = torrent.HeaderObfuscationPolicy{Preferred: false, RequirePreferred: true}

	// Every torrent brings its own storage. Left to itself the library makes a data base in the working directory.
	cfg.DefaultStorage = payloadStorage{}

	cfg.Seed = true
	cfg.DropMutuallyCompletePeers = true
	cfg.DropDuplicatePeerIds = true
	cfg.MaxUnverifiedBytes = 0
	cfg.StealRequestGrace = time.Second
	cfg.DialRateLimiter = rate.NewLimiter(rate.Inf, 1)
	cfg.NominalDialTimeout, cfg.MinDialTimeout = dialTimeout, dialTimeout
	cfg.HandshakesTimeout = dialTimeout
	cfg.KeepAliveTimeout = keepAliveMessage
	cfg.EstablishedConnsPerTorrent = maxConnections
	if uploadRate > 0 {
		cfg.UploadRateLimiter = rate.NewLimiter(rate.Limit(uploadRate), burstBytes)
	}

	cfg.Callbacks = cb
	return cfg
}

func newPeerID(prefix string) string {
	const letters = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
	id := make([]byte, 20-len(prefix))
	rand.Read(id) // never fails
	for i := range id {
		id[i] = letters[int(id[i])%len(letters)]
	}
	return prefix + string(id)
}

// close ends all connections. The listener goes last: the library's accept loop ends only when it
// sees both.
func (c *client) close() error {
	errs := c.Close()
	if err := c.listener.Close(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// quiet passes on the library's warnings and errors alone.
func quiet(log *slog.Logger) *slog.Logger {
	return slog.New(quietHandler{log.Handler()})
}

type quietHandler struct{ slog.Handler }

func (h quietHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && h.Handler.Enabled(ctx, l)
}

// Handle leaves out what the library says of a store that was closed under it: of a session that ends, dozens of lines above the
// one that tells why.
func (h quietHandler) Handle(ctx context.Context, r slog.Record) error {
	closed := strings.Contains(r.Message, errClosed.Error())
	r.Attrs(func(a slog.Attr) bool {
		closed = closed || strings.Contains(a.Value.String(), errClosed.Error())
		return !closed
	})
	if closed {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h quietHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return quietHandler{h.Handler.WithAttrs(a)}
}

func (h quietHandler) WithGroup(name string) slog.Handler {
	return quietHandler{h.Handler.WithGroup(name)}
}
