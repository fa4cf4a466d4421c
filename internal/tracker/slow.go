package tracker

import (
	"cmp"
	"math"
	"slices"
	"time"
)

const (
	// lowShare is below which share of what most ports carry one is slow, if two reports say so: of a port of its own, and
	// of one that it shares, where it takes part of what the other leaves.
	lowShare   = 0.5
	lowShared  = 0.62
	lowReports = 2
	// portQuantile is what most ports carry: the quantile of what was seen of all.
	portQuantile = 0.75
	leastPorts   = 2
	maxTakers    = 2
	// patientLow is for how many low reports a node waits until its upstream's port is known.
	patientLow = 4
	// accusers is how many slow followers one after another, within accuseFor, make their upstream the slow one: two
	// slow nodes may well stand side by side.
	accusers  = 3
	accuseFor = time.Minute
	// maxDoubts is how often a node that was found slow is none since its upstream turned out to be slow: where many are, it may well be both.
	maxDoubts = 2
	// slowClasses is by how many classes of speed a slow port differs from most: half of the rate.
	slowClasses = 2
)

// speeds counts the speeds that nodes tell of their ports, in half octaves.
type speeds struct {
	nodes [64]int
	sum   int
}

// speedClass is 0 for a speed that is not known.
func speedClass(mbit int) int {
	if mbit <= 0 {
		return 0
	}
	return min(63, 1+int(math.Round(2*math.Log2(float64(mbit)))))
}

// count notes a node's speed, 0 for none.
func (s *speeds) count(n *node, mbit int) {
	c := speedClass(mbit)
	if c == n.speedClass {
		return
	}
	if n.speedClass > 0 {
		s.nodes[n.speedClass]--
		s.sum--
	}
	if c > 0 {
		s.nodes[c]++
		s.sum++
	}
	n.speedClass = c
}

// slow says whether a port is slower than those of most nodes that know theirs.
func (s *speeds) slow(class int) bool {
	if class == 0 {
		return false
	}
	faster := 0
	for c := class + slowClasses; c < len(s.nodes); c++ {
		faster += s.nodes[c]
	}
	return 2*faster > s.sum
}

// takers counts who takes from one port.
type takers struct {
	n     int
	most  int // lately, until the last change
	since time.Time
}

// feeds notes that more or fewer take from a port. It asks for no clock: something was heard just now.
func (t *Topology) feeds(x *takers, by int) {
	if t.heard.Sub(x.since) > 2*t.Interval() {
		x.most = 0
	}
	x.most = max(x.most, x.n)
	x.n, x.since = x.n+by, t.heard
}

// mostSince is by how many the port was shared at a time since then.
func (x *takers) mostSince(then time.Time) int {
	if x.since.After(then) {
		return max(x.n, x.most)
	}
	return x.n
}

// ports knows what the ports of most nodes carry, in bytes per second.
type ports struct {
	usual float64
	known int // nodes that it is of
	// others is how many nodes that are not slow still fetch. Without any, what flows is what slow ones take, and says nothing.
	others int
	made   time.Time
	seen   []float64 // scratch
}

// measure takes a node's rate: that of pieces while they came, however long the pauses between
// them were. So it tells of the port even behind a node that has little to send, and the slow nodes
// of a long chain are seen all at once. A node that feeds several shares its port among them.
func (t *Topology) measure(now time.Time, n *node, r Report) {
	if r.Rate <= 0 || n.answers < 1 || len(n.ups) > 1 || (len(n.ups) == 1 && n.direct) {
		return // its sources have just changed, or are several
	}
	from := &t.direct
	if len(n.ups) == 1 {
		from = &n.ups[0].takers
	}
	takers := from.n
	most := max(takers, min(maxTakers, from.mostSince(n.seen)))
	if takers > maxTakers {
		return // what is left for each is little more than a slow port takes
	}
	n.port = float64(r.Rate) * float64(max(1, takers))
	if most > takers && !n.slow {
		// For how long it shared the port nobody knows: it carries more than that, but not more than others for what is known.
		n.port = max(n.port, min(float64(r.Rate)*float64(most), t.ports.usual))
	}
	t.usualPort(now)
	if t.lessThanOthers(n) {
		n.lows++
	} else {
		n.lows = 0
	}
	if r.Left > 0 && t.o.Pieces > r.Done {
		t.pieceBytes = float64(r.Left) / float64(t.o.Pieces-r.Done)
	}
	if len(n.ups) == 1 && n.ups[0].slow && !n.slow {
		n.port, n.low = 0, 0 // that says nothing of its own port
		return
	}
	if n.port < lowOf(most)*t.ask() {
		n.low++
	} else {
		n.low = 0
	}
}

// lessThanOthers says whether a port carries less than others do, whatever the reason: the server may be what is slow.
func (t *Topology) lessThanOthers(n *node) bool {
	return n.port > 0 && t.ports.known > leastPorts && n.port < lowShare*t.ports.usual
}

func lowOf(takers int) float64 {
	if takers > 1 {
		return lowShared
	}
	return lowShare
}

// ask is what a port should carry, in bytes per second: what most do, but no more than flows. A server with a
// slower port, or a limit of its own, leaves all others room to spare. It is 0 while unknown.
func (t *Topology) ask() float64 {
	flow := t.good * t.pieceBytes
	if t.shape != chain {
		flow *= float64(t.o.Fan)
	}
	return min(t.ports.usual, flow)
}

// usualPort keeps what most ports carry.
func (t *Topology) usualPort(now time.Time) {
	p := &t.ports
	if p.known > leastPorts && now.Sub(p.made) < t.Interval()/4 {
		return // not while the first node waits for so many
	}
	p.made, p.seen, p.usual, p.others = now, p.seen[:0], 0, 0
	for _, n := range t.all {
		if !n.slow && !n.Complete {
			p.others++
		}
		if n.port > 0 && !n.slow {
			p.seen = append(p.seen, n.port)
		}
	}
	if p.known = len(p.seen); p.known >= leastPorts {
		slices.SortFunc(p.seen, cmp.Compare[float64])
		p.usual = p.seen[int(portQuantile*float64(len(p.seen)-1)+0.5)]
	}
}

// judgePort makes a node slow, or no longer, by what it tells of its port and what was measured of it.
func (t *Topology) judgePort(now time.Time, n *node) {
	told := t.speeds.slow(n.speedClass) && !n.proved
	switch {
	case !n.slow && told:
		t.counts.Told++
		n.slowBehind, n.trial = nil, trial{}
		t.setSlow(now, n, true)
	case n.slow && now.Sub(n.slowSince) > slowLeast && !n.sender && (!n.disk || n.fetchRate >= fineShare*t.usual()) && n.port > 0 && n.port >= fineShare*t.ask() && t.ports.usual > 0 && t.ports.others > 0:
		n.proved = n.speedClass > 0
		t.acquit(now, n)
	case !n.slow && n.low >= lowReports && len(n.ups) == 1 && n.ups[0].seg != nil:
		t.accuse(now, n, n.ups[0])
	}
}

// accuse finds a node slow, whose connection to its upstream carries less than those of others. If
// that was so with several nodes behind that upstream, it is the slow one, and they are not.
func (t *Topology) accuse(now time.Time, n, u *node) {
	if !u.slow && !u.Complete && (u.low > 0 || (u.port == 0 && n.low < patientLow)) {
		return // it is judged first
	}
	n.low = 0
	if u.slow {
		return // found slow since, by what others say or before n had anything more from it: see measure
	}
	if now.Sub(u.accusedAt) > accuseFor {
		u.accused = u.accused[:0]
	}
	if u.accusedAt = now; !slices.Contains(u.accused, n) {
		u.accused = append(u.accused, n)
	}
	if len(u.accused) < accusers || u.Complete {
		t.slow(now, n)
		return
	}
	u.sender = true
	for _, v := range u.accused {
		v.cleared = u
	}
	t.slow(now, u)
}

// believe draws the conclusions from a node that was just found slow: what comes through it says nothing of those that it fed. And if
// it was taken for the cause of another's low rate, together with others, then they were right neither.
func (t *Topology) believe(now time.Time, n *node) {
	for _, v := range n.accused {
		if v.slow && !v.sender && v.slowBehind == n && v.doubts < maxDoubts && t.nodes[v.Node] == v && now.Sub(v.slowSince) < accuseFor {
			v.doubts++
			t.acquit(now, v)
		}
	}
	n.accused = nil
	u := n.cleared
	n.cleared = nil
	if u != nil && u != n.slowBehind && u.slow && u.sender && !u.bad && t.nodes[u.Node] == u {
		u.sender = false
		t.acquit(now, u)
	}
}

// acquit gives a slow node a place among the others.
func (t *Topology) acquit(now time.Time, n *node) {
	t.counts.Acquits++
	n.low, n.port = 0, 0
	t.setSlow(now, n, false)
}

// portIsFine says whether the node was seen to take what others take.
func (t *Topology) portIsFine(n *node) bool {
	return n.port > 0 && n.low == 0
}

// capacity is what goes from node to node where no disk holds it back, in bytes per second; 0 while unknown.
func (t *Topology) capacity() float64 { return max(t.good*t.pieceBytes, t.ports.usual) }

// measureDisk takes the rate of a node's disk. What it takes beyond that, until its own cache is full, says nothing.
func (t *Topology) measureDisk(n *node, r Report) {
	rate := min(float64(r.Disk), t.capacity())
	switch {
	case rate == 0:
	case n.diskRate == 0:
		n.diskRate = rate
	default:
		n.diskRate += smoothing * (rate - n.diskRate)
	}
}

// diskIsSlow says whether the disk of p, which feeds n, is slow: as much waits for it as may, and it takes much less than n's and than
// flows. Disks that are all alike, or all get slow when their own caches are full, hold back nobody.
func (t *Topology) diskIsSlow(n, p *node) bool {
	need := t.capacity()
	if t.shape != chain {
		need /= 2
	}
	return p.Busy && !p.slow && !p.Complete && !n.slow && p.diskRate > 0 && p.diskRate < slowDisk*min(n.diskRate, need)
}
