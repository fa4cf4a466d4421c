package netboot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Times of the pool.
const (
	leaseTime   = time.Hour
	offerTime   = time.Minute      // an address offered and not taken is free again
	declineTime = 10 * time.Minute // an address in use by someone without a lease is left alone
	maxRange    = 1 << 16          // addresses: more would only cost memory
)

var errPoolFull = errors.New("every address of the range is taken")

// pool hands out addresses. An address belongs to a MAC address until another
// one needs it and the lease is over. Where the search for a free address
// starts is a hash of the MAC address, so that the same machine gets the same
// address after a restart of the server without a lease file.
type pool struct {
	now func() time.Time

	mu     sync.Mutex
	first  uint32
	size   uint32
	leases map[uint32]*lease // by offset from first
	byMAC  map[string]*lease
}

// lease binds an address. An empty mac marks an address that is never or for
// the time not handed out.
type lease struct {
	off     uint32
	mac     string
	expires time.Time
	checked bool // nobody else was found to have it
}

// newPool makes a pool of the addresses first to last without those in except.
func newPool(first, last netip.Addr, except ...netip.Addr) *pool {
	p := &pool{now: time.Now, first: toUint(first), leases: map[uint32]*lease{}, byMAC: map[string]*lease{}}
	p.size = toUint(last) - p.first + 1
	for _, a := range except {
		if off, ok := p.offset(a); ok {
			p.leases[off] = &lease{off: off, expires: time.Unix(1<<40, 0)}
		}
	}
	return p
}

// offer returns the address for mac and keeps it for a short time. wish is an
// address the client would like, or the zero Addr.
func (p *pool) offer(mac net.HardwareAddr, wish netip.Addr) (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	until := p.now().Add(offerTime)
	if l := p.byMAC[string(mac)]; l != nil {
		l.checked = l.checked && p.now().Before(l.expires)
		if l.expires.Before(until) {
			l.expires = until
		}
		return p.addr(l.off), nil
	}
	if off, ok := p.offset(wish); ok && p.free(off) {
		return p.bind(mac, off, until), nil
	}
	h := fnv.New32a()
	h.Write(mac)
	start := h.Sum32() % p.size
	for i := range p.size {
		if off := (start + i) % p.size; p.free(off) {
			return p.bind(mac, off, until), nil
		}
	}
	return netip.Addr{}, errPoolFull
}

// take leases a to mac; false means that it may not have it.
func (p *pool) take(mac net.HardwareAddr, a netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	off, ok := p.offset(a)
	if !ok {
		return false
	}
	if l := p.leases[off]; !p.free(off) && l.mac != string(mac) {
		return false
	}
	p.bind(mac, off, p.now().Add(leaseTime))
	p.leases[off].checked = true // by the client, which uses it
	return true
}

// checked says whether the address of mac need not be looked for on the network before it is offered.
func (p *pool) checked(mac net.HardwareAddr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.byMAC[string(mac)]
	return l != nil && l.checked
}

// check notes that nobody else has the address of mac.
func (p *pool) check(mac net.HardwareAddr, a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.byMAC[string(mac)]; l != nil && p.addr(l.off) == a {
		l.checked = true
	}
}

// release ends the lease of mac on a; the address stays reserved for it as long as there are others.
func (p *pool) release(mac net.HardwareAddr, a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.byMAC[string(mac)]; l != nil && p.addr(l.off) == a {
		l.expires = p.now()
	}
}

// drop takes a from mac, for whom it was found in use, and hands it to nobody for a while but to owner, who may be unknown (nil): it may
// have had its lease of a before the server was started.
func (p *pool) drop(mac net.HardwareAddr, a netip.Addr, owner net.HardwareAddr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.byMAC[string(mac)]
	if l == nil || p.addr(l.off) != a {
		return false
	}
	delete(p.byMAC, l.mac)
	l.mac, l.expires, l.checked = string(owner), p.now().Add(declineTime), false
	if owner != nil && p.byMAC[l.mac] == nil {
		p.byMAC[l.mac] = l
	}
	return true
}

// free says whether nobody holds the address. A lease that is over does not
// count; with mu held.
func (p *pool) free(off uint32) bool {
	l := p.leases[off]
	return l == nil || !p.now().Before(l.expires)
}

// bind gives the address at off, which is free or its own, to mac; with mu held.
func (p *pool) bind(mac net.HardwareAddr, off uint32, until time.Time) netip.Addr {
	if old := p.byMAC[string(mac)]; old != nil {
		delete(p.leases, old.off)
	}
	if old := p.leases[off]; old != nil && p.byMAC[old.mac] == old { // one that was dropped may be its owner's second
		delete(p.byMAC, old.mac)
	}
	l := &lease{off: off, mac: string(mac), expires: until}
	p.leases[off], p.byMAC[l.mac] = l, l
	return p.addr(off)
}

func (p *pool) offset(a netip.Addr) (uint32, bool) {
	if !a.Is4() || toUint(a) < p.first {
		return 0, false
	}
	off := toUint(a) - p.first
	return off, off < p.size
}

func (p *pool) addr(off uint32) netip.Addr { return fromUint(p.first + off) }

func toUint(a netip.Addr) uint32 { b := a.As4(); return binary.BigEndian.Uint32(b[:]) }

func fromUint(v uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, v)))
}

// subnetRange is the first and last host address of subnet, at most maxRange of them.
func subnetRange(subnet netip.Prefix) (first, last netip.Addr, err error) {
	if !subnet.Addr().Is4() || subnet.Bits() > 30 {
		return first, last, fmt.Errorf("the subnet %s has no room for nodes; use a larger one (/24)", subnet)
	}
	lo := toUint(subnet.Masked().Addr()) + 1
	n := uint32(1)<<(32-subnet.Bits()) - 2
	if subnet.Bits() == 0 {
		n = maxRange
	}
	return fromUint(lo), fromUint(lo + min(n, maxRange) - 1), nil
}

// parseRange reads "A-B", both in subnet.
func parseRange(s string, subnet netip.Prefix) (first, last netip.Addr, err error) {
	a, b, ok := strings.Cut(s, "-")
	if !ok {
		return first, last, fmt.Errorf("range %q is not FIRST-LAST", s)
	}
	if first, err = netip.ParseAddr(strings.TrimSpace(a)); err != nil {
		return first, last, fmt.Errorf("range %q: %w", s, err)
	}
	if last, err = netip.ParseAddr(strings.TrimSpace(b)); err != nil {
		return first, last, fmt.Errorf("range %q: %w", s, err)
	}
	lo, _, err := subnetRange(subnet)
	switch {
	case err != nil:
		return first, last, err
	case !subnet.Contains(first) || !subnet.Contains(last) || first.Less(lo):
		return first, last, fmt.Errorf("range %q is not among the host addresses of subnet %s", s, subnet.Masked())
	case last.Less(first):
		return first, last, fmt.Errorf("range %q ends before it starts", s)
	case toUint(last)-toUint(first) >= maxRange:
		return first, last, fmt.Errorf("range %q has more than %d addresses", s, maxRange)
	case toUint(last) == toUint(subnet.Masked().Addr())|uint32(1<<(32-subnet.Bits())-1):
		return first, last, fmt.Errorf("range %q holds the broadcast address of subnet %s", s, subnet.Masked())
	}
	return first, last, nil
}
