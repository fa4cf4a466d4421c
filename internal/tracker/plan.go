package tracker

import (
	"container/heap"
	"math/bits"
	"time"
)

// Settings of a Topology. The zero value is good.
type Settings struct {
	Interval time.Duration // between a node's announces; 0: by the number of nodes
	Pieces   int           // of the image; 0 if unknown
	Segment  int           // nodes of one segment at most; 0 is 64
	Fan      int           // heads of other segments that one feeds in a tree; 0 is 2
	Chain    int           // nodes up to which all segments are one chain; 0: by chainBound
	Heads    int           // segments that the seeder feeds; 0 is 1
}

const (
	defSegment = 64
	defFan     = 2
	defHeads   = 1
	// A chain of n nodes ends n hops late, and a hop takes about as long as two to four pieces. A
	// binary tree takes twice as long as its image, however many nodes there are.
	chainShare = 4
	leastChain = 64

	quickNodes  = 256  // up to so many nodes announce every second
	maxRequests = 4000 // announces per second of more nodes

	sortShare   = 16 // of the pieces, by which a segment must be ahead to be put before another
	leastLate   = 8  // late nodes, and one in lateNodes, that are too many for a chain
	lateNodes   = 20
	tailGroup   = -1
	headGroup   = -2
	planEvery   = time.Second
	smallPlan   = 32 // segments: planned anew at once
	keepSurplus = 12 // hops by which another place must be better before a head moves
)

func (o Settings) withDefaults() Settings {
	if o.Segment <= 0 {
		o.Segment = defSegment
	}
	if o.Fan <= 0 {
		o.Fan = defFan
	}
	if o.Chain <= 0 {
		o.Chain = max(leastChain, o.Pieces/chainShare)
	}
	if o.Heads <= 0 {
		o.Heads = defHeads
	}
	return o
}

// slot is a place where the head of a segment can be fed.
type slot struct {
	place
	depth int
}

type place struct {
	seg   *segment // nil is the seeder
	group int
}

type slots []slot

func (h slots) Len() int { return len(h) }
func (h slots) Less(i, j int) bool {
	if h[i].depth != h[j].depth {
		return h[i].depth < h[j].depth
	}
	return h[i].before(h[j])
}

func (s slot) before(o slot) bool {
	if s.seg == nil || o.seg == nil {
		return s.seg == nil && o.seg != nil
	}
	return s.seg.at < o.seg.at || (s.seg.at == o.seg.at && s.group < o.group)
}

func (h slots) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *slots) Push(x any)   { *h = append(*h, x.(slot)) }
func (h *slots) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	*h = (*h)[:last]
	return s
}

// shape is how nodes and segments feed each other.
type shape uint8

const (
	// chain: each node feeds the next, the tail of a segment the head of the next one. A node of a chain has no
	// upload rate to spare: whoever feeds two halves the rate of both and of all behind them.
	chain shape = iota
	// trunk: each node feeds two, so takes twice as long as in a chain, but the rest comes for nothing. The heads
	// of the segments are a chain: a rack's uplink carries the image once each way.
	trunk
	// tree: two leaves of each segment feed heads of others, when there are too many racks even for a
	// chain of them.
	tree
)

// feeder is the place in a segment of the node that feeds the one at i, -1 for the head.
func (s shape) feeder(i int) int {
	switch {
	case i == 0 || s == chain:
		return i - 1
	case s == trunk:
		return i / 2
	}
	return (i - 1) / 2
}

// fed are the places of the nodes that take from the one at i, in its segment: from first, below end. The head of a
// trunk feeds the head of the next segment too.
func (s shape) fed(i int) (first, end int) {
	switch {
	case s == chain:
		return i + 1, i + 2
	case s == tree:
		return 2*i + 1, 2*i + 3
	case i == 0:
		return 1, 2
	}
	return 2 * i, 2*i + 2
}

// depth is how many hops the node that feeds others is behind the head of n nodes.
func (s shape) depth(n int) int {
	switch s {
	case chain:
		return n
	case trunk:
		return 1
	}
	return bits.Len(uint(n))
}

// fits is the shape for the nodes that there are. Nodes that are complete leave: that alone does
// not turn a tree into a chain again.
func (t *Topology) fits() shape {
	most := t.chainBound()
	many := len(t.all) > most || t.late > max(leastLate, len(t.all)/lateNodes)
	if !many && (t.shape == chain || len(t.all) <= most/4 && len(t.all) <= leastChain/4) {
		return chain
	}
	if len(t.order) > t.o.Chain || (t.shape == tree && len(t.order) > t.o.Chain/2) {
		return tree
	}
	return trunk
}

// plan decides which segment feeds which, if anything changed.
func (t *Topology) plan(now time.Time) {
	if !t.dirty || (len(t.order) > smallPlan && now.Sub(t.planned) < planEvery) {
		return
	}
	t.dirty, t.planned = false, now
	if to := t.fits(); to != t.shape {
		t.reshape(to)
		t.dirty = false
	}
	t.sortSegments()
	p := planner{
		shape: t.shape,
		fan:   t.o.Fan,
		taken: make(map[place]bool, len(t.order)),
	}
	for i := range t.o.Heads {
		p.free = append(p.free, slot{place: place{nil, i}})
	}
	var own slots
	for i, s := range t.order {
		if i == 0 || t.order[i-1].rack != s.rack {
			own = nil
		}
		p.attach(s, &own)
		p.offer(s, &own)
	}
	t.counts.Moves += p.moves
}

type planner struct {
	shape shape
	fan   int
	free  slots
	taken map[place]bool
	moves int
}

// attach finds a segment's place: in its own rack, else anywhere before it. It stays where it is
// unless another place is much better.
func (p *planner) attach(s *segment, own *slots) {
	from := own
	best, ok := p.best(own)
	if !ok {
		from = &p.free
		best, ok = p.best(from)
	}
	old := place{s.parent, s.group}
	if s.parent != nil && p.keeps(s, from == own) && !p.taken[old] && (!ok || p.depth(old) <= best.depth+keepSurplus) {
		best = slot{old, p.depth(old)}
	}
	p.taken[best.place] = true
	if best.place != old {
		p.moves++
	}
	s.parent, s.group, s.depth = best.seg, best.group, best.depth
}

// keeps says whether a segment's old place is still on offer.
func (p *planner) keeps(s *segment, own bool) bool {
	return s.parent.at < s.at && s.group < s.parent.groups && p.shape.has(s.group) && (!own || s.parent.rack == s.rack)
}

// best returns the least deep slot that is free. There is one: each segment takes one and offers
// one at least.
func (p *planner) best(from *slots) (slot, bool) {
	for from.Len() > 0 {
		if s := (*from)[0]; !p.taken[s.place] {
			return s, true
		}
		heap.Pop(from)
	}
	return slot{}, false
}

func (p *planner) depth(at place) int { return at.seg.depth + p.shape.depth(len(at.seg.nodes)) }

// has says whether a shape has such a place for the head of another segment.
func (s shape) has(group int) bool {
	switch s {
	case chain:
		return group == tailGroup
	case trunk:
		return group == headGroup
	}
	return group >= 0
}

// offer adds the places that a segment has for others.
func (p *planner) offer(s *segment, own *slots) {
	s.groups = 0
	groups := []int{tailGroup}
	switch p.shape {
	case trunk:
		groups[0] = headGroup
	case tree:
		groups, s.groups = groups[:0], p.fan
		for g := range p.fan {
			groups = append(groups, g)
		}
	}
	for _, g := range groups {
		at := place{s, g}
		x := slot{at, p.depth(at)}
		heap.Push(&p.free, x)
		heap.Push(own, x)
	}
}

// sortSegments puts first those that have more pieces, if it is much more.
func (t *Topology) sortSegments() {
	margin := max(4*t.margin(), t.o.Pieces/sortShare)
	for _, r := range t.ranks {
		for i := 1; i < len(r.segs); i++ {
			for j := i; j > 0 && r.segs[j].head().Done > r.segs[j-1].head().Done+margin; j-- {
				r.segs[j], r.segs[j-1] = r.segs[j-1], r.segs[j]
			}
		}
	}
	for i := 1; i < len(t.ranks); i++ {
		for j := i; j > 0 && t.ranks[j].precedes(t.ranks[j-1], margin); j-- {
			t.ranks[j], t.ranks[j-1] = t.ranks[j-1], t.ranks[j]
		}
	}
	t.order = t.order[:0]
	for _, r := range t.ranks {
		for _, s := range r.segs {
			s.at = len(t.order)
			t.order = append(t.order, s)
		}
	}
}

func (r *rack) precedes(o *rack, margin int) bool {
	if x, y := r.behind(), o.behind(); x != y {
		return x < y
	}
	return r.segs[0].head().Done > o.segs[0].head().Done+margin
}
