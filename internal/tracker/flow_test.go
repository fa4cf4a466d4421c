package tracker

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// churn makes nodes of several racks come, go, restart, stall and lie about their progress.
type churn struct {
	rng *rand.Rand
	top *Topology
	now time.Time
}

func numbered(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 6881)
}

func (c *churn) step(nodes, racks, pieces int) {
	c.now = c.now.Add(time.Duration(c.rng.IntN(20)) * time.Millisecond)
	i := c.rng.IntN(nodes)
	name := fmt.Sprint(i)
	if c.rng.IntN(12) == 0 {
		c.top.Leave(name, "1")
		return
	}
	r := Report{
		Node: name, Run: fmt.Sprint(c.rng.IntN(20) / 19), Addr: numbered(i), Rack: fmt.Sprint(i % racks),
		Done: c.rng.IntN(pieces), Stalled: c.rng.IntN(10) == 0, Busy: c.rng.IntN(30) == 0,
		Disk: c.rng.Int64N(1e8), Complete: c.rng.IntN(6) == 0, Speed: []int{0, 100, 1000, 1000}[i%4], Rate: c.rng.Int64N(1e8), Left: 1e8,
	}
	if c.rng.IntN(10) == 0 {
		r.Lost = append(r.Lost, numbered(c.rng.IntN(nodes)))
	}
	c.top.Announce(c.now, r)
}

// TestImageFlows: whatever comes and goes, in a chain and in a tree, the books agree, no answer is
// long, and from each node the upstreams that it would be told lead to the seeder or to a complete
// node without meeting it again.
func TestImageFlows(t *testing.T) {
	for _, c := range []struct {
		name         string
		nodes, racks int
		s            Settings
	}{
		{"chain", 60, 1, Settings{Interval: testInterval}},
		{"chain of racks", 60, 4, Settings{Interval: testInterval, Segment: 8}},
		{"tree of racks", 300, 8, Settings{Interval: testInterval, Chain: 1, Segment: 20}},
		{"tree in one rack", 200, 1, Settings{Interval: testInterval, Chain: 10, Fan: 3, Segment: 16}},
		{"every node a rack", 60, 60, Settings{Interval: testInterval, Chain: 1}},
		{"trunk", 300, 8, Settings{Interval: testInterval, Chain: 20, Segment: 20}},
		{"by number", 300, 7, Settings{Pieces: 500, Chain: 250, Segment: 40}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ch := &churn{rng: newRand(t), top: NewTopology(c.s), now: epoch}
			for i := range 6000 {
				ch.step(c.nodes, c.racks, 500)
				checkBooks(t, ch.top)
				if i%50 == 0 {
					checkFlow(t, ch.top, ch.now)
				}
			}
		})
	}
}

func checkBooks(t *testing.T, top *Topology) {
	t.Helper()
	finished, direct, placed := 0, 0, 0
	needed := make(map[*node]int)
	for _, n := range top.all {
		finished += map[bool]int{true: 1}[n.Complete]
		direct += map[bool]int{true: 1}[n.direct]
		for _, u := range n.ups {
			needed[u]++
		}
	}
	for i, s := range top.order {
		if s.at != i || len(s.nodes) == 0 || len(s.nodes) > top.o.Segment || (s.parent != nil && s.parent.at >= len(top.order)) {
			t.Fatalf("segment %d: at %d, %d nodes", i, s.at, len(s.nodes))
		}
		for j, n := range s.nodes {
			if n.pos != j || n.seg != s || n.class != s.rack.class || (n.class == slow && !n.slow) || (i > 0 && top.order[i-1].rack.behind() > s.rack.behind() && !top.dirty) {
				t.Fatalf("segment %d: node %d says it is %d, slow %v", i, j, n.pos, n.slow)
			}
		}
		for j := range s.nodes {
			if top.shape != chain && j > 0 && s.nodes[j-1].slow && !s.nodes[j].slow {
				t.Fatalf("segment %d: slow node %d is before another", i, j-1)
			}
		}
		placed += len(s.nodes)
	}
	all := len(top.all)
	if len(top.nodes) != all || placed != all || top.seen.Len() != all || finished != top.complete || direct != top.direct.n {
		t.Fatalf("books disagree: %d %d %d %d, %d of %d complete, %d of %d direct",
			all, len(top.nodes), placed, top.seen.Len(), finished, top.complete, direct, top.direct.n)
	}
	for _, n := range top.all {
		if n.takers.n != needed[n] {
			t.Fatalf("node %s is needed by %d, counted %d", n.Node, needed[n], n.takers.n)
		}
	}
}

// checkFlow asks for everybody's place at one moment.
func checkFlow(t *testing.T, top *Topology, now time.Time) {
	t.Helper()
	top.dirty, top.planned = true, time.Time{}
	top.plan(now)
	byAddr := make(map[netip.AddrPort]*node)
	for _, n := range top.all {
		byAddr[n.Addr] = n
	}
	ups := make(map[*node][]*node)
	direct := make(map[*node]bool)
	for _, n := range top.all {
		if n.Complete {
			direct[n] = true
			continue
		}
		p := top.place(now, n)
		direct[n] = p.Seeder
		if len(p.Upstreams) > 3 {
			t.Fatalf("node %s gets %d upstreams", n.Node, len(p.Upstreams))
		}
		for _, a := range p.Upstreams {
			ups[n] = append(ups[n], byAddr[a])
		}
	}
	state := make(map[*node]int)
	var visit func(n *node) bool // reaches a source
	visit = func(n *node) bool {
		switch state[n] {
		case 1:
			t.Fatalf("node %s waits for itself", n.Node)
		case 2:
			return true
		}
		state[n] = 1
		reaches := direct[n]
		for _, u := range ups[n] {
			reaches = visit(u) || reaches
		}
		if !reaches {
			t.Fatalf("node %s waits for nobody", n.Node)
		}
		state[n] = 2
		return true
	}
	for _, n := range top.all {
		visit(n)
	}
}
