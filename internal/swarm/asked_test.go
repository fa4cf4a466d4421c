package swarm

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anacrolix/torrent"
	"github.com/anacrolix/torrent/bencode"

	"swarmboot/imagefmt"
)

// scripted is a tracker that names to each node what the test says.
type scripted struct {
	mu      sync.Mutex
	peers   map[string][]netip.AddrPort // by node
	answers map[string]int
	lost    map[string]int // reports of lost upstreams
}

func newScripted(t *testing.T) (s *scripted, url string) {
	s = &scripted{peers: make(map[string][]netip.AddrPort), answers: make(map[string]int), lost: make(map[string]int)}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	return s, web.URL + "/announce"
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := r.URL.Query()
	node := q.Get("sb_node")
	s.answers[node]++
	if q.Has("sb_lost") {
		s.lost[node]++
	}
	type peer struct {
		IP   string `bencode:"ip"`
		Port uint16 `bencode:"port"`
	}
	peers := []peer{}
	for _, p := range s.peers[node] {
		peers = append(peers, peer{p.Addr().String(), p.Port()})
	}
	_, _ = w.Write(bencode.MustMarshal(map[string]any{"interval": 1, "peers": peers})) // or the node has gone
}

func (s *scripted) name(node string, peers ...netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peers[node] = peers
}

// heard waits for two more announces of a node and says how many reports of a lost upstream were in them.
func (s *scripted) heard(t *testing.T, node string) (lost int) {
	t.Helper()
	count := func() (answers, lost int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.answers[node], s.lost[node]
	}
	answers, before := count()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if n, lost := count(); n >= answers+2 {
			return lost - before
		}
	}
	t.Fatalf("nothing is heard of %s", node)
	return 0
}

// rigOfTwo are node 1, which has nothing and is named nobody, and node 2, which has everything and has called node 1, as one that takes
// from it does. busy: node 1 believes that something comes. held: its target takes nothing.
func rigOfTwo(t *testing.T, busy, held bool) (tr *scripted, s1, s2 *Session) {
	t.Helper()
	im := makeImage(t, 2*maxWaiting, 256<<10, imagefmt.Verbatim)
	r := newRig(t, im, SeederOptions{})
	tr, announce := newScripted(t)
	change := func(o *NodeOptions) { o.Announce = announce }
	if held {
		s1, _, _ = r.joinHeld(1, change)
	} else {
		s1 = r.join(1, im.blank(), change)
	}
	if busy {
		go func() {
			for tick := time.Tick(watchEvery); t.Context().Err() == nil; <-tick {
				s1.touch()
			}
		}()
	}
	tr.name("node2", addrOfNode(s1))
	full := im.blank()
	copy(full.b, im.disk.b)
	s2 = r.join(2, full, func(o *NodeOptions) { o.Announce, o.Resume = announce, true })
	connected(t, s1, nil)
	// For the index.
	tr.name("node2", addrOfNode(s1), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(r.seeder.Port())))
	mustWait(t, s2)
	return tr, s1, s2
}

// connected waits for a connection of s other than old.
func connected(t *testing.T, s *Session, old *torrent.PeerConn) *torrent.PeerConn {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		for _, pc := range s.torrent.Load().PeerConns() {
			if pc != old {
				return pc
			}
		}
	}
	t.Fatal("there is no connection")
	return nil
}

func addrOfNode(s *Session) netip.AddrPort {
	a := s.client.listener.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// TestFollowerIsNotAsked: a node asks another one for pieces that is there to take from it when the tracker names that one, and not before.
func TestFollowerIsNotAsked(t *testing.T) {
	t.Parallel()
	tr, s1, s2 := rigOfTwo(t, true, false)
	tr.heard(t, "node1")
	if n := s1.fromNodes.Load(); n != 0 {
		t.Errorf("%d bytes were taken from a node that nobody named", n)
	}
	tr.name("node1", addrOfNode(s2))
	mustWait(t, s1)
	if n := s1.fromNodes.Load(); n == 0 {
		t.Error("nothing was taken from the node that was named")
	}
}

// TestNotAskedAnyMore: nor is one that was named until lately.
func TestNotAskedAnyMore(t *testing.T) {
	t.Parallel()
	tr, s1, s2 := rigOfTwo(t, true, true)
	chokes := func() bool {
		conns := s1.torrent.Load().PeerConns()
		lockClient(s1.client.Client)
		defer unlockClient(s1.client.Client)
		return slices.ContainsFunc(conns, func(pc *torrent.PeerConn) bool { return *chokes(pc) })
	}
	tr.name("node1", netip.AddrPortFrom(addrOfNode(s2).Addr(), 1)) // where nobody can be called
	tr.heard(t, "node1")
	if chokes() || s1.fromNodes.Load() == 0 {
		t.Errorf("%d bytes came from the node that is named", s1.fromNodes.Load())
	}
	tr.name("node1")
	tr.heard(t, "node1")
	if !chokes() {
		t.Error("it is asked after another was named")
	}
}

// TestStuckNodeAsksAll: what nobody named can send comes from whoever is connected.
func TestStuckNodeAsksAll(t *testing.T) {
	t.Parallel()
	_, s1, _ := rigOfTwo(t, false, false)
	mustWait(t, s1)
}

// TestCalledAgain: an upstream that ends the connection, as one does that has left this node as its own upstream, is called again, and not
// said to be lost.
func TestCalledAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, makeImage(t, 1<<20, 256<<10, imagefmt.Verbatim), SeederOptions{})
	tr, announce := newScripted(t)
	change := func(o *NodeOptions) { o.Announce = announce }
	s1, s2 := r.join(1, r.im.blank(), change), r.join(2, r.im.blank(), change)
	tr.name("node1", addrOfNode(s2))
	var pc *torrent.PeerConn
	const tries = 5 // a machine that is busy may take longer than redialWait
	for range tries {
		pc = connected(t, s1, pc)
		if tr.heard(t, "node1") > 0 {
			continue
		}
		for _, back := range s2.torrent.Load().PeerConns() {
			back.Close()
		}
		if tr.heard(t, "node1") == 0 {
			connected(t, s1, pc)
			return
		}
	}
	t.Errorf("it said %d times that it has lost its upstream", tries)
}

// TestWhoIsAsked: by the tracker's answers and by how long nothing comes.
func TestWhoIsAsked(t *testing.T) {
	t.Parallel()
	up, other := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:1")
	synctest.Test(t, func(t *testing.T) {
		var a asking
		asks := func(want bool, when string) {
			t.Helper()
			if !a.asks(up.Addr()) {
				t.Errorf("%s: the upstream is not asked", when)
			}
			if got := a.asks(other.Addr()); got != want {
				t.Errorf("%s: the other one is asked: %v", when, got)
			}
		}
		tick := func(d time.Duration, stalled bool) (changed int) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(watchEvery) {
				if a.tick(time.Now(), stalled) {
					changed++
				}
			}
			return changed
		}
		answer := func(failed bool) { a.answer(time.Now(), []netip.AddrPort{up}, failed) }
		answer(false)
		asks(false, "at the start")
		tick(stuckAfter/2, true)
		tick(time.Second, false)
		tick(stuckAfter/2+time.Second, true)
		asks(false, "two short stalls")
		if n := tick(stuckAfter, true); n != 1 {
			t.Errorf("a long stall was told %d times", n)
		}
		asks(true, "a long stall")
		answer(false)
		tick(openFor/2, false)
		asks(true, "soon after it")
		if n := tick(openFor, false); n != 1 {
			t.Errorf("the end of it was told %d times", n)
		}
		asks(false, "long after it")
		// A cable is pulled and put back: the tracker knows at once who is there.
		tick(stuckAfter+time.Second, true)
		asks(true, "without the tracker")
		answer(true)
		asks(false, "the tracker is back")
		tick(stuckAfter-watchEvery, true)
		asks(false, "the tracker was just back")
		tick(time.Second, true)
		asks(true, "the tracker is back, and nothing comes")
	})
}
