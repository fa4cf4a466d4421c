package tracker

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"testing"
	"time"
)

const testInterval = 5 * time.Second

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// chainTest drives a Topology with a clock of its own.
type chainTest struct {
	t   *testing.T
	top *Topology
	now time.Time
}

func newChainTest(t *testing.T) *chainTest {
	return &chainTest{t, NewTopology(Settings{Interval: testInterval}), epoch}
}

func addrOf(name string) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, name[0]}), 6881)
}

func (c *chainTest) announce(name string, change func(*Report)) Place {
	r := Report{Node: name, Run: "1", Addr: addrOf(name)}
	if change != nil {
		change(&r)
	}
	return c.top.Announce(c.now, r)
}

// want compares a place: names of the nodes, "seeder" last.
func (c *chainTest) want(p Place, names ...string) {
	c.t.Helper()
	var want Place
	for _, n := range names {
		if n == "seeder" {
			want.Seeder = true
		} else {
			want.Upstreams = append(want.Upstreams, addrOf(n))
		}
	}
	if p.Seeder != want.Seeder || !slices.Equal(p.Upstreams, want.Upstreams) {
		c.t.Fatalf("place is %v, want %v", p, want)
	}
}

func stalled(r *Report)  { r.Stalled = true }
func complete(r *Report) { r.Complete = true }
func newRun(r *Report)   { r.Run = "2"; r.Addr = addrOf("z") }

func TestChainByArrival(t *testing.T) {
	c := newChainTest(t)
	c.want(c.announce("a", nil), "seeder")
	c.want(c.announce("b", nil), "a")
	c.want(c.announce("c", nil), "b")
	c.want(c.announce("b", nil), "a") // stays where it is
}

func TestChainClosesWhenANodeLeaves(t *testing.T) {
	c := newChainTest(t)
	for _, n := range []string{"a", "b", "c"} {
		c.announce(n, nil)
	}
	c.top.Leave("b", "0") // an earlier run's goodbye
	c.want(c.announce("c", nil), "b")
	c.top.Leave("b", "1")
	c.want(c.announce("c", nil), "a")
	c.top.Leave("a", "1")
	c.want(c.announce("c", nil), "seeder")
}

func TestSilentNode(t *testing.T) {
	c := newChainTest(t)
	for _, n := range []string{"a", "b", "c"} {
		c.announce(n, nil)
	}
	for range 2 {
		c.now = c.now.Add(testInterval)
		c.announce("a", nil)
		c.want(c.announce("c", nil), "b") // may still come
	}
	c.now = c.now.Add(testInterval)
	c.want(c.announce("c", nil), "a") // not heard for long: no upstream any more
	if c.top.Len() != 3 {
		t.Errorf("%d nodes, want 3: a node that may come back is not forgotten", c.top.Len())
	}
	c.want(c.announce("b", nil), "c") // it is back, behind those that went on
	for range missed + 1 {
		c.now = c.now.Add(testInterval)
		c.announce("a", nil)
		c.announce("b", nil)
	}
	if c.top.Len() != 2 {
		t.Errorf("%d nodes after one was silent for long", c.top.Len())
	}
}

// TestNobodyHeard: when the tracker itself did not run for a while, its nodes are not dead.
func TestNobodyHeard(t *testing.T) {
	c := newChainTest(t)
	for _, n := range []string{"a", "b", "c"} {
		c.announce(n, nil)
	}
	c.now = c.now.Add(longGap)
	c.want(c.announce("c", nil), "b")
}

func TestLostUpstream(t *testing.T) {
	c := newChainTest(t)
	for _, n := range []string{"a", "b", "c", "d"} {
		c.announce(n, nil)
	}
	lost := func(r *Report) { r.Lost = []netip.AddrPort{addrOf("b"), addrOf("x")} }
	c.want(c.announce("c", lost), "a")
	c.want(c.announce("d", nil), "c")
	c.want(c.announce("b", nil), "d") // it is there, but others have gone on
	c.want(c.announce("c", nil), "a")
}

func TestStalledNodeGetsMore(t *testing.T) {
	c := newChainTest(t)
	done := map[string]int{"a": 300, "b": 100, "c": 100, "d": 100}
	tell := func(name string, more func(*Report)) Place {
		return c.announce(name, func(r *Report) {
			r.Done = done[name]
			if more != nil {
				more(r)
			}
		})
	}
	for _, n := range []string{"a", "b", "c", "d"} {
		tell(n, nil)
	}
	c.want(tell("c", stalled), "b")           // b has nothing for c: it is b who needs help
	c.want(tell("b", stalled), "a", "seeder") // a has, but b does not get it; and nobody else is ahead
	done["b"] = 200
	c.want(tell("b", nil), "a", "seeder") // not taken away at once
	tell("c", stalled)
	c.want(tell("c", stalled), "b", "a")
	c.want(tell("d", nil), "c")
	for c.now.Before(epoch.Add(max(helpFor, trialTime))) {
		c.now = c.now.Add(testInterval)
		for _, n := range []string{"a", "b", "c", "d"} {
			tell(n, nil)
		}
	}
	c.want(tell("c", nil), "b")
}

func TestRestartedNodeGoesToTheEnd(t *testing.T) {
	c := newChainTest(t)
	for _, n := range []string{"a", "b", "c"} {
		c.announce(n, nil)
	}
	c.want(c.announce("a", newRun), "c")
	c.want(c.announce("b", nil), "seeder")
	if c.top.Len() != 3 {
		t.Errorf("%d nodes, want 3: the old entry is replaced", c.top.Len())
	}
	// Same run, new address: keeps its place, and is found there.
	c.announce("b", func(r *Report) { r.Addr = addrOf("y") })
	c.want(c.announce("c", nil), "y")
}

// TestSlowHead: the first node is on trial until something is known about the network's speed.
func TestSlowHead(t *testing.T) {
	c := newChainTest(t)
	c.top = NewTopology(Settings{Pieces: 2000})
	tell := func(name string, done int) Place {
		return c.announce(name, func(r *Report) { r.Done = done })
	}
	tell("a", 0)
	c.want(tell("b", 0), "a") // others may tell of their ports yet
	c.now = c.now.Add(trialWait)
	tell("a", 0)
	c.want(tell("b", 0), "a", "seeder")
	tell("c", 0)
	c.want(tell("c", 0), "b")
	c.now = c.now.Add(time.Second)
	c.want(tell("a", 10), "seeder")
	c.want(tell("b", 40), "seeder") // it overtook
	c.want(tell("a", 10), "c")
	for i := 1; i < 3; i++ {
		c.now = c.now.Add(time.Second)
		tell("a", 10+10*i)
		tell("b", 40+50*i)
		tell("c", 35+50*i)
	}
	c.want(tell("a", 30), "c")
	c.want(tell("d", 0), "c") // nobody is put behind a slow one
	c.want(tell("a", 30), "d")
}

// TestHeadGetsNothing: a first node that can speak to the tracker only, of an image too small to be sure of a slow one, is not what
// all others wait for; but they wait as long as an image may need that the server itself is slow with.
func TestHeadGetsNothing(t *testing.T) {
	c := newChainTest(t)
	c.top = NewTopology(Settings{Pieces: 300})
	began := c.now
	for c.now.Sub(began) <= longStall*hopeless*time.Second {
		c.want(c.announce("a", stalled), "seeder")
		p := c.announce("b", stalled)
		if c.now.Sub(began) < longStall*hopeless*time.Second {
			c.want(p, "a")
		} else {
			c.want(p, "a", "seeder")
		}
		c.want(c.announce("c", stalled), "b")
		c.now = c.now.Add(time.Second)
	}
	for done := 20; done < 100; done += 20 {
		c.announce("a", stalled)
		c.announce("b", func(r *Report) { r.Done = done })
		c.now = c.now.Add(time.Second)
	}
	c.want(c.announce("b", func(r *Report) { r.Done = 100 }), "seeder") // it overtook
	if p := c.announce("a", stalled); len(p.Upstreams) == 0 || p.Upstreams[0] != addrOf("b") {
		t.Errorf("the first takes from %+v", p)
	}
}

// TestSlowNode: one in the middle is recognized by what it lacks of its upstream.
func TestSlowNode(t *testing.T) {
	c := newChainTest(t)
	c.top = NewTopology(Settings{Pieces: 2000})
	rates := map[string]int{"a": 50, "b": 50, "c": 12, "d": 12, "e": 12}
	done := map[string]int{}
	var p Place
	round := func() {
		c.now = c.now.Add(time.Second)
		for _, n := range []string{"a", "b", "c", "d", "e"} {
			done[n] += rates[n]
			if n == "e" {
				done[n] = min(done[n], done["d"])
			}
			got := c.announce(n, func(r *Report) { r.Done = done[n] })
			if n == "d" {
				p = got
				if p.Upstreams[0] == addrOf("b") {
					rates["d"], rates["e"] = 50, 50
				}
			}
		}
	}
	for range 3 {
		round()
	}
	c.want(p, "b") // within 3 s
	for range 3 {
		round()
	}
	c.want(p, "b")
	c.want(c.announce("c", func(r *Report) { r.Done = done["c"] }), "e")
}

func TestNeeded(t *testing.T) {
	c := newChainTest(t)
	for _, n := range []string{"a", "b", "c"} {
		c.announce(n, nil)
	}
	needed := func(want string) {
		t.Helper()
		got := ""
		for _, n := range []string{"a", "b", "c", "d"} {
			if c.top.Needed(n) {
				got += n
			}
		}
		if got != want {
			t.Errorf("needed are %q, want %q", got, want)
		}
	}
	needed("ab")
	c.want(c.announce("a", complete))
	needed("ab") // b takes from a, complete or not
	c.announce("b", complete)
	needed("b")
	c.top.Leave("a", "1")
	c.announce("c", complete)
	needed("")
	c.want(c.announce("d", nil), "c") // a finished node is a good upstream
	needed("c")
	if c.top.Complete() != 2 {
		t.Errorf("%d complete, want 2", c.top.Complete())
	}
}

func TestSample(t *testing.T) {
	for _, c := range []struct{ n, k, want int }{{0, 5, 0}, {3, 5, 3}, {100, 5, 5}, {7, 7, 7}, {5, -1, 0}} {
		got := sample(c.n, c.k)
		slices.Sort(got)
		if len(slices.Compact(got)) != c.want || (c.want > 0 && (got[0] < 0 || got[len(got)-1] >= c.n)) {
			t.Errorf("sample(%d, %d) is %v", c.n, c.k, got)
		}
	}
}

// BenchmarkAnnounce20000: the handler without the network, in a swarm that downloads.
func BenchmarkAnnounce20000(b *testing.B) {
	const nodes = 20000
	now := epoch
	tr := New(Options{Now: func() time.Time { return now }})
	tr.Register(testHash, 40000)
	tr.SetSeeder(6000)
	reqs := make([]*http.Request, nodes)
	for i := range reqs {
		reqs[i] = httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/announce?"+query(fmt.Sprint(i), "sb_node", fmt.Sprint(i), "sb_run", "1", "sb_done", "100"), nil)
		reqs[i].RemoteAddr = fmt.Sprintf("10.0.%d.%d:7000", i/40, 1+i%40)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		now = now.Add(500 * time.Microsecond)
		tr.ServeHTTP(&discard{}, reqs[i%nodes])
	}
}

type discard struct{ h http.Header }

func (d *discard) Header() http.Header {
	if d.h == nil {
		d.h = make(http.Header)
	}
	return d.h
}
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}
