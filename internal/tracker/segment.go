package tracker

import (
	"slices"
	"time"
)

// rack are the nodes behind one switch, in segments. The slow ones are a rack of their own, which
// comes after all others: whoever feeds them has less for anybody else.
type rack struct {
	rackKey
	segs []*segment
}

type rackKey struct {
	name string
	slow bool
}

// segment is a chain of nodes of one rack, in the order in which they take the image from each other.
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
	key := rackKey{n.Rack, n.slow}
	r := t.racks[key]
	if r == nil {
		r = &rack{rackKey: key}
		t.racks[key] = r
		t.ranks = append(t.ranks, r)
	}
	i := slices.IndexFunc(r.segs, func(s *segment) bool { return len(s.nodes) < t.o.Segment })
	if i < 0 {
		i = len(r.segs)
		s := &segment{rack: r, at: len(t.order), group: tailGroup}
		if s.at > 0 {
			s.parent = t.order[(s.at-1)/2] // until the next plan
		}
		r.segs = append(r.segs, s)
		t.order = append(t.order, s)
	}
	s := r.segs[i]
	at := len(s.nodes)
	for at > 0 && !t.tree && s.nodes[at-1].Done < n.Done {
		at--
	}
	s.put(n, at)
	t.dirty = true
}

func (t *Topology) unlink(n *node) {
	s := n.seg
	if s == nil {
		return
	}
	s.take(n, t.tree)
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
func (s *segment) take(n *node, tree bool) {
	n.seg = nil
	if !tree {
		s.nodes = slices.Delete(s.nodes, n.pos, n.pos+1)
		s.number(n.pos)
		return
	}
	last := len(s.nodes) - 1
	i := n.pos
	for c := 2*i + 1; c <= last; c = 2*i + 1 {
		if c < last && s.nodes[c+1].Done > s.nodes[c].Done {
			c++
		}
		s.nodes[i] = s.nodes[c]
		s.nodes[i].pos = i
		i = c
	}
	if i < last {
		s.nodes[i] = s.nodes[last]
		s.nodes[i].pos = i
	}
	s.nodes[last] = nil
	s.nodes = s.nodes[:last]
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
