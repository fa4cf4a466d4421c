package tracker

import (
	"net/netip"
	"time"
)

const (
	// helpFor is how long a node that reported a stall keeps its additional upstream: taken away
	// at once, it would stall again behind an upstream that is still slow. At most half of the time of the image, but
	// leastHelp: of a small one it would take all that is left from there.
	helpFor   = 10 * time.Second
	leastHelp = 2 * time.Second
	avoidFor  = 15 * time.Second
	// believed is how many losses of upstreams are taken for the upstreams' fault. A node behind a switch that keeps ports apart
	// reaches none of them, and nobody should lose his place for it. That it gets along proves nothing: it keeps the connection to
	// the seeder until it has one to a node.
	believed = 2
	maxClimb = 8  // upstreams of upstreams that are looked at
	hopeless = 10 // intervals of a stall
	// longStall is how many times as long a stall is hopeless of a node that has no piece yet, when the server may be what is slow,
	// and of a slow one, that may have been put behind nodes that came later.
	longStall = 3

	slowShare  = 0.6  // of the best rate: a node below it is looked at closer
	verySlow   = 0.4  // of the best rate: slow, though its follower is no faster
	slowDisk   = 0.75 // of what the next disk takes and flows: it is slow
	fineShare  = 0.8  // of the best rate: a slow node that reaches it is none
	slowLeast  = 5 * time.Second
	trialTime  = 2500 * time.Millisecond
	trialPause = 15 * time.Second
	leastLead  = 8 // pieces
	// trialPieces is from which size of an image on the first node is compared with others, and trialWait how long
	// they may take to tell of their ports. A trial of the first node costs all of them half of its time: the seeder
	// sends each byte of it twice.
	trialPieces = 512
	trialWait   = 2500 * time.Millisecond
	// maxJudges is how many nodes one after another make room for another one to be compared with the first: the server may be what is slow.
	maxJudges = 8
	// comparePace is how often its follower comes until the first node is compared: the answer goes to the follower, and behind
	// a slow first node all go at its pace until then.
	comparePace = 300 * time.Millisecond

	// stallNotice is about how long nothing has come when a node says so. A node that was heard after it and has
	// nothing to send is waiting itself. confirmStall is when the node should say it again: if its
	// upstream has not been heard until then, it is dead.
	stallNotice  = 500 * time.Millisecond
	confirmStall = 500 * time.Millisecond
	fewStalls    = 4
	confirmLow   = time.Second
)

// trial is the time in which a node's follower may also take from the node's own upstream. If it
// gets ahead of the node then the node is what holds it back, and loses its place.
type trial struct{ until, after time.Time }

// margin is by how many pieces a node must be ahead of another to be sure of it: reports are old
// by up to an interval.
func (t *Topology) margin() int {
	return max(leastLead, int(t.good*t.Interval().Seconds()/2))
}

// usual is the rate that a node should have: in a tree two share what one sends.
func (t *Topology) usual() float64 {
	if t.shape != chain {
		return t.good / 2
	}
	return t.good
}

// muchLead is by how many pieces a node's upstream is ahead of it only if one of them is slow.
func (t *Topology) muchLead() int {
	return max(leastLead, int(t.good*(t.Interval().Seconds()+0.5)))
}

// estimate is how many pieces a node has by now.
func (t *Topology) estimate(now time.Time, n *node) int {
	e := n.Done + int(n.rate*min(now.Sub(n.seen), 2*t.Interval()).Seconds())
	if t.o.Pieces > 0 {
		e = min(e, t.o.Pieces)
	}
	return e
}

// judge moves a node before those that it has overtaken.
func (t *Topology) judge(now time.Time, n *node) {
	t.judgePort(now, n)
	if n.slow && n.port == 0 && !n.sender && !t.speeds.slow(n.speedClass) && now.Sub(n.slowSince) > slowLeast && n.samples > 1 && n.fetchRate >= fineShare*t.usual() {
		// It was not its fault.
		if u := n.slowBehind; u != nil && u.seg != nil && !u.slow && !u.Complete && t.shape == chain {
			u.sender = true
			t.slow(now, u)
		}
		t.setSlow(now, n, false)
		return
	}
	if p := t.feeder(n); p != nil && t.diskIsSlow(n, p) {
		t.slow(now, p)
		return
	}
	for range maxClimb {
		p := t.feeder(n)
		if p == nil || !t.isAhead(now, n, p) {
			return
		}
		if n.pos == 0 {
			t.judgeFeeder(now, n, p)
			return
		}
		if !p.slow && !t.portIsFine(p) && p.samples > 0 && p.rate < slowShare*n.fetchRate && t.lead(now, p) > leastLead {
			t.slow(now, p)
		} else {
			t.counts.Swaps++
			n.seg.swap(n, p)
			t.dirty = true
		}
	}
}

// isAhead says whether n has overtaken p, which feeds it: not if nobody knows what that one has by now.
func (t *Topology) isAhead(now time.Time, n, p *node) bool {
	return !p.Complete && !n.slow && n.Done > t.estimate(now, p)+t.margin() && (p.rate != 0 || now.Sub(p.seen) <= t.Interval()/4)
}

// feeder is the node that feeds n by the order of both, nil for the seeder.
func (t *Topology) feeder(n *node) *node {
	if n.pos > 0 {
		return n.seg.nodes[t.shape.feeder(n.pos)]
	}
	s := n.seg.parent
	switch {
	case s == nil || s.at >= n.seg.at || len(s.nodes) == 0:
		return nil
	case n.seg.group == headGroup:
		return s.head()
	}
	return s.nodes[len(s.nodes)-1]
}

// judgeFeeder judges the node p of another segment that feeds n, the head of its own. Their places are not swapped: each is in its
// rack. In a chain a slow disk of which nobody tells sinks from trial to trial to the end of its rack, and holds back all racks after it.
func (t *Topology) judgeFeeder(now time.Time, n, p *node) {
	if (p.Busy || p.direct) && !p.slow && p.rate < slowShare*n.fetchRate && t.lead(now, p) > leastLead {
		t.slow(now, p)
	}
}

// turnAway puts nodes behind all others, for good, that have sent bad pieces to n: their memory or network card is broken, and whoever
// comes behind them would need another source too. A node that says so of many is the one that is broken.
func (t *Topology) turnAway(now time.Time, n *node, bad []netip.AddrPort) {
	for _, a := range bad {
		u := t.addrs[a]
		if u == nil || u == n || u.seg == nil || u.Complete || u.bad || n.blames >= believed {
			continue
		}
		n.blames++
		u.bad = true
		u.sender = true
		t.slow(now, u)
	}
}

// slow puts a node behind all others.
func (t *Topology) slow(now time.Time, n *node) {
	t.counts.Slowed++
	n.slowBehind = nil
	if len(n.ups) > 0 {
		n.slowBehind = n.ups[0]
	}
	n.trial, n.disk = trial{}, n.Busy
	t.setSlow(now, n, true)
	t.believe(now, n)
}

// again is when a node should come back, if that is sooner than usual: what it said needs to be confirmed.
func (t *Topology) again(now time.Time, n *node) time.Duration {
	switch {
	case n.Stalled && n.stalls < fewStalls && t.silentSource(now, n):
		return confirmStall
	case n.low == 1 || (n.Stalled && n.cutOff == 1):
		return min(confirmLow, t.Interval())
	case len(n.ups) == 1 && t.comparing(n, n.ups[0]):
		return comparePace
	}
	return t.pace(n)
}

// silentSource says whether the node's upstream has not been heard since nothing comes from it.
func (t *Topology) silentSource(now time.Time, n *node) bool {
	if len(n.ups) == 0 || n.ups[0].Complete {
		return false
	}
	u := n.ups[0]
	if u.Stalled && now.Sub(u.seen) <= t.Interval()+stallNotice {
		return false // it has said that it waits
	}
	return u.seen.Before(n.stalledAt.Add(-stallNotice))
}

// place answers a node that is not complete.
func (t *Topology) place(now time.Time, n *node) (p Place) {
	ups, seeder := t.upstreams(now, n, make([]*node, 0, 4))
	if first(ups) != first(n.ups) || !n.Stalled && len(ups) == 0 {
		n.helpUntil = time.Time{} // help was against another upstream; the seeder as help or on trial would be kept behind any
	}
	if len(ups) == 1 && (ups[0].seg == n.seg || ups[0].Busy || ups[0].direct) {
		ups, seeder = t.try(now, n, ups)
	}
	if now.Before(n.helpUntil) {
		p.Help = true
		if len(ups) < 2 && !seeder {
			ups, seeder = t.help(now, n, ups)
		}
	}
	t.told(n, ups, seeder)
	p.Seeder = seeder
	for _, u := range ups {
		p.Upstreams = append(p.Upstreams, u.Addr)
	}
	return p
}

// first is the upstream that the plan says, nil for none.
func first(ups []*node) *node {
	if len(ups) == 0 {
		return nil
	}
	return ups[0]
}

// help adds one more source to a stalled node's only one, if that has what the node lacks. If it
// has not then it is starved itself: help is due further up, and what comes will pass by.
func (t *Topology) help(now time.Time, n *node, ups []*node) (_ []*node, seeder bool) {
	if n.direct {
		return ups, true
	}
	limit, patience := t.maxDirect(), hopeless*t.Interval()
	if n.Done == 0 || n.slow {
		patience *= longStall
	}
	stall := now.Sub(n.stalledAt)
	if len(ups) > 0 && n.cutOff < 2 && ups[0].Done-n.Done <= t.muchLead() {
		limit = t.o.Heads + 1 // one at a time, for what nobody foresaw
		if n.Done == 0 && !ups[0].direct || stall < patience {
			return ups, false
		}
	} else if a := t.ahead(now, n, ups); a != nil && (n.losses <= believed || t.direct.n >= limit) {
		t.counts.Helped++
		return append(ups, a), false
	}
	// A complete upstream may be unable to read what this one lacks, and one that announces may have a disk that hangs.
	if t.direct.n >= limit || n.slow && stall < patience {
		return ups, false
	}
	t.counts.Helped++
	t.counts.Rescued++
	return ups, true
}

// maxDirect is how many nodes may take from the seeder beside the first.
func (t *Topology) maxDirect() int { return t.o.Heads + 2 + len(t.all)/1000 }

// ok says whether n can be sent to u now.
func (t *Topology) ok(now time.Time, n, u *node) bool {
	return t.usable(u) && (n.avoid != u || !now.Before(n.avoidUntil))
}

// upstreams appends where the plan has the node take the image from.
func (t *Topology) upstreams(now time.Time, n *node, ups []*node) (_ []*node, seeder bool) {
	s := n.seg
	for from := t.shape.feeder(n.pos); from >= 0; from = t.shape.feeder(from) {
		if u := s.nodes[from]; t.ok(now, n, u) {
			return append(ups, u), false
		}
	}
	return t.feed(now, n, s, ups)
}

// feed appends the upstreams of a segment's head: those that the plan says, or those of a segment further up, or the seeder;
// but one of its own rack that is complete in place of any outside of it.
func (t *Topology) feed(now time.Time, n *node, s *segment, ups []*node) (_ []*node, seeder bool) {
	ups, seeder = t.above(now, n, s, ups)
	if seeder || ups[0].Rack != n.Rack {
		if u := t.home(n); u != nil && t.ok(now, n, u) {
			return append(ups[:0], u), false
		}
	}
	return ups, seeder
}

func (t *Topology) above(now time.Time, n *node, s *segment, ups []*node) (_ []*node, seeder bool) {
	for range maxClimb {
		p := s.parent
		if p == nil || p.at >= n.seg.at {
			break
		}
		ups = t.group(now, n, p, s.group, ups)
		if len(ups) > 0 {
			return ups, false
		}
		s = p
	}
	return ups, true
}

// group appends the node of a segment that feeds others from the given place: the last one, or one
// near the end, where a tree has its leaves, or near the head.
func (t *Topology) group(now time.Time, n *node, p *segment, group int, ups []*node) []*node {
	// One that is a little behind will come: to go elsewhere would make a third of a pair. In a chain all that are not too late are
	// waited for: who feeds two there leaves both with half of the rate to their end.
	patience := 2 * t.margin()
	if t.shape == chain {
		patience = t.lateBy()
	}
	good := func(u *node) bool {
		return t.ok(now, n, u) && (n.slow || (!u.slow && t.estimate(now, u)+patience >= n.Done))
	}
	if group == headGroup {
		for i, u := range p.nodes {
			if i < maxClimb && good(u) {
				return append(ups, u)
			}
		}
		return ups
	}
	for i := max(0, len(p.nodes)-1-max(0, group)); i >= 0; i-- {
		if good(p.nodes[i]) {
			return append(ups, p.nodes[i])
		}
	}
	return ups
}

// try adds the upstream of a node's upstream while the latter is on trial.
func (t *Topology) try(now time.Time, n *node, ups []*node) (_ []*node, seeder bool) {
	u := ups[0]
	inTree := t.shape != chain && t.compared
	if u.Complete || n.slow || inTree && !u.Busy {
		return ups, false
	}
	if !now.Before(u.trial.until) {
		if t.poorJudge(n, u) {
			t.otherJudge(now, n, u)
			return t.upstreams(now, n, ups[:0])
		}
		if !t.suspect(now, n, u) {
			return ups, false
		}
		share := verySlow
		if inTree {
			share = slowShare // it says itself that it is
		}
		if !u.slow && !u.direct && u.rate < share*t.usual() && t.lead(now, u) > t.muchLead() {
			// No time for a trial. If it is its upstream that sends slowly, that will be found then.
			t.slow(now, u)
			t.plan(now)
			return t.upstreams(now, n, ups[:0])
		}
		if now.Before(u.trial.after) || inTree && !u.direct { // in a tree a trial would cost all below; on the first node all hangs
			return ups, false
		}
		t.counts.Trials++
		if u.isFirst() {
			n.judged = u
		}
		u.trial = trial{now.Add(max(trialTime, 5*t.Interval()/2)), now.Add(trialPause)}
	}
	if !n.Stalled && u.Done >= 2*leastLead && u.Done >= n.Done && u.rate >= slowShare*t.usual() && (u.port == 0 || u.port >= slowShare*t.ports.usual) {
		return ups, false
	}
	second, seeder := t.upstreams(now, u, nil)
	if seeder && !n.direct && t.direct.n >= t.maxDirect() {
		return ups, false
	}
	if len(second) > 0 && second[0] != n {
		ups = append(ups, second[0])
	}
	return ups, seeder
}

// suspect says whether an upstream u of n may be what holds n back.
func (t *Topology) suspect(now time.Time, n, u *node) bool {
	if t.comparing(n, u) {
		return t.suspectHead(now, u)
	}
	if t.estimate(now, u)-n.Done > t.margin() {
		return false // n could get more from it
	}
	if u.direct && n.Stalled && n.Done > 0 && !u.Stalled {
		return true // the first node receives, and gives nothing
	}
	lead := t.lead(now, u)
	if u.Busy {
		return lead > leastLead && (u.diskRate == 0 || n.diskRate == 0) // or both are known, and judged
	}
	if t.portIsFine(u) {
		return false // it waits for its own upstream
	}
	if t.o.Pieces > 0 && t.o.Pieces < trialPieces {
		return false // it is over before anything is certain
	}
	return u.samples > 0 && u.rate < slowShare*t.usual() && lead > t.muchLead()
}

// suspectHead says, once, whether the first node may be what holds all others back. By the rate of the swarm nobody
// can see that; but whole pieces come to the nodes further down as fast as their own ports take them, however seldom.
// If they come no faster than to the first one then its port is like theirs. If they do then it may
// be the server that is slow: only a trial tells. So it does where nobody else has told of his port.
func (t *Topology) suspectHead(now time.Time, u *node) bool {
	if t.headIs != u {
		t.headIs, t.headSince = u, now
	}
	if u.port > 0 && t.ports.known > leastPorts {
		t.compared = true
		// In the first second what comes to the others has pauses, after which a shaper or a buffer lets a burst pass: they
		// were seen to say 1.45 times what their ports carry.
		return t.lessThanOthers(u)
	}
	t.compared = now.Sub(t.headSince) >= trialWait
	return t.compared
}

// isFirst says whether a node is the first one, which all others hang on.
func (n *node) isFirst() bool { return n.direct && n.pos == 0 }

// comparing says whether a node's upstream is the first node, and that one not compared yet, or not by this node although it has turned
// out that its port carries less than others. What is known first is of the first nodes, which may be slow all together.
func (t *Topology) comparing(n, u *node) bool {
	return t.o.Pieces >= trialPieces && !n.slow && u.isFirst() && !u.Complete && (!t.compared || n.judged != u && u.lows >= lowReports)
}

// poorJudge says whether the trial of the first node u told nothing because n, which did not get ahead of it, may itself be slow: whole
// pieces come to it no faster.
func (t *Topology) poorJudge(n, u *node) bool {
	return n.judged == u && n.judge != u && u.isFirst() && t.counts.Judges-t.judges < maxJudges && t.lessThanOthers(u) && t.lessThanOthers(n)
}

// otherJudge puts another node in n's place behind the first one, u: of the same rack, one to which pieces come as fast as to others, however
// seldom. If that one does not get ahead of u either, the server is what is slow. Where there is none n is put behind all, for the next one.
func (t *Topology) otherJudge(now time.Time, n, u *node) {
	t.counts.Judges++
	u.trial = trial{}
	if n.seg == u.seg {
		for _, v := range n.seg.nodes[n.pos+1:] {
			if !v.slow && t.usable(v) && v.port >= fineShare*t.ports.usual {
				v.judge = u
				n.seg.swap(n, v)
				t.dirty = true
				return
			}
		}
	}
	t.slow(now, n)
	t.plan(now)
}

// lead is how many pieces a node's upstream has that the node may lack.
func (t *Topology) lead(now time.Time, u *node) int {
	if u.direct {
		return 1 << 30
	}
	if len(u.ups) == 0 {
		return 0
	}
	return t.estimate(now, u.ups[0]) - t.estimate(now, u)
}

// ahead looks for somebody who has pieces that n lacks, up the way of the data.
func (t *Topology) ahead(now time.Time, n *node, ups []*node) *node {
	if len(ups) == 0 {
		return nil
	}
	u := ups[len(ups)-1]
	for range maxClimb {
		if len(u.ups) == 0 {
			return nil
		}
		u = u.ups[0]
		if u.seg == nil || !u.precedes(n) {
			return nil
		}
		if t.ok(now, n, u) && t.estimate(now, u) > n.Done+leastLead {
			return u
		}
	}
	return nil
}

// precedes is the order in which the image flows.
func (n *node) precedes(o *node) bool {
	if n.seg != o.seg {
		return n.seg.at < o.seg.at
	}
	return n.pos < o.pos
}
