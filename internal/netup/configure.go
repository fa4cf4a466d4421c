package netup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// use configures the interface that won and starts to keep its lease.
func (o Options) use(c candidate) (*Net, error) {
	if err := o.configure(c.link, c.lease); err != nil {
		a := c.link.Attrs()
		return nil, &NICError{a.Name, a.HardwareAddr, err}
	}
	a, l := c.link.Attrs(), c.lease
	n := &Net{
		Interface: a.Name, MAC: a.HardwareAddr, Addr: l.addr(), Gateway: l.gateway(), DNS: l.ACK.DNS(),
		Server: l.server(), BootFile: l.bootFile(), done: make(chan struct{}),
	}
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	go n.keep(ctx, o, c)
	return n, nil
}

// configure gives the link the lease's address, in place of other IPv4 addresses, and sets routes and name servers.
func (o Options) configure(link netlink.Link, l *lease) error {
	want := l.addr()
	old, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	// The old addresses go first: with the first address of a network the kernel takes away all others of that network
	// (net.ipv4.conf.*.promote_secondaries is off), the new one too.
	for _, a := range old {
		if !a.Equal(netlink.Addr{IPNet: &want}) {
			if err := netlink.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return fmt.Errorf("remove address %s: %w", a.IPNet, err)
			}
		}
	}
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: &want}); err != nil {
		return fmt.Errorf("set address %s: %w", &want, err)
	}
	if err := setRoutes(link, l, want); err != nil {
		return err
	}
	return o.writeResolv(l)
}

// setRoutes sets the routes of option 121 and only those where it is there (RFC 3442), else the default route.
func setRoutes(link netlink.Link, l *lease, local net.IPNet) error {
	var routes []netlink.Route
	for _, r := range l.ACK.ClasslessStaticRoute() {
		routes = append(routes, route(link, r.Dest, r.Router, local))
	}
	if gw := l.gateway(); len(routes) == 0 && gw != nil {
		routes = append(routes, route(link, &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, gw, local))
	}
	for _, r := range routes {
		if err := netlink.RouteReplace(&r); err != nil {
			return fmt.Errorf("set route to %s via %s: %w", r.Dst, r.Gw, err)
		}
	}
	return nil
}

// route is a route through a router, or over the link itself when that is 0.0.0.0. A router outside the local
// network, as some clouds have it, is reached directly.
func route(link netlink.Link, dst *net.IPNet, router net.IP, local net.IPNet) netlink.Route {
	r := netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst}
	if router == nil || router.IsUnspecified() {
		r.Scope = netlink.SCOPE_LINK
		return r
	}
	r.Gw = router
	if !local.Contains(router) {
		r.Flags = int(netlink.FLAG_ONLINK)
	}
	return r
}

func (o Options) writeResolv(l *lease) error {
	var b strings.Builder
	if d := l.ACK.DomainName(); d != "" && !strings.ContainsAny(d, " \t\r\n\x00") {
		fmt.Fprintf(&b, "search %s\n", d)
	}
	for _, ip := range l.ACK.DNS() {
		fmt.Fprintf(&b, "nameserver %s\n", ip)
	}
	if err := os.WriteFile(o.Resolv, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("write name servers: %w", err)
	}
	return nil
}
