package tracker

import (
	"container/list"
	"net/netip"
	"slices"
	"time"
)

const (
	// missed is how many announces a node may miss before it is forgotten, and leastDead the least
	// time for it. It is no upstream any more long before that; see Topology.usable.
	missed    = 3
	leastDead = 15 * time.Second
	// maxGap is the longest silence of all nodes together that counts against each of them: when
	// nobody is heard for longer it was this process that did not listen. Unless it is very long.
	maxGap  = time.Second
	longGap = time.Minute

	smoothing = 0.5 // weight of the newest sample of a node's rate
	leastTime = 700 * time.Millisecond
	// goodFor is how long the best rate seen in the swarm is believed (it decays by 1/e in it).
	goodFor = time.Minute
)

// Report is what a node says of itself in an announce.
type Report struct {
	Node     string // survives a restart of the node
	Run      string // does not
	Addr     netip.AddrPort
	Rack     string           // nodes with the same one share a switch
	Done     int              // pieces that it can give
	Complete bool             // every piece
	Stalled  bool             // received nothing for a while
	Busy     bool             // so much waits for its disk that it takes no more, or soon will not
	Speed    int              // of its port, Mbit/s; 0 if it does not know
	Left     int64            // bytes of the pieces that it lacks; 0 if unknown
	Received int64            // bytes of pieces that came since it joined; 0 if it does not say
	Rate     int64            // bytes a second while pieces came lately, pauses between them left out; 0: too few came
	Disk     int64            // bytes a second that its disk took while something was written; 0 if unknown
	Lost     []netip.AddrPort // upstreams that ended the connection or cannot be reached
	Bad      []netip.AddrPort // upstreams that were turned away for bad pieces
}

// Place is where a node should take the image from.
type Place struct {
	Upstreams []netip.AddrPort // nodes, best first
	Seeder    bool             // the server's seeder too, after them
	Help      bool             // it is stalled: any other source is welcome
	Again     time.Duration    // when to ask again; 0: after Topology.Interval
}

// Topology arranges the nodes of one image. The nodes of a rack follow each other in a chain, each
// one taking the image from the one before it; on a full-duplex LAN that uses every link once in
// each direction. The racks (cut into segments of bounded length) are ordered too, and the head of
// a segment takes the image from the tail of the one before it. The first head takes it from the
// server's seeder. When there are too many nodes for a chain, segments and the order of segments
// become trees (see plan.go). Upstreams precede their node in a total order, so nobody waits for
// himself.
//
// It knows no clock and no network, so that a simulator can run it. It is not safe for concurrent use.
type Topology struct {
	o     Settings
	nodes map[string]*node
	all   []*node // in no order, for random picks
	addrs map[netip.AddrPort]*node
	seen  *list.List // of *node, by last announce, the oldest first
	racks map[rackKey]*rack
	ranks []*rack    // each takes the image from earlier ones
	order []*segment // likewise; the segments of a rack follow each other

	complete  int
	direct    takers // nodes that were told of the seeder
	compared  bool   // the first node has been compared with others: good is no slow node's rate
	judges    int    // Counts.Judges when nobody fetched
	headIs    *node  // that is to be, since headSince
	headSince time.Time

	shape   shape
	late    int  // nodes that came when others had much already, in a chain
	dirty   bool // the plan is older than what it was made of
	planned time.Time
	heard   time.Time     // the last announce of anybody
	alive   time.Duration // the clock of silence, which stands still when nobody at all is heard
	good    float64       // the best rate lately, pieces per second
	speeds  speeds
	ports   ports
	// pieceBytes is the size of a piece, by what nodes lack.
	pieceBytes float64
	bytes      float64 // of the image, by the most that a node lacked
	chainSet   bool    // Settings.Chain was given
	counts     Counts
}

// Counts are how often something out of the ordinary was done.
type Counts struct {
	Trials   int // the follower of a node was given the node's own upstream too
	Slowed   int // a node was found slow
	Swaps    int // a node was put before the one that it followed
	Helped   int // a stalled node was given another source
	Rescued  int // of them, the seeder
	Returned int // a node was silent and came back
	Moves    int // a segment's head was given another place
	Told     int // a node was slow by the speed of its port
	Acquits  int // a slow node was none
	Judges   int // a node with which the first one was compared in vain lost its place
	Shapes   int // the shape changed
}

// Counts are totals.
func (t *Topology) Counts() Counts { return t.counts }

type node struct {
	Report
	index int // in all
	seen  time.Time
	alive time.Duration
	// lost: a follower has lost it since it was heard last.
	lost   bool
	inSeen *list.Element
	seg    *segment
	pos    int // in seg.nodes

	rate       float64 // pieces per second, 0 while unknown
	fetchRate  float64 // of them, what came from others
	diskRate   float64 // of the disk, bytes per second, no more than flows; 0 while unknown
	samples    int     // since its upstreams changed
	sampled    time.Time
	sampleDone int
	fetched    float64 // of them, pieces that came from others
	class      class
	slow       bool
	slowSince  time.Time
	slowBehind *node     // its upstream then
	sender     bool      // it is slow because it sends slowly
	disk       bool      // it is slow because of its disk: that its port is fine says nothing
	proved     bool      // it is not slow, whatever the speed of its port
	speedClass int       // counted in Topology.speeds
	port       float64   // what it and its upstream were seen to carry, bytes per second; 0 while unknown
	low        int       // reports of less than others carry, and than flows, one after another
	lows       int       // of less than others carry
	answers    int       // since its upstreams changed
	calls      int       // announces
	accused    []*node   // followers that were found slow behind it, lately
	cleared    *node     // it was found slow behind this one, and not believed, as several were
	doubts     int       // how often it was found slow and its upstream was it
	bad        bool      // it has sent bad pieces
	accusedAt  time.Time //
	stalls     int       // reports of a stall, one after another
	cutOff     int       // of them, while its upstream had more than it
	stalledAt  time.Time // the first of them
	helpUntil  time.Time
	losses     int   // reports of upstreams that it lost
	blames     int   // upstreams that were found bad on its word
	avoid      *node // it lost the connection to this one
	avoidUntil time.Time
	trial      trial
	judged     *node // the first node, which was on trial for it
	judge      *node // the first node, behind which it was put to judge it, as its own port is fine

	ups    []*node // as it was told last
	takers takers  // unfinished nodes that were told to take from it
	direct bool    // was told of the seeder
}

// NewTopology makes an arrangement of no nodes.
func NewTopology(o Settings) *Topology {
	return &Topology{
		o:        o.withDefaults(),
		chainSet: o.Chain > 0,
		nodes:    make(map[string]*node),
		addrs:    make(map[netip.AddrPort]*node),
		seen:     list.New(),
		racks:    make(map[rackKey]*rack),
	}
}

// Interval is how often nodes should announce now: the fewer there are, the more often.
func (t *Topology) Interval() time.Duration {
	if t.o.Interval > 0 {
		return t.o.Interval
	}
	switch n := len(t.all); {
	case n <= quickNodes:
		return time.Second
	default:
		return max(2, time.Duration(n+maxRequests-1)/maxRequests) * time.Second
	}
}

// Announce takes a node's report and says where it should take the image from.
func (t *Topology) Announce(now time.Time, r Report) Place {
	t.Expire(now)
	n := t.nodes[r.Node]
	if n != nil && (n.Run != r.Run || n.Rack != r.Rack) {
		// It starts anew: nobody should wait behind it.
		t.remove(n)
		n = nil
	}
	back := n != nil && !t.usable(n)
	if n == nil {
		n = t.add(r)
	}
	t.update(now, n, r)
	if n.seg == nil {
		t.insert(n)
		t.plan(now)
	} else if back && !n.Complete {
		// While it was silent others have overtaken it.
		t.counts.Returned++
		t.unlink(n)
		n.rate, n.fetchRate, n.sampled = 0, 0, time.Time{}
		t.insert(n)
	}
	if r.Complete {
		t.told(n, nil, false)
		return Place{}
	}
	t.turnAway(now, n, r.Bad)
	t.judge(now, n)
	t.plan(now)
	p := t.place(now, n)
	p.Again = t.again(now, n)
	return p
}

// update takes over the report.
func (t *Topology) update(now time.Time, n *node, r Report) {
	if r.Complete != n.Complete {
		t.complete += map[bool]int{true: 1, false: -1}[r.Complete]
	}
	if n.Addr != r.Addr {
		if t.addrs[n.Addr] == n {
			delete(t.addrs, n.Addr)
		}
		t.addrs[r.Addr] = n
	}
	if n.stalls == 0 {
		n.stalledAt = now
	}
	n.stalls++
	n.cutOff++
	if r.Stalled {
		n.helpUntil = now.Add(t.helpTime())
	} else {
		n.stalls = 0
	}
	if !r.Stalled || len(n.ups) == 0 || n.ups[0].Done <= r.Done {
		n.cutOff = 0
	}
	if n.stalls > 1 && t.silentSource(now, n) && now.Sub(n.stalledAt) >= confirmStall/2 && (n.answers > 1 || now.Sub(n.ups[0].seen) > t.Interval()+time.Second/2) {
		// If that one were there it would have been waiting too, and have said so, or sent something.
		n.ups[0].lost = true
	}
	lost := false
	for _, a := range slices.Concat(r.Lost, r.Bad) {
		if up := t.addrs[a]; up != nil && up != n {
			up.lost = up.lost || n.losses < believed
			n.avoid, n.avoidUntil, lost = up, now.Add(avoidFor), true
		}
	}
	if lost {
		n.losses++
	}
	t.bytes = max(t.bytes, float64(r.Left))
	t.sample(now, n, r)
	t.speeds.count(n, r.Speed)
	n.calls++
	t.measure(now, n, r)
	t.measureDisk(n, r)
	r.Lost, r.Bad = nil, nil
	n.Report, n.seen, n.alive, n.lost = r, now, t.alive, false
	t.seen.MoveToBack(n.inSeen)
	t.pause()
}

// pause forgets, once no node fetches, what was learnt of those that did: the next ones may be others, at other switches, and
// their first one has to be compared again.
func (t *Topology) pause() {
	if t.complete == len(t.all) {
		t.compared, t.judges, t.headIs, t.good, t.ports = false, t.counts.Judges, nil, 0, ports{}
	}
}

// sample keeps a node's rate and the best of all. A node that resumes finds pieces on its disk many times faster than any port
// carries them: of the swarm that says nothing.
func (t *Topology) sample(now time.Time, n *node, r Report) {
	d := now.Sub(n.sampled)
	first := n.sampled.IsZero() || r.Done < n.sampleDone
	if !first && d < leastTime {
		return
	}
	fetched := t.fetched(r)
	if !first {
		weight := 1.0
		if n.samples > 0 {
			weight = smoothing
		}
		n.rate += weight * (float64(r.Done-n.sampleDone)/d.Seconds() - n.rate)
		n.fetchRate += weight * (max(0, fetched-n.fetched)/d.Seconds() - n.fetchRate)
		n.samples++
		t.good = max(t.good, n.fetchRate)
	}
	n.sampled, n.sampleDone, n.fetched = now, r.Done, fetched
}

// fetched is how many of a node's pieces came from others.
func (t *Topology) fetched(r Report) float64 {
	if r.Received <= 0 || t.bytes == 0 || t.o.Pieces == 0 {
		return float64(r.Done)
	}
	return min(float64(r.Done), float64(r.Received)/t.bytes*float64(t.o.Pieces))
}

// Leave takes out a node that said goodbye. A goodbye of an earlier run is ignored.
func (t *Topology) Leave(name, run string) {
	if n := t.nodes[name]; n != nil && n.Run == run {
		t.remove(n)
	}
}

// Expire takes out the nodes that were silent for too long.
func (t *Topology) Expire(now time.Time) {
	if d := now.Sub(t.heard); d > 0 {
		if !t.heard.IsZero() {
			if d > longGap {
				t.alive += d
			} else {
				t.alive += min(d, max(maxGap, t.o.Interval))
			}
			t.good -= t.good * min(1, d.Seconds()/goodFor.Seconds())
		}
		t.heard = now
	}
	limit := max(leastDead, missed*t.Interval()+t.Interval()/2)
	for e := t.seen.Front(); e != nil; e = t.seen.Front() {
		n := e.Value.(*node)
		if t.alive-n.alive <= limit {
			return
		}
		t.remove(n)
	}
}

// usable says whether a node was heard lately and nobody has lost it since.
func (t *Topology) usable(n *node) bool {
	i := t.Interval()
	return !n.lost && t.alive-n.alive <= 2*i+i/2+time.Second
}

// Needed says whether an unfinished node takes the image from this one, or soon will.
func (t *Topology) Needed(name string) bool {
	n := t.nodes[name]
	return n != nil && (n.takers.n > 0 || t.awaited(n))
}

// Len is how many nodes there are.
func (t *Topology) Len() int { return len(t.all) }

// Complete is how many nodes have every piece.
func (t *Topology) Complete() int { return t.complete }

// Direct is how many unfinished nodes were told of the seeder.
func (t *Topology) Direct() int { return t.direct.n }

// Knows says whether the node is arranged.
func (t *Topology) Knows(name string) bool { return t.nodes[name] != nil }

// Sample returns up to n different nodes at random.
func (t *Topology) Sample(n int) []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, i := range sample(len(t.all), n) {
		addrs = append(addrs, t.all[i].Addr)
	}
	return addrs
}

// told remembers what a node was told, for Needed and for the limit of direct clients.
func (t *Topology) told(n *node, ups []*node, direct bool) {
	n.answers++
	same := slices.Equal(n.ups, ups)
	if !same || direct != n.direct {
		n.samples, n.answers, n.low = 0, 1, 0
	}
	if !same {
		for _, u := range n.ups {
			t.feeds(&u.takers, -1)
		}
		for _, u := range ups {
			t.feeds(&u.takers, 1)
		}
	}
	n.ups = append(n.ups[:0], ups...)
	if direct != n.direct {
		t.feeds(&t.direct, map[bool]int{true: 1, false: -1}[direct])
		n.direct = direct
	}
}

func (t *Topology) add(r Report) *node {
	n := &node{Report: Report{Node: r.Node, Run: r.Run}, index: len(t.all)}
	n.inSeen = t.seen.PushBack(n)
	t.nodes[r.Node] = n
	t.all = append(t.all, n)
	return n
}

func (t *Topology) remove(n *node) {
	t.told(n, nil, false)
	t.speeds.count(n, 0)
	t.unlink(n)
	t.seen.Remove(n.inSeen)
	delete(t.nodes, n.Node)
	if t.addrs[n.Addr] == n {
		delete(t.addrs, n.Addr)
	}
	last := len(t.all) - 1
	t.all[n.index] = t.all[last]
	t.all[n.index].index = n.index
	t.all[last] = nil
	t.all = t.all[:last]
	if n.Complete {
		t.complete--
	}
	t.pause()
}
