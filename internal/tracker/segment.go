package tracker

import (
	"slices"
	"time"
)

// rack are the nodes behind one switch, in segments. In a chain, the nodes that came late and the
// slow ones are racks of their own, which come after all others: whoever feeds them has less for
// anybody else.
type rack struct {
	rackKey
	segs []*segment
}

type rackKey struct {
	name  string
	class class
}

type class uint8

const (
	ordinary class = iota
	late
	slow
)

// segment are nodes of one rack, in an order in which they take the image from those before them.
type segment struct {
	rack  *rack
	nodes []*node

	// The plan: which segment feeds the head.
	at     int      // in Topology.order
	parent *segment // nil: the seeder
	group  int      // of the parent's nodes; tailGroup for its last one
	groups int      // how many heads it feeds beside the one behind its tail
	depth  int      // hops from the seeder to the head, about
}

// insert gives a node its place: in a segment with room, behind those that have as much as it.
func (t *Topology) insert(n *node) {
	n.class = ordinary
	if t.shape == chain && n.slow {
		n.class = slow
	}
	s := t.room(n)
	if t.shape == chain && n.class == ordinary && t.tooLate(s, n) {
		t.late++
		n.class = late
		s = t.room(n)
	}
	if s == nil {
		s = t.newSegment(rackKey{n.Rack, n.class})
	}
	at := len(s.nodes)
	for at > 0 && t.shape == chain && s.nodes[at-1].Done < n.Done {
		at--
	}
	s.put(n, at)
	if t.shape != chain {
		s.slowLast()
	}
	t.dirty = true
}

// slowLast exchanges slow nodes with others behind them: of a tree, nobody takes from the last ones.
func (s *segment) slowLast() {
	for i, j := 0, len(s.nodes)-1; ; i, j = i+1, j-1 {
		for i < j && !s.nodes[i].slow {
			i++
		}
		for i < j && s.nodes[j].slow {
			j--
		}
		if i >= j {
			return
		}
		s.swap(s.nodes[i], s.nodes[j])
	}
}

// room finds a segment that a node can be in, nil if there is none.
func (t *Topology) room(n *node) *segment {
	r := t.racks[rackKey{n.Rack, n.class}]
	if r == nil {
		return nil
	}
	for _, s := range r.segs {
		if len(s.nodes) < t.o.Segment {
			return s
		}
	}
	return nil
}

// tooLate says whether a node would take the image from one that has much more, and feeds others
// too: they would have half the rate until the end.
func (t *Topology) tooLate(s *segment, n *node) bool {
	if s == nil || s.at == len(t.order)-1 {
		return false
	}
	last := t.order[len(t.order)-1]
	return last.rack.class == ordinary && last.rack != s.rack && s.nodes[len(s.nodes)-1].Done > n.Done+t.lateBy() ||
		last.rack.class != ordinary && s.nodes[len(s.nodes)-1].Done > n.Done+t.lateBy()
}

// lateBy is how many pieces behind a node may be to be waited for by those that it would come before: about what flows in one and a half
// intervals.
func (t *Topology) lateBy() int { return 3 * t.margin() }

func (t *Topology) newSegment(key rackKey) *segment {
	r := t.racks[key]
	if r == nil {
		r = &rack{rackKey: key}
		t.racks[key] = r
		t.ranks = append(t.ranks, r)
	}
	s := &segment{rack: r, at: len(t.order), group: tailGroup}
	if s.at > 0 {
		s.parent = t.order[(s.at-1)/2] // until the next plan
	}
	r.segs = append(r.segs, s)
	t.order = append(t.order, s)
	return s
}

// reshape arranges all nodes anew, in the order in which they have been.
func (t *Topology) reshape(to shape) {
	t.counts.Shapes++
	t.shape, t.late = to, 0
	nodes := make([]*node, 0, len(t.all))
	for _, s := range t.order {
		nodes = append(nodes, s.nodes...)
	}
	clear(t.racks)
	t.ranks, t.order = nil, nil
	for _, n := range nodes {
		n.seg, n.class = nil, ordinary
	}
	for _, n := range nodes {
		t.insert(n)
	}
}

func (t *Topology) unlink(n *node) {
	s := n.seg
	if s == nil {
		return
	}
	if n.class == late {
		t.late--
	}
	t.take(s, n)
	t.dirty = true
	if len(s.nodes) > 0 {
		return
	}
	r := s.rack
	r.segs = slices.DeleteFunc(r.segs, func(x *segment) bool { return x == s })
	if len(r.segs) == 0 {
		delete(t.racks, r.rackKey)
		t.ranks = slices.DeleteFunc(t.ranks, func(x *rack) bool { return x == r })
	}
	t.order = slices.Delete(t.order, s.at, s.at+1)
	for i := s.at; i < len(t.order); i++ {
		t.order[i].at = i
	}
	for _, x := range t.order {
		if x.parent == s {
			x.parent = nil
		}
	}
}

func (s *segment) put(n *node, at int) {
	n.seg = s
	s.nodes = slices.Insert(s.nodes, at, n)
	s.number(at)
}

// take removes a node. In a chain all behind it move up. In a tree only its place is filled, from
// below: the others keep their upstreams.
func (t *Topology) take(s *segment, n *node) {
	n.seg = nil
	if t.shape == chain {
		s.nodes = slices.Delete(s.nodes, n.pos, n.pos+1)
		s.number(n.pos)
		return
	}
	last := len(s.nodes) - 1
	i := n.pos
	for i < last {
		c := t.follower(s, i)
		if c < 0 {
			c = last
		}
		s.nodes[i] = s.nodes[c]
		s.nodes[i].pos = i
		i = c
	}
	s.nodes[last] = nil
	s.nodes = s.nodes[:last]
	s.slowLast()
}

// follower is the place of the node that takes from the one at i and should have its place: one that is not slow, and has
// most. It is -1 if there is none.
func (t *Topology) follower(s *segment, i int) int {
	first, end := t.shape.fed(i)
	best := -1
	for c := first; c < min(end, len(s.nodes)); c++ {
		if best < 0 || (s.nodes[best].slow && !s.nodes[c].slow) || (s.nodes[best].slow == s.nodes[c].slow && s.nodes[c].Done > s.nodes[best].Done) {
			best = c
		}
	}
	return best
}

func (s *segment) number(from int) {
	for i := from; i < len(s.nodes); i++ {
		s.nodes[i].pos = i
	}
}

// setSlow moves a node to the slow ones, or back to the others.
func (t *Topology) setSlow(now time.Time, n *node, slow bool) {
	t.unlink(n)
	n.slow, n.slowSince = slow, now
	t.insert(n)
}

// swap exchanges the places of two nodes.
func (s *segment) swap(n, o *node) {
	n.pos, o.pos = o.pos, n.pos
	s.nodes[n.pos], s.nodes[o.pos] = n, o
}

func (s *segment) head() *node { return s.nodes[0] }

// behind says whether the rack comes after all others.
func (r *rack) behind() class {
	if r.class == ordinary && r.segs[0].head().slow {
		return slow
	}
	return r.class
}
