// Package netup brings a node's network up: every Ethernet interface is tried, and the first that
// has a link and gets a lease (DHCP, RFC 2131) is used from then on; its lease is kept renewed.
package netup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"swarmboot/internal/pause"
)

// The default waits.
const (
	// DefaultCarrier is long because LACP and spanning tree keep a port dark for 30 to 70 seconds.
	DefaultCarrier = 90 * time.Second
	DefaultDHCP    = 2 * time.Minute

	// headStart is what the interface that the firmware booted from has over the others: longer than the 30 s that a
	// switch port with spanning tree stays dark after its link came up, or another network would win.
	headStart = 40 * time.Second
	// carrierPoll is how often the list of interfaces and their links is looked at.
	carrierPoll = 200 * time.Millisecond
	// bringUpPause is between two attempts to bring an interface up; each of them may load the card's firmware.
	bringUpPause = 2 * time.Second
)

// Options say how to bring the network up. The zero value is fit for use.
type Options struct {
	NIC     string                           // name or MAC address of the only interface to use; "" = all
	First   net.HardwareAddr                 // the interface that the firmware booted from, tried first
	Carrier time.Duration                    // longest wait for a link; 0 = DefaultCarrier
	DHCP    time.Duration                    // longest wait for a lease on an interface with a link; 0 = DefaultDHCP
	Resolv  string                           // "" = /etc/resolv.conf
	Log     func(format string, args ...any) `json:"-"` // told of every step; may be called at the same time

	// Link is told of an interface when it was brought up, and again when it has a carrier. It must return at once: DHCP waits for it.
	Link func(name string, mac net.HardwareAddr, carrier bool) `json:"-"`

	// In tests:
	renewAfter time.Duration            // renew earlier than the lease says
	bringUp    func(netlink.Link) error // nil = netlink.LinkSetUp
}

// Net is a configured network. Its lease is renewed until Close.
type Net struct {
	Interface string
	MAC       net.HardwareAddr
	Addr      net.IPNet
	Gateway   net.IP // nil: none
	DNS       []net.IP
	Server    net.IP // next-server of the lease, or else the DHCP server
	BootFile  string

	stop context.CancelFunc
	done chan struct{}
}

// NICError is what happened on one interface.
type NICError struct {
	Interface string
	MAC       net.HardwareAddr
	Err       error
}

func (e *NICError) Error() string { return fmt.Sprintf("%s (%s): %v", e.Interface, e.MAC, e.Err) }

// Unwrap returns the cause.
func (e *NICError) Unwrap() error { return e.Err }

// Causes of a NICError.
var (
	ErrNoCarrier = errors.New("no carrier: no cable, or the switch port is down")
	ErrNoOffer   = errors.New("no offer from a DHCP server")
)

// ErrNoNIC says that no usable Ethernet interface came up in the time for it.
var ErrNoNIC = errors.New("no network interface")

// Up tries every interface, those too that appear meanwhile, until one has a lease, and configures that
// one: address, routes, name servers. The error names each interface and what happened on it.
func Up(ctx context.Context, o Options) (*Net, error) {
	o = o.withDefaults()
	u := &up{o: o, started: time.Now(), won: make(chan candidate, 1), failed: map[string]error{}, known: map[int]bool{}}
	ctx, cancel := context.WithCancel(ctx)
	defer u.wg.Wait()
	defer cancel()
	tick := time.NewTicker(carrierPoll)
	defer tick.Stop()
	for {
		u.tryNew(ctx)
		select {
		case c := <-u.won:
			return o.use(c)
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
		if u.hopeless() {
			return nil, u.err()
		}
	}
}

func (o Options) withDefaults() Options {
	if o.Carrier == 0 {
		o.Carrier = DefaultCarrier
	}
	if o.DHCP == 0 {
		o.DHCP = DefaultDHCP
	}
	if o.Resolv == "" {
		o.Resolv = "/etc/resolv.conf"
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	if o.Link == nil {
		o.Link = func(string, net.HardwareAddr, bool) {}
	}
	if o.bringUp == nil {
		o.bringUp = netlink.LinkSetUp
	}
	return o
}

// up is one run of Up.
type up struct {
	o       Options
	started time.Time
	wg      sync.WaitGroup
	won     chan candidate
	known   map[int]bool // by index: a card that was gone has another one when it is back

	mu      sync.Mutex
	running int
	failed  map[string]error // by interface
}

// candidate is an interface with a lease.
type candidate struct {
	link  netlink.Link
	lease *lease
}

// tryNew starts a try of each interface that it has not seen before.
func (u *up) tryNew(ctx context.Context) {
	links, err := netlink.LinkList()
	if err != nil {
		u.o.Log("list network interfaces: %v", err)
		return
	}
	first := slices.ContainsFunc(links, func(l netlink.Link) bool { return u.isFirst(l) })
	for _, l := range links {
		index := l.Attrs().Index
		if u.known[index] || !isEthernet(l) || !u.allowed(l) {
			continue
		}
		u.known[index] = true
		u.mu.Lock()
		u.running++
		u.mu.Unlock()
		delay := time.Duration(0)
		if first && !u.isFirst(l) {
			delay = headStart
		}
		u.wg.Add(1)
		go func() {
			defer u.wg.Done()
			u.try(ctx, l, delay)
		}()
	}
}

func (u *up) isFirst(l netlink.Link) bool {
	return len(u.o.First) > 0 && slices.Equal(l.Attrs().HardwareAddr, u.o.First)
}

func (u *up) allowed(l netlink.Link) bool {
	a := l.Attrs()
	return u.o.NIC == "" || u.o.NIC == a.Name || strings.EqualFold(u.o.NIC, a.HardwareAddr.String())
}

// isEthernet says whether a link is a network card (or a virtual cable) and not a bridge, bond, VLAN, tunnel or loopback.
func isEthernet(l netlink.Link) bool {
	a := l.Attrs()
	return (l.Type() == "device" || l.Type() == "veth") && a.EncapType == "ether" && len(a.HardwareAddr) == 6 && a.Flags&net.FlagLoopback == 0
}

func (u *up) try(ctx context.Context, l netlink.Link, delay time.Duration) {
	err := u.tryLink(ctx, l, delay)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.running--
	if err != nil && ctx.Err() == nil {
		a := l.Attrs()
		u.failed[a.Name] = &NICError{a.Name, a.HardwareAddr, err}
		u.o.Log("%v", u.failed[a.Name])
	}
}

func (u *up) tryLink(ctx context.Context, l netlink.Link, delay time.Duration) error {
	if err := u.setUp(ctx, l); err != nil {
		return fmt.Errorf("bring up: %w", err)
	}
	u.o.Link(l.Attrs().Name, l.Attrs().HardwareAddr, false)
	if err := u.waitCarrier(ctx, l); err != nil {
		return err
	}
	u.o.Link(l.Attrs().Name, l.Attrs().HardwareAddr, true)
	u.o.Log("%s: link up", l.Attrs().Name)
	if err := pause.For(ctx, delay); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, u.o.DHCP)
	defer cancel()
	lease, err := u.o.acquire(ctx, l.Attrs().Name, l.Attrs().HardwareAddr)
	if err != nil {
		return err
	}
	select {
	case u.won <- candidate{l, lease}:
	default: // another was faster
	}
	return nil
}

// setUp and waitCarrier go on until the time for a link is over, counted from the start of Up, whatever is wrong: a card whose firmware
// is not there, or that went away, must not end Up before the drivers have found the others.

func (u *up) setUp(ctx context.Context, l netlink.Link) error {
	ctx, cancel := context.WithDeadline(ctx, u.started.Add(u.o.Carrier))
	defer cancel()
	for try := 1; ; try++ {
		err := u.o.bringUp(l)
		if err == nil {
			return nil
		}
		if try == 1 {
			u.o.Log("%s: bring up: %v; trying again", l.Attrs().Name, err)
		}
		if pause.For(ctx, bringUpPause) != nil {
			return err
		}
	}
}

func (u *up) waitCarrier(ctx context.Context, l netlink.Link) error {
	ctx, cancel := context.WithDeadline(ctx, u.started.Add(u.o.Carrier))
	defer cancel()
	told := false
	for {
		now, err := netlink.LinkByIndex(l.Attrs().Index)
		if err == nil && now.Attrs().RawFlags&iffLowerUp != 0 {
			return nil
		}
		if err != nil && !told {
			told = true
			u.o.Log("%s: look at link: %v; trying again", l.Attrs().Name, err)
		}
		if pause.For(ctx, carrierPoll) == nil {
			continue
		}
		if err != nil {
			return fmt.Errorf("look at link: %w", err)
		}
		return fmt.Errorf("%w (waited %s)", ErrNoCarrier, u.o.Carrier)
	}
}

// iffLowerUp is IFF_LOWER_UP of linux/if.h: the driver sees a carrier.
const iffLowerUp = 1 << 16

// hopeless says whether every try is over and no further interface is waited for. (A try that fails before the time for a link
// is over had a link, and nobody who answered on it.)
func (u *up) hopeless() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.running == 0 && len(u.won) == 0 && (len(u.failed) > 0 || time.Since(u.started) > u.o.Carrier)
}

func (u *up) err() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.failed) == 0 {
		if u.o.NIC != "" {
			return fmt.Errorf("%w named %s after %s", ErrNoNIC, u.o.NIC, u.o.Carrier)
		}
		return fmt.Errorf("%w after %s", ErrNoNIC, u.o.Carrier)
	}
	names := make([]string, 0, len(u.failed))
	for n := range u.failed {
		names = append(names, n)
	}
	slices.Sort(names)
	var errs []error
	for _, n := range names {
		errs = append(errs, u.failed[n])
	}
	return errors.Join(errs...)
}

// Close stops renewing the lease. The address stays: a node that is about to jump into another kernel has no use
// for taking it down, and the server may know the node by it.
func (n *Net) Close() error {
	n.stop()
	<-n.done
	return nil
}
