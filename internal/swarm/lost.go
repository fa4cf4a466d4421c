package swarm

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

const (
	// dialGrace is how long after a peer was named the first connection may take.
	dialGrace = dialTimeout + time.Second
	// redialWait is how long another one may take after it has ended. A node that had called this one for pieces, and is told of another
	// upstream, ends the connection that this one takes from it by.
	redialWait = 250 * time.Millisecond
)

// upstreams remembers from when on a connection to the peers that the tracker names is missed; zero: there is one.
type upstreams map[netip.AddrPort]time.Time

func (u upstreams) named(peers []netip.AddrPort, now time.Time) {
	old := maps.Clone(u)
	clear(u)
	for _, a := range peers {
		if t, ok := old[a]; ok {
			u[a] = t
		} else {
			u[a] = now.Add(dialGrace)
		}
	}
}

// refuses notes that nobody listens where one of them did.
func (u upstreams) refuses(a netip.AddrPort) {
	if missed, ok := u[a]; ok && !missed.IsZero() {
		u[a] = time.Unix(0, 0)
	}
}

// lost returns those that were named for a while and are not connected. A connection that such a
// peer opened itself has another port: any connection with its address will do then.
func (u upstreams) lost(connected []netip.AddrPort, now time.Time) (lost []netip.AddrPort) {
	for a, missed := range u {
		switch {
		case slices.ContainsFunc(connected, func(c netip.AddrPort) bool { return c.Addr() == a.Addr() }):
			u[a] = time.Time{}
		case missed.IsZero():
			u[a] = now.Add(redialWait)
		case !now.Before(missed):
			lost = append(lost, a)
		}
	}
	return lost
}

// badUpstreams are the named peers that were turned away for bad pieces.
func (s *Session) badUpstreams(u upstreams) (bad []netip.AddrPort) {
	s.blame.mu.Lock()
	defer s.blame.mu.Unlock()
	for a := range u {
		if s.blame.banned[a.Addr().String()] {
			bad = append(bad, a)
		}
	}
	return bad
}

// nobodyListens is told of peers whose kernel refuses connections.
func (s *Session) nobodyListens(a netip.AddrPort) { notify(s.refused, a) }

// lostUpstreams are the named peers that the tracker should know to be gone.
func (s *Session) lostUpstreams(u upstreams) []netip.AddrPort {
	if s.store.received() || len(u) == 0 { // a peer that has everything, too, ends the connection
		return nil
	}
	var connected []netip.AddrPort
	for _, pc := range s.torrent.Load().PeerConns() {
		if ap, ok := addrOf(pc); ok {
			connected = append(connected, ap)
		}
	}
	return u.lost(connected, time.Now())
}
