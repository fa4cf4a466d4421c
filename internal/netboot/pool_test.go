package netboot

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func testMAC(n int) net.HardwareAddr {
	return binary.BigEndian.AppendUint32([]byte{0x52, 0x54}, uint32(n))
}

func TestPoolGivesEveryAddressOnce(t *testing.T) {
	p := newPool(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.14"), netip.MustParseAddr("10.0.0.3"))
	now := time.Unix(1000, 0)
	p.now = func() time.Time { return now }
	seen := map[netip.Addr]int{}
	for i := range 13 {
		a, err := p.offer(testMAC(i), netip.Addr{})
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := seen[a]; twice || a == netip.MustParseAddr("10.0.0.3") {
			t.Errorf("%s was given twice or to a node at all", a)
		}
		seen[a] = i
		if !p.take(testMAC(i), a) {
			t.Errorf("%s was offered and then refused", a)
		}
	}
	if _, err := p.offer(testMAC(13), netip.Addr{}); !errors.Is(err, errPoolFull) {
		t.Errorf("a full pool: %v", err)
	}
	now = now.Add(leaseTime - time.Second)
	if _, err := p.offer(testMAC(13), netip.Addr{}); !errors.Is(err, errPoolFull) {
		t.Errorf("before the leases end: %v", err)
	}
	for a, i := range seen { // one renews, the others are gone
		if i == 5 && !p.take(testMAC(5), a) {
			t.Error("renewal refused")
		}
	}
	now = now.Add(time.Minute)
	for i := 20; i < 32; i++ {
		a, err := p.offer(testMAC(i), netip.Addr{})
		if err != nil || seen[a] == 5 {
			t.Errorf("after the leases ended: %s, %v", a, err)
		}
	}
	if len(p.byMAC) > 14 || len(p.leases) > 14 {
		t.Errorf("pool grew: %d machines, %d addresses", len(p.byMAC), len(p.leases))
	}
}

func TestPoolIsStableAcrossRestarts(t *testing.T) {
	fresh := func() *pool { return newPool(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.3.254")) }
	p := fresh()
	same := 0
	for i := range 60 {
		a, err := p.offer(testMAC(i), netip.Addr{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := fresh().offer(testMAC(i), netip.Addr{})
		if err != nil {
			t.Fatal(err)
		}
		if a == b {
			same++
		}
	}
	if same < 50 {
		t.Errorf("only %d of 60 machines would get the same address", same)
	}
	wish := netip.MustParseAddr("10.0.2.77")
	if a, err := fresh().offer(testMAC(1), wish); err != nil || a != wish {
		t.Errorf("the address wished for is free, but %s was given (%v)", a, err)
	}
	if a, err := fresh().offer(testMAC(1), netip.MustParseAddr("172.16.0.1")); err != nil || a == netip.MustParseAddr("172.16.0.1") {
		t.Errorf("an address out of range was given: %s, %v", a, err)
	}
}

// An address that was found in use is kept for the one who has it, and nobody else gets it for a while, or the address that one has besides.
func TestPoolKeepsAddressInUseForOwner(t *testing.T) {
	first, last := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	owner, other, third := testMAC(1), testMAC(2), testMAC(3)
	for _, test := range []struct {
		name    string
		owner   net.HardwareAddr
		second  bool // owner has the other address, too
		granted bool
	}{
		{"one that lost its lease", owner, false, true},
		{"one that has another lease", owner, true, true},
		{"unknown", nil, false, false},
	} {
		p := newPool(first, last)
		now := time.Unix(1000, 0)
		p.now = func() time.Time { return now }
		if test.second && !p.take(owner, last) {
			t.Fatal("refused")
		}
		if a, err := p.offer(other, first); err != nil || a != first || !p.drop(other, a, test.owner) {
			t.Fatalf("%s, %v", a, err)
		}
		if p.take(other, first) || p.take(third, first) {
			t.Errorf("%s: the address was given to somebody else", test.name)
		}
		if got := p.take(owner, first); got != test.granted {
			t.Errorf("%s: granted: %v", test.name, got)
		}
		now = now.Add(declineTime)
		if got := p.take(third, first); got == test.granted {
			t.Errorf("%s: given to another one later: %v", test.name, got)
		}
		if a, err := p.offer(other, netip.Addr{}); err != nil || a != last {
			t.Errorf("%s: the other address is not free: %s, %v", test.name, a, err)
		}
		if len(p.byMAC) != len(p.leases) {
			t.Errorf("%s: %d machines have %d addresses", test.name, len(p.byMAC), len(p.leases))
		}
	}
}

func TestRanges(t *testing.T) {
	for _, test := range []struct{ subnet, spec, want string }{
		{"192.168.77.1/24", "", "192.168.77.1-192.168.77.254"},
		{"10.1.2.3/30", "", "10.1.2.1-10.1.2.2"},
		{"10.1.2.3/31", "", "error: no room"},
		{"10.1.2.3/8", "", "10.0.0.1-10.1.0.0"},
		{"192.168.77.1/24", "192.168.77.100-192.168.77.200", "192.168.77.100-192.168.77.200"},
		{"192.168.77.1/24", "192.168.77.100", "error: not FIRST-LAST"},
		{"192.168.77.1/24", "a-b", "error: unable to parse"},
		{"192.168.77.1/24", "192.168.77.100-192.168.78.1", "error: not among"},
		{"192.168.77.1/24", "192.168.77.0-192.168.77.9", "error: not among"},
		{"192.168.77.1/24", "192.168.77.9-192.168.77.8", "error: ends before"},
		{"192.168.77.1/24", "192.168.77.9-192.168.77.255", "error: broadcast"},
		{"10.1.2.3/16", "10.1.9.0-10.1.255.255", "error: broadcast"},
		{"10.1.2.3/8", "10.255.9.0-10.255.255.255", "error: broadcast"},
		{"10.1.2.3/8", "10.1.9.0-10.1.255.255", "10.1.9.0-10.1.255.255"},
		{"192.168.77.1/24", "fe80::1-fe80::2", "error: not among"},
		{"10.1.2.3/8", "10.0.0.1-10.9.0.1", "error: more than"},
	} {
		var first, last netip.Addr
		var err error
		if subnet := netip.MustParsePrefix(test.subnet); test.spec == "" {
			first, last, err = subnetRange(subnet)
		} else {
			first, last, err = parseRange(test.spec, subnet)
		}
		want, isErr := strings.CutPrefix(test.want, "error: ")
		switch {
		case isErr && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s %q: error %v, want %q", test.subnet, test.spec, err, want)
		case !isErr && (err != nil || first.String()+"-"+last.String() != want):
			t.Errorf("%s %q: %s-%s, %v; want %s", test.subnet, test.spec, first, last, err, want)
		}
	}
}
