package swarm

import (
	"net/netip"
	"sync"
	"time"

	"github.com/anacrolix/torrent"
	pp "github.com/anacrolix/torrent/peer_protocol"
)

const (
	// stuckAfter is how long nothing may come, though the tracker answers, until every node that is connected is asked, and
	// openFor for how long then.
	stuckAfter = 3 * time.Second
	openFor    = 10 * time.Second
)

// asking knows which nodes this one asks: those that the tracker names, not those that have called it to take from it. Of two upstreams,
// while it has help or tries another one, the further one sends pieces that the nearer one lacks. That one then used to ask for them: both
// send each other what they have, each request waits in the same connection behind chunks of 256 KiB, and three of them
// asked for ahead carry less than half of a port's rate.
type asking struct {
	mu      sync.Mutex
	named   map[netip.Addr]bool
	reached time.Time // since when the tracker answers
	stuck   time.Time // since when nothing comes; zero while something does
	until   time.Time // every node is asked until then: what this one lacks may be with those behind it alone
	open    bool
}

// answer takes over the peers that the tracker named. An answer after a failure is a new beginning: so long nobody could name others.
func (a *asking) answer(now time.Time, peers []netip.AddrPort, failed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.named = make(map[netip.Addr]bool, len(peers))
	for _, p := range peers {
		a.named[p.Addr()] = true
	}
	if failed || a.reached.IsZero() {
		a.reached, a.open, a.until = now, false, time.Time{}
	}
}

// tick is told every so often whether nothing comes. It says whether other nodes are to be asked than before.
func (a *asking) tick(now time.Time, stalled bool) (changed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case !stalled:
		a.stuck = time.Time{}
	case a.stuck.IsZero():
		a.stuck = now
	case now.Sub(a.stuck) >= stuckAfter && now.Sub(a.reached) >= stuckAfter:
		a.until = now.Add(openFor)
	}
	was := a.open
	a.open = now.Before(a.until)
	return a.open != was
}

func (a *asking) asks(from netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open || a.named[from]
}

// asks says whether pieces are asked of a peer. Those that this node has called were named, and are left when others are (trim).
func (s *Session) asks(pc *torrent.PeerConn) bool {
	if !chokingFound || pc.Discovery == torrent.PeerSourceTracker || fromServer(pc) || !ours(pc) {
		return true
	}
	ap, ok := addrOf(pc)
	return !ok || s.asking.asks(ap.Addr().WithZone(""))
}

// keepNode lets the library believe that a node chokes this one that is not asked. The library's lock is held.
func (s *Session) keepNode(pc *torrent.PeerConn, m *pp.Message) {
	switch m.Type {
	case pp.Unchoke:
		if !s.asks(pc) {
			m.Type = pp.Choke
			s.unasked.Store(pc, nil)
		}
	case pp.AllowedFast: // the library would ask for these of one that chokes
		m.Keepalive = !s.asks(pc)
	case pp.Choke:
		s.unasked.Delete(pc)
	}
}

// choose looks again at which nodes are asked.
func (s *Session) choose() {
	conns := s.torrent.Load().PeerConns()
	lockClient(s.client.Client)
	defer unlockClient(s.client.Client)
	for _, pc := range conns {
		_, kept := s.unasked.Load(pc)
		switch asks := s.asks(pc); {
		case asks && kept:
			s.unasked.Delete(pc)
			*chokes(pc) = false
			needRequests(pc, "named")
		case !asks && !*chokes(pc): // what it was asked for before it will send
			s.unasked.Store(pc, nil)
			*chokes(pc) = true
		}
	}
}
