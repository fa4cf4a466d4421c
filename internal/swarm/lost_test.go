package swarm

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestLostUpstreams(t *testing.T) {
	a, b, c := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:1"), netip.MustParseAddrPort("10.0.0.3:1")
	inbound := netip.MustParseAddrPort("10.0.0.2:40000")
	now := time.Now()
	u := upstreams{}
	u.named([]netip.AddrPort{a, b}, now)
	if lost := u.lost(nil, now.Add(dialGrace/2)); len(lost) != 0 {
		t.Errorf("%v are lost before they were dialed", lost)
	}
	now = now.Add(dialGrace)
	u.named([]netip.AddrPort{a, b, c}, now)
	if lost := u.lost([]netip.AddrPort{inbound}, now); len(lost) != 1 || lost[0] != a {
		t.Errorf("lost are %v, want %v", lost, a)
	}
	if lost := u.lost(nil, now); len(lost) != 1 {
		t.Errorf("lost are %v as soon as a connection has ended", lost)
	}
	if lost := u.lost(nil, now.Add(redialWait)); len(lost) != 2 {
		t.Errorf("lost are %v, want the one that was connected too", lost)
	}
	u.lost([]netip.AddrPort{a, b}, now)
	u.refuses(a)
	if lost := u.lost([]netip.AddrPort{b}, now); len(lost) != 0 {
		t.Errorf("lost are %v, of which one was connected", lost)
	}
	if u.refuses(a); !slices.Equal(u.lost([]netip.AddrPort{b}, now), []netip.AddrPort{a}) {
		t.Errorf("it is not lost that refuses a connection: %v", u)
	}
	u.named([]netip.AddrPort{c}, now)
	if lost := u.lost([]netip.AddrPort{c}, now.Add(time.Hour)); len(lost) != 0 || len(u) != 1 {
		t.Errorf("lost are %v of %v", lost, u)
	}
}
