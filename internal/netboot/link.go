package netboot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// receiveBuffer is how many bytes of requests may wait. A thousand machines that are switched on together ask in the same moment: with
// the kernel's default of 212,992 of 7,000 requests within 54 ms 1,640 were answered, though that took no longer than 56 ms, and the
// others had to ask again. A request takes up to 1,280 bytes; only those that wait take memory.
const receiveBuffer = 16 << 20

// link is one interface that is served.
type link struct {
	Link
	index   int
	subnet  netip.Prefix
	gateway netip.Addr // the host's own default gateway when it is in the subnet
	port    int        // of HTTP
	force   bool
	files   *bootFiles
	pool    *pool
	log     *slog.Logger

	dhcp *net.UDPConn
	tftp *net.UDPConn
	ra   *advertiser

	arp    *arp
	probes sync.WaitGroup         // requests that wait for arp
	served []netip.Addr           // addresses of all links: two of them may be at one network
	silent atomic.Pointer[string] // why nothing is answered: another DHCP server is there
	gone   atomic.Pointer[string] // why nothing is answered: the interface is not there
}

// newLink reads the interface's address and makes its pool.
func newLink(name string, o Options, files *bootFiles) (*link, error) {
	nl, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	subnet, err := address(nl)
	if err != nil {
		return nil, err
	}
	l := &link{index: nl.Attrs().Index, subnet: subnet, port: o.HTTPPort, force: o.Force, files: files,
		log: o.Logger.With("interface", name)}
	l.Interface, l.Addr = name, subnet.Addr()
	if o.Range == "" {
		l.First, l.Last, err = subnetRange(subnet)
	} else {
		l.First, l.Last, err = parseRange(o.Range, subnet)
	}
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	l.gateway = gateway(nl, subnet)
	except, err := ownAddresses()
	if err != nil {
		return nil, err
	}
	if l.gateway.IsValid() {
		except = append(except, l.gateway)
	}
	l.pool = newPool(l.First, l.Last, except...)
	return l, nil
}

// address is the first IPv4 address of the interface that is not link-local.
func address(nl netlink.Link) (netip.Prefix, error) {
	name := nl.Attrs().Name
	addrs, err := addresses(nl)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("addresses of interface %s: %w", name, err)
	}
	for _, a := range addrs {
		if !a.Addr().IsLinkLocalUnicast() {
			return a, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("interface %s has no IPv4 address; give it one, for example: ip link set %s up; ip address add 192.168.77.1/24 dev %s", name, name, name)
}

// ownAddresses are those of this host, on whichever interface: it does not answer its own probes.
func ownAddresses() ([]netip.Addr, error) {
	addrs, err := addresses(nil)
	if err != nil {
		return nil, fmt.Errorf("addresses of this host: %w", err)
	}
	var own []netip.Addr
	for _, a := range addrs {
		own = append(own, a.Addr())
	}
	return own, nil
}

// addresses are the IPv4 addresses of the interface, each with the length of its subnet's prefix; those of all interfaces if it is nil.
func addresses(nl netlink.Link) ([]netip.Prefix, error) {
	list, err := netlink.AddrList(nl, netlink.FAMILY_V4)
	if err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for _, a := range list {
		ones, _ := a.Mask.Size()
		if ip, ok := netip.AddrFromSlice(a.IP.To4()); ok {
			out = append(out, netip.PrefixFrom(ip, ones))
		}
	}
	return out, nil
}

// gateway is the default gateway of this host when nodes can reach it too.
func gateway(nl netlink.Link, subnet netip.Prefix) netip.Addr {
	routes, err := netlink.RouteList(nl, netlink.FAMILY_V4)
	if err != nil {
		return netip.Addr{} // nodes need no gateway to reach this server
	}
	for _, r := range routes {
		gw, ok := netip.AddrFromSlice(r.Gw.To4())
		isDefault := r.Dst == nil || r.Dst.IP.IsUnspecified()
		if ok && isDefault && subnet.Contains(gw) {
			return gw
		}
	}
	return netip.Addr{}
}

func (l *link) base() string { return fmt.Sprintf("http://%s:%d", l.Addr, l.port) }

// open opens the sockets, all bound to the interface.
func (l *link) open() error {
	var err error
	if l.dhcp, err = l.listen(netip.AddrPortFrom(netip.IPv4Unspecified(), dhcpv4.ServerPort)); err != nil {
		return fmt.Errorf("DHCP on interface %s: %w", l.Interface, listenHint(err))
	}
	if l.files != nil {
		if l.tftp, err = l.listen(netip.AddrPortFrom(l.Addr, 69)); err != nil {
			return fmt.Errorf("TFTP on interface %s: %w", l.Interface, listenHint(err))
		}
	}
	if l.arp, err = newARP(l.Interface); err != nil {
		l.log.Warn("addresses are handed out without a look for who has them", "error", err)
	}
	if l.ra, err = newAdvertiser(l.Interface, l.log); err != nil {
		// Only a delay: without IPv6 there is nothing to advertise.
		l.log.Warn("no router advertisements: iPXE will wait for them at every boot", "error", err)
	}
	return nil
}

func (l *link) close() {
	if l.dhcp != nil {
		l.dhcp.Close()
	}
	if l.tftp != nil {
		l.tftp.Close()
	}
	if l.ra != nil {
		l.ra.close()
	}
	if l.arp != nil {
		l.arp.close()
	}
}

// listen opens a UDP socket that hears and speaks on the interface only. It
// does not share its port: that a DHCP server of this host has it must show.
func (l *link) listen(addr netip.AddrPort) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: l.control(func(fd int) error {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) // the default does, if it must
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
	})}
	c, err := lc.ListenPacket(context.Background(), "udp4", addr.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// control keeps a new socket to the interface and lets set do the rest.
func (l *link) control(set func(fd int) error) func(network, address string, rc syscall.RawConn) error {
	return func(_, _ string, rc syscall.RawConn) error {
		var err error
		ctlErr := rc.Control(func(fd uintptr) { err = errors.Join(unix.BindToDevice(int(fd), l.Interface), set(int(fd))) })
		return errors.Join(ctlErr, err)
	}
}

// listenHint adds what to do about the usual reasons.
func listenHint(err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%w: another server of this host has the port (dnsmasq? libvirt? see: ss -lunp)", err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: it needs root; --no-netboot runs without", err)
	}
	return err
}
