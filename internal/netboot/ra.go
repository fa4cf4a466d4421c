package netboot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
)

// Times of router advertisements. iPXE solicits when it opens the interface;
// the unsolicited ones are for a solicitation lost while the port came up.
const (
	raInterval = 10 * time.Second
	raMinGap   = 3 * time.Second        // between two to all nodes (RFC 4861, section 10: MIN_DELAY_BETWEEN_RAS)
	raMaxDelay = 500 * time.Millisecond // of an answer, so that routers do not answer all at once (MAX_RA_DELAY_TIME)
)

// advertiser sends IPv6 router advertisements that announce no router
// (lifetime 0), no prefix and no DHCPv6: all they say is that there is nothing
// to wait for. iPXE waits 16 s for DHCP while IPv6 is undecided, 3 s after.
type advertiser struct {
	conn *ipv6.PacketConn
	raw  *icmp.PacketConn
	ifi  *net.Interface
	log  *slog.Logger
}

// newAdvertiser opens the socket. It is an error if this host routes IPv6 on
// the interface: an advertisement from it with lifetime 0 would withdraw the
// default route that its own router daemon announces.
func newAdvertiser(name string, log *slog.Logger) (*advertiser, error) {
	b, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + name + "/forwarding")
	if err != nil {
		return nil, fmt.Errorf("no IPv6 on interface %s: %w", name, err)
	}
	if strings.TrimSpace(string(b)) != "0" {
		return nil, fmt.Errorf("this host forwards IPv6 on interface %s: its own router daemon has to advertise", name)
	}
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	raw, err := icmp.ListenPacket("ip6:ipv6-icmp", "::%"+name)
	if err != nil {
		return nil, err
	}
	a := &advertiser{conn: raw.IPv6PacketConn(), raw: raw, ifi: ifi, log: log}
	if err := a.setup(); err != nil {
		raw.Close()
		return nil, err
	}
	return a, nil
}

// setup: hop limit 255 as RFC 4861, section 6.1 demands; only router
// solicitations come in, and only from this interface.
func (a *advertiser) setup() error {
	var f ipv6.ICMPFilter
	f.SetAll(true)
	f.Accept(ipv6.ICMPTypeRouterSolicitation)
	return errors.Join(
		a.conn.SetMulticastHopLimit(255),
		a.conn.SetHopLimit(255),
		a.conn.SetMulticastLoopback(false),
		a.conn.SetMulticastInterface(a.ifi),
		a.conn.SetICMPFilter(&f),
		a.conn.SetControlMessage(ipv6.FlagInterface|ipv6.FlagHopLimit, true),
		a.conn.JoinGroup(a.ifi, &net.UDPAddr{IP: net.IPv6linklocalallrouters}),
	)
}

// run advertises now, every raInterval, and when solicited, until ctx ends.
func (a *advertiser) run(ctx context.Context) error {
	adv, cancel := context.WithCancel(ctx)
	solicited := make(chan netip.Addr)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cancel()
		a.read(adv, solicited)
	}()
	advertise(adv, solicited, a.send)
	a.close()
	<-done
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("router advertisements on interface %s: socket closed", a.ifi.Name)
}

// advertise calls send, with the address to send to, until ctx ends: for all nodes now and every raInterval, and for each that solicits
// (RFC 4861, section 6.2.6). One that solicits without an address is answered through all nodes, at most every raMinGap.
func advertise(ctx context.Context, solicited <-chan netip.Addr, send func(to netip.Addr)) {
	var last, next time.Time
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			send(allNodes)
			last = time.Now()
			next = last.Add(raInterval)
			t.Reset(raInterval)
		case from := <-solicited:
			delay := rand.N(raMaxDelay)
			if from.IsLinkLocalUnicast() { // to another address the kernel would choose a source that is not link-local, too
				time.AfterFunc(delay, func() { send(from) })
				continue
			}
			at := time.Now().Add(delay)
			if early := last.Add(raMinGap); at.Before(early) {
				at = early
			}
			if at.Before(next) {
				next = at
				t.Reset(time.Until(at))
			}
		}
	}
}

// allNodes is ff02::1.
var allNodes = netip.IPv6LinkLocalAllNodes()

// read tells solicited of router solicitations until the socket is closed or ctx ends.
func (a *advertiser) read(ctx context.Context, solicited chan<- netip.Addr) {
	buf := make([]byte, 1500)
	for {
		_, cm, from, err := a.conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(tick) // a network that is down for the moment
			continue
		}
		if cm == nil || cm.IfIndex != a.ifi.Index || cm.HopLimit != 255 {
			continue
		}
		addr, _ := netip.AddrFromSlice(from.(*net.IPAddr).IP)
		select {
		case solicited <- addr:
		case <-ctx.Done():
			return
		}
	}
}

func (a *advertiser) send(dst netip.Addr) {
	cm := &ipv6.ControlMessage{IfIndex: a.ifi.Index, HopLimit: 255}
	to := &net.IPAddr{IP: dst.AsSlice(), Zone: a.ifi.Name}
	if _, err := a.conn.WriteTo(advertisement(a.ifi.HardwareAddr), cm, to); err != nil && !errors.Is(err, net.ErrClosed) {
		// Until duplicate address detection is over there is no address to send from.
		a.log.Debug("router advertisement not sent", "to", dst, "error", err)
	}
}

func (a *advertiser) close() { a.raw.Close() }

// advertisement is the message of RFC 4861, section 4.2; the kernel fills in the checksum.
func advertisement(mac net.HardwareAddr) []byte {
	b := make([]byte, 16, 24)
	b[0] = byte(ipv6.ICMPTypeRouterAdvertisement)
	// Hop limit, flags, router lifetime, reachable and retransmission time: all 0, unspecified.
	if len(mac) == 6 {
		b = append(b, 1, 1) // source link-layer address, in units of 8 octets
		b = append(b, mac...)
	}
	return b
}
