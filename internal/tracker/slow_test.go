package tracker

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// line drives nodes n0, n1, ... of one rack that announce every second. What they tell of their
// ports is given; they get along at the rate of the swarm.
type line struct {
	t     *testing.T
	top   *Topology
	now   time.Time
	done  int
	rates map[int]int64 // bytes per second while pieces come; 0 in place of 100 MB/s
	speed map[int]int
	place map[int]Place
	racks int // nodes of a rack, 0: all
}

func newLine(t *testing.T, s Settings) *line {
	s.Pieces = 4000
	return &line{t: t, top: NewTopology(s), now: epoch, rates: map[int]int64{}, speed: map[int]int{}, place: map[int]Place{}}
}

// sixRunning is a line of six nodes a second after its fourth round.
func sixRunning(t *testing.T) *line {
	l := newLine(t, Settings{})
	for range 4 {
		l.round(6)
	}
	l.now = l.now.Add(time.Second)
	return l
}

func (l *line) report(i int) Report {
	rate := l.rates[i]
	if rate == 0 {
		rate = 100e6
	}
	r := Report{
		Node: fmt.Sprint("n", i), Run: "1", Addr: numbered(i), Rack: "a", Speed: l.speed[i],
		Done: max(0, l.done-3*i), Left: int64(4000-max(0, l.done-3*i)) * 1e6,
	}
	if l.racks > 0 {
		r.Rack = fmt.Sprint("rack", i/l.racks)
	}
	if r.Done > 0 {
		r.Rate = rate
	}
	return r
}

func (l *line) round(nodes int) {
	l.now = l.now.Add(time.Second)
	l.done += 90
	for i := range nodes {
		l.place[i] = l.top.Announce(l.now, l.report(i))
	}
}

func (l *line) slow(want ...int) {
	l.t.Helper()
	slow := map[string]bool{}
	for _, i := range want {
		slow[fmt.Sprint("n", i)] = true
	}
	for _, n := range l.top.all {
		if n.slow != slow[n.Node] {
			l.t.Errorf("node %s: slow is %v", n.Node, n.slow)
		}
	}
}

// TestSlowPortsAtOnce: nodes whose pieces come slowly are found together, however little flows, and
// those behind them, whose pieces come slowly because of them, are not taken for slow.
func TestSlowPortsAtOnce(t *testing.T) {
	l := newLine(t, Settings{})
	slow := map[int]bool{3: true, 4: true, 9: true}
	for range 8 {
		for i := range 14 {
			delete(l.rates, i)
			if p := l.place[i]; slow[i] || len(p.Upstreams) > 0 && slow[indexOf(p)] {
				l.rates[i] = 25e6
			}
		}
		l.round(14)
	}
	l.slow(3, 4, 9)
	if l.place[5].Upstreams[0] != numbered(2) || l.place[10].Upstreams[0] != numbered(8) {
		t.Errorf("5 takes from %v, 10 from %v", l.place[5], l.place[10])
	}
}

func indexOf(p Place) int {
	b := p.Upstreams[0].Addr().As4()
	return int(b[2])<<8 | int(b[3])
}

// TestRoomToSpare: where less flows than the ports carry, what one carries less than others does not matter.
func TestRoomToSpare(t *testing.T) {
	l := newLine(t, Settings{})
	l.rates[0] = 10e6
	for i := 1; i < 10; i++ {
		l.rates[i] = int64(200e6 + i*100e6)
	}
	for range 5 {
		l.round(10)
	}
	l.slow()
}

// TestFirstNodeCompared: no follower of the first node shares the seeder's port with it, unless whole
// pieces come faster to others than to the first.
func TestFirstNodeCompared(t *testing.T) {
	l := newLine(t, Settings{})
	for range 6 {
		l.round(8)
		if p := l.place[1]; p.Seeder {
			t.Fatalf("after %v the second takes from %+v", l.now.Sub(epoch), p)
		}
	}
	for _, tt := range []struct {
		share float64 // of what others say that they take in
		trial bool
	}{{0.25, true}, {0.45, true}, {0.58, false}} {
		l = newLine(t, Settings{})
		l.rates[0] = int64(tt.share * 100e6)
		l.rates[1] = l.rates[0]
		for range 3 {
			l.round(8)
		}
		if p := l.top.Announce(l.now, l.report(1)); p.Seeder != tt.trial || len(p.Upstreams) != 1 || indexOf(p) != 0 {
			t.Errorf("the second takes from %+v, the first takes in %v of what others do", p, tt.share)
		}
	}
}

// TestFirstNodeComparedAgain: one low report of a first node that has been compared, such as while the server's disk is busy, costs nobody a
// trial; two do, once.
func TestFirstNodeComparedAgain(t *testing.T) {
	l := sixRunning(t)
	second := func(rate int64) bool {
		l.rates[0], l.rates[1] = rate, rate
		l.round(6)
		return l.place[1].Seeder
	}
	for i, rate := range []int64{20e6, 0, 20e6, 0} {
		if second(rate) {
			t.Fatalf("round %d: the second is given the seeder", i)
		}
	}
	if second(20e6) || !second(20e6) {
		t.Errorf("two low reports: %+v, %+v", l.place[1], l.top.Counts())
	}
	for i := range 20 {
		if second(0) && i > 3 {
			t.Fatalf("%d rounds later: %+v", i, l.place[1])
		}
	}
	if c := l.top.Counts(); c.Trials != 1 || c.Judges > 0 || c.Slowed > 0 {
		t.Errorf("%+v", c)
	}
}

// TestFirstNodeOfAnotherBatch: what was learnt of nodes that are done says nothing of the first of those that come later.
func TestFirstNodeOfAnotherBatch(t *testing.T) {
	for _, leave := range []bool{true, false} {
		l := newLine(t, Settings{})
		for range 6 {
			l.round(8)
		}
		l.complete(0, 1, 2, 3, 4, 5, 6, 7)
		for i := range 8 {
			if leave {
				l.top.Leave(fmt.Sprint("n", i), "1")
			}
		}
		l.now = l.now.Add(5 * time.Minute) // they are forgotten if they have not left
		l.done, l.rates[0], l.rates[1] = 0, 25e6, 25e6
		for range 3 {
			l.round(8)
		}
		if p := l.top.Announce(l.now, l.report(1)); !p.Seeder || len(p.Upstreams) != 1 || indexOf(p) != 0 {
			t.Errorf("the second takes from %+v, the first takes in a quarter of what others do", p)
		}
	}
}

// TestFirstNodeComparedAtOnce: as soon as there are enough who tell of their ports; a second more at the pace of a slow first
// node is a second for all.
func TestFirstNodeComparedAtOnce(t *testing.T) {
	l := newLine(t, Settings{})
	l.rates[0], l.rates[1] = 25e6, 25e6
	l.round(8)
	if p := l.place[1]; p.Again != comparePace {
		t.Errorf("the second is told to come again after %v", p.Again)
	}
	l.round(8)
	if p := l.top.Announce(l.now, l.report(1)); !p.Seeder || p.Again == comparePace {
		t.Errorf("the second takes from %+v", p)
	}
}

// TestFirstNodeIsAnother: how long nobody has told of his port counts from when the node is the first.
func TestFirstNodeIsAnother(t *testing.T) {
	l := newLine(t, Settings{})
	round := func(from int) {
		l.now, l.done = l.now.Add(time.Second), l.done+90
		for i := from; i < 4; i++ {
			r := l.report(i)
			r.Rate = 0
			l.place[i] = l.top.Announce(l.now, r)
		}
	}
	for range 3 {
		round(0)
	}
	l.top.Leave("n0", "1")
	for since := l.now; l.now.Sub(since) < 2*trialWait; {
		round(1)
		if made, due := l.top.Counts().Trials > 0, l.now.Sub(since) > trialWait+time.Second; made != due {
			t.Errorf("after %v: a trial: %v", l.now.Sub(since), made)
		}
	}
}

// TestFirstNodeGivesNothing: it receives, and what it has told of its port is fine, but it passes nothing on: its disk.
func TestFirstNodeGivesNothing(t *testing.T) {
	l := sixRunning(t)
	first, second := l.report(0), l.report(1)
	second.Done, second.Stalled = first.Done, true
	if p := l.top.Announce(l.now, first); !p.Seeder {
		t.Fatalf("%+v", p)
	}
	if p := l.top.Announce(l.now, second); !p.Seeder || indexOf(p) != 0 {
		t.Errorf("the second is stalled: %+v", p)
	}
	l = sixRunning(t)
	first.Stalled = true // so it is the server
	l.top.Announce(l.now, first)
	if p := l.top.Announce(l.now, second); p.Seeder {
		t.Errorf("both are stalled: %+v", p)
	}
}

// TestHelpEndsWithItsUpstream: a node that was helped against a slow upstream and comes behind another one takes from that alone. Two that
// share the seeder's port for the rest of the help cost all others 3 s.
func TestHelpEndsWithItsUpstream(t *testing.T) {
	l := sixRunning(t)
	l.top.Announce(l.now, l.report(0))
	r := l.report(1)
	r.Stalled, r.Done = true, r.Done-200
	l.top.Announce(l.now, r)
	l.now = l.now.Add(time.Second)
	if p := l.top.Announce(l.now, r); !p.Seeder || indexOf(p) != 0 {
		t.Fatalf("stalled behind one that has much more: %+v", p)
	}
	r.Stalled = false
	if p := l.top.Announce(l.now, r); !p.Seeder {
		t.Errorf("help for a moment: %+v", p)
	}
	l.top.Announce(l.now, l.report(2)) // overtakes
	if p := l.top.Announce(l.now, r); p.Seeder || indexOf(p) != 2 {
		t.Errorf("behind another one: %+v", p)
	}
}

// TestBadSender: a node that sends bad pieces goes behind all others and stays there, however fast it is. One that says so of everybody
// is not believed for long.
func TestBadSender(t *testing.T) {
	l := sixRunning(t)
	r := l.report(2)
	r.Bad = []netip.AddrPort{numbered(1)}
	if p := l.top.Announce(l.now, r); indexOf(p) != 0 || len(p.Upstreams) != 1 || p.Seeder {
		t.Errorf("its follower takes from %+v", p)
	}
	for range 10 {
		l.round(6)
	}
	if !l.place[0].Seeder {
		t.Errorf("the first node takes from %+v", l.place[0])
	}
	for i, from := range map[int]int{2: 0, 3: 2, 4: 3, 5: 4, 1: 5} {
		if p := l.place[i]; len(p.Upstreams) != 1 || indexOf(p) != from || p.Seeder {
			t.Errorf("node %d takes from %+v, want %d", i, p, from)
		}
	}
	slowed := l.top.Counts().Slowed
	for i := range 4 {
		r := l.report(5)
		r.Bad = []netip.AddrPort{numbered([]int{0, 2, 3, 4}[i])}
		l.top.Announce(l.now, r)
	}
	if n := l.top.Counts().Slowed - slowed; n != believed {
		t.Errorf("%d nodes were put aside for one", n)
	}
}

// TestSlowSender: several followers one after another that get little prove that it is their upstream.
func TestSlowSender(t *testing.T) {
	l := newLine(t, Settings{})
	for range 24 {
		l.round(12)
		for i := range 12 {
			delete(l.rates, i)
			if len(l.place[i].Upstreams) > 0 && indexOf(l.place[i]) == 4 {
				l.rates[i] = 20e6
			}
		}
	}
	l.slow(4)
}

// TestOneAccuser: a follower that gets little now and then is one only, however often.
func TestOneAccuser(t *testing.T) {
	l := newLine(t, Settings{})
	for l.top.Counts().Slowed <= accusers {
		if l.now.Sub(epoch) > 10*time.Minute {
			t.Fatalf("%+v", l.top.Counts())
		}
		l.rates[5] = 25e6
		if n := l.top.nodes["n5"]; n != nil && n.slow {
			l.rates[5] = 100e6
		}
		l.round(6)
		if l.top.nodes["n4"].slow {
			t.Fatalf("its upstream is slow after %+v", l.top.Counts())
		}
	}
}

// TestToldSlow: a port that says that it is slow is put behind at once, and comes back when most are so.
func TestToldSlow(t *testing.T) {
	l := newLine(t, Settings{})
	for i := range 8 {
		l.speed[i] = 1000
	}
	l.speed[1], l.speed[2] = 100, 0
	for i := range 4 {
		l.place[i] = l.top.Announce(l.now, l.report(i))
	}
	l.top.Announce(l.now, l.report(1))
	l.slow(1)
	if p := l.top.Announce(l.now, l.report(2)); p.Upstreams[0] != numbered(0) {
		t.Errorf("2 takes from %v", p)
	}
	for i := 4; i < 8; i++ {
		l.speed[i] = 100
		l.top.Announce(l.now, l.report(i))
	}
	for range 8 {
		l.round(8)
	}
	l.slow()
}

// TestSilentDeath: the second report of a stall, half a second later, is enough if the upstream was
// not heard meanwhile; one that waits itself is not dead.
func TestSilentDeath(t *testing.T) {
	l := newLine(t, Settings{})
	for range 3 {
		l.round(6)
	}
	stall := func(i int) Place {
		r := l.report(i)
		r.Stalled = true
		return l.top.Announce(l.now, r)
	}
	// Node 2 dies at once; 3, 4 and 5 get nothing any more.
	l.now = l.now.Add(600 * time.Millisecond)
	for _, i := range []int{5, 3, 4} { // 3 has said that it waits when 4 does
		p := stall(i)
		if (p.Again == confirmStall) != (i != 4) || len(p.Upstreams) != 1 || indexOf(p) != i-1 {
			t.Errorf("%d is told %+v", i, p)
		}
	}
	l.now = l.now.Add(confirmStall)
	for i := range 2 {
		l.top.Announce(l.now, l.report(i))
	}
	if p := stall(5); indexOf(p) != 4 || p.Again != 0 {
		t.Errorf("5 is told %+v, 4 waits like it", p)
	}
	if p := stall(3); indexOf(p) != 1 {
		t.Errorf("3 is told %+v, 2 is dead", p)
	}
	if p := stall(4); indexOf(p) != 3 {
		t.Errorf("4 is told %+v, 3 lives", p)
	}
}

// TestTrunk: in a swarm too large for a chain nobody feeds more than two, and each rack gets the image once
// and gives it on once, slow nodes or not.
func TestTrunk(t *testing.T) {
	const nodes, rack = 400, 20
	l := newLine(t, Settings{Chain: 100})
	l.racks = rack
	for i := range nodes {
		l.speed[i] = map[bool]int{true: 100, false: 1000}[i%10 == 3]
	}
	for range 4 {
		l.round(nodes)
	}
	if l.top.shape != trunk {
		t.Fatalf("the shape is %d", l.top.shape)
	}
	fed, in, out := map[int]int{}, map[int]int{}, map[int]int{}
	for i := range nodes {
		if p := l.place[i]; p.Seeder {
			in[i/rack]++
		} else {
			u := indexOf(p)
			fed[u]++
			if l.speed[u] == 100 {
				t.Errorf("%d takes from %d, which is slow", i, u)
			}
			if u/rack != i/rack {
				in[i/rack]++
				out[u/rack]++
			}
		}
	}
	for i, n := range fed {
		if n > 2 {
			t.Errorf("%d feeds %d", i, n)
		}
	}
	for r := range nodes / rack {
		if in[r] != 1 || out[r] > 1 {
			t.Errorf("rack %d: %d in, %d out", r, in[r], out[r])
		}
	}
}

// TestLate: a node that comes late does not go among those that have much, whose follower would get
// half from then on; when many do, the chain becomes a trunk.
func TestLate(t *testing.T) {
	l := newLine(t, Settings{})
	l.racks = 10
	for range 8 {
		l.round(20)
	}
	r := l.report(30)
	r.Rack = "rack0"
	r.Done = 0
	p := l.top.Announce(l.now, r)
	if indexOf(p) != 19 {
		t.Errorf("the late node takes from %d", indexOf(p))
	}
	l.round(20)
	if p := l.place[10]; indexOf(p) != 9 {
		t.Errorf("10 takes from %d now", indexOf(p))
	}
	for i := range leastLate + 1 {
		r.Node, r.Addr = fmt.Sprint("late", i), numbered(100+i)
		l.top.Announce(l.now, r)
	}
	l.round(20)
	if l.top.shape != trunk || l.top.late != 0 {
		t.Errorf("shape %d, %d are late", l.top.shape, l.top.late)
	}
}

func TestSpeedClasses(t *testing.T) {
	for _, c := range []struct {
		a, b int
		slow bool
	}{{1000, 1000, false}, {100, 1000, true}, {1000, 2500, true}, {10000, 25000, true}, {20000, 25000, false}, {10, 10_000_000, true}, {0, 1000, false}} {
		var s speeds
		for range 3 {
			s.count(&node{}, c.b)
		}
		n := &node{}
		s.count(n, c.a)
		if s.slow(n.speedClass) != c.slow {
			t.Errorf("%d among %d Mbit/s: slow is %v", c.a, c.b, !c.slow)
		}
		s.count(n, 0)
		if s.sum != 3 {
			t.Errorf("%d ports counted", s.sum)
		}
	}
}

// TestUnreachedUpstreamIsAvoided: a node is not sent back for a while to one that it cannot reach, though that one is heard.
func TestUnreachedUpstreamIsAvoided(t *testing.T) {
	l := sixRunning(t)
	told := l.now
	r := l.report(2)
	r.Lost = []netip.AddrPort{numbered(1)}
	l.top.Announce(l.now, r)
	avoided := 0
	for l.now.Sub(told) < avoidFor+2*time.Second {
		l.round(6)
		switch p := l.place[2]; {
		case l.now.Sub(told) < avoidFor && indexOf(p) == 1:
			t.Fatalf("sent back after %v", l.now.Sub(told))
		case indexOf(p) == 0:
			avoided++
		}
	}
	if avoided < 10 || indexOf(l.place[2]) == 0 {
		t.Errorf("it had another upstream %d times, and has %+v at last", avoided, l.place[2])
	}
}

// TestSlowDisk: a node whose memory is full has a slow disk if its follower's takes much more, and the ports of most carry that. It is
// none while its memory is not full.
func TestSlowDisk(t *testing.T) {
	const mb = 1e6
	for name, c := range map[string]struct {
		disks [2]int64 // of node 2, of those behind it
		room  bool
		slow  []int
	}{
		"slow":         {disks: [2]int64{40 * mb, 400 * mb}, slow: []int{2}},
		"hangs":        {disks: [2]int64{1, 400 * mb}, slow: []int{2}},
		"all alike":    {disks: [2]int64{50 * mb, 60 * mb}},
		"fast enough":  {disks: [2]int64{90 * mb, 400 * mb}},
		"room still":   {disks: [2]int64{50 * mb, 400 * mb}, room: true},
		"nobody knows": {disks: [2]int64{50 * mb, 0}},
	} {
		l := sixRunning(t)
		for _, full := range []bool{false, true} { // a cache
			l.now, l.done = l.now.Add(time.Second), l.done+90
			for i := range 6 {
				r := l.report(i)
				r.Disk = c.disks[min(1, i/3)]
				if r.Busy = i == 2 && full && !c.room; i < 2 || !full && r.Disk > 0 {
					r.Disk = 2000 * mb
				}
				l.place[i] = l.top.Announce(l.now, r)
			}
		}
		t.Log(name)
		l.slow(c.slow...)
		if c.slow == nil {
			continue
		}
		l.round(6)
		if indexOf(l.place[3]) != 1 || indexOf(l.place[2]) != 5 {
			t.Errorf("%s: the node takes from %d, the one that was behind it from %d", name, indexOf(l.place[2]), indexOf(l.place[3]))
		}
	}
}

// TestDisksAllAlike: if every disk is slow, no trial of a node whose memory is full takes from the others.
func TestDisksAllAlike(t *testing.T) {
	for _, known := range []bool{false, true} {
		l := sixRunning(t)
		for range 40 {
			l.now, l.done = l.now.Add(time.Second), l.done+90
			for i := range 6 {
				r := l.report(i)
				r.Busy = i == 0
				if r.Done -= 40 * min(i, 1); known {
					r.Disk = 50e6
				}
				l.place[i] = l.top.Announce(l.now, r)
			}
		}
		if trials := l.top.Counts().Trials; known != (trials == 0) {
			t.Errorf("disks are known: %v; %d trials", known, trials)
		}
	}
}

// TestNobodyHasAnything: when nothing comes to the first node, only its follower has the seeder beside it: those further down wait for
// nothing else.
func TestNobodyHasAnything(t *testing.T) {
	l := newLine(t, Settings{})
	for round := range 6 * hopeless * longStall {
		l.now = l.now.Add(time.Second)
		for i := range 8 {
			r := l.report(i)
			r.Stalled = i != 1 || round > 3*hopeless*longStall // the follower says so later than the others
			l.place[i] = l.top.Announce(l.now, r)
			if l.place[i].Seeder && i > 1 {
				t.Fatalf("node %d has the seeder after %v", i, l.now.Sub(epoch))
			}
		}
	}
	if !l.place[1].Seeder {
		t.Error("nobody has tried the seeder beside the first node")
	}
}

// TestFoundPiecesAcquitNobody: a slow node that resumes finds pieces on its disk quickly; that is not its port, nor the fault of the
// node that fed it.
func TestFoundPiecesAcquitNobody(t *testing.T) {
	l := sixRunning(t)
	n := l.top.nodes["n3"]
	n.port = 0
	l.top.slow(l.now, n)
	behind := n.slowBehind
	if behind == nil {
		t.Fatal("nobody feeds it")
	}
	done, received := l.report(3).Done, int64(l.report(3).Done)*1e6
	for range 8 {
		l.now, l.done = l.now.Add(time.Second), l.done+90
		for i := range 6 {
			r := l.report(i)
			if i == 3 {
				done, received = done+200, received+10e6
				r.Done, r.Left, r.Received, r.Rate = done, int64(4000-done)*1e6, received, 0
			}
			l.top.Announce(l.now, r)
		}
	}
	if !n.slow || behind.slow {
		t.Errorf("it is slow: %v, the one that fed it: %v; it fetches %.0f pieces a second", n.slow, behind.slow, n.fetchRate)
	}
}

// TestRateIsNotNegative: what was received counts by the size of the image, which is known once a node has come that lacks all of it.
func TestRateIsNotNegative(t *testing.T) {
	l := newLine(t, Settings{})
	r := l.report(0)
	r.Done, r.Left, r.Received = 3000, 1000e6, 500e6
	l.top.Announce(l.now, r)
	l.top.Announce(l.now, l.report(1))
	l.now = l.now.Add(time.Second)
	l.top.Announce(l.now, r)
	if n := l.top.nodes["n0"]; n.fetchRate < 0 {
		t.Errorf("it fetches %.0f pieces a second", n.fetchRate)
	}
}

// TestLearntIsForgotten: with the last node that fetches goes what was learnt, whether it gets done or leaves.
func TestLearntIsForgotten(t *testing.T) {
	for name, end := range map[string]func(*line){
		"done":   func(l *line) { l.complete(5) },
		"leaves": func(l *line) { l.top.Leave("n5", "1") },
	} {
		l := sixRunning(t)
		l.complete(0, 1, 2, 3, 4)
		if l.top.good == 0 || l.top.ports.usual == 0 {
			t.Fatalf("%s: nothing was learnt", name)
		}
		end(l)
		if l.top.good != 0 || l.top.ports.usual != 0 || l.top.compared {
			t.Errorf("%s: it still believes in %.0f pieces a second and ports of %.0f", name, l.top.good, l.top.ports.usual)
		}
	}
}

// TestNoHelpBehindAnother: a stalled node that is given another upstream, in place of one that is lost, has that one alone until it is
// known whether something comes. Help by the seeder would halve what everybody gets.
func TestNoHelpBehindAnother(t *testing.T) {
	l := sixRunning(t)
	r := l.report(2)
	r.Done, r.Stalled = r.Done-100, true
	for range 4 { // node 1 is silent
		l.top.Announce(l.now, l.report(0))
		p := l.top.Announce(l.now, r)
		if p.Seeder || len(p.Upstreams) != 1 {
			t.Errorf("takes from %+v", p)
		}
		if indexOf(p) == 0 {
			break
		}
		l.now = l.now.Add(confirmStall)
	}
	l.now = l.now.Add(time.Second)
	l.top.Announce(l.now, l.report(0))
	if p := l.top.Announce(l.now, r); !p.Seeder || indexOf(p) != 0 {
		t.Errorf("stalled behind that one too: %+v", p)
	}
}

// TestPortWasShared: what a node says of its port counts if its upstream fed as many all the time since it was heard last.
func TestPortWasShared(t *testing.T) {
	l := sixRunning(t)
	n := l.top.nodes["n2"]
	tell := func(lost ...netip.AddrPort) {
		t.Helper()
		r := l.report(2)
		r.Rate, r.Lost = 40e6, lost
		if p := l.top.Announce(l.now, r); len(p.Upstreams) != 1 || indexOf(p) != 0 {
			t.Fatalf("takes from %+v", p)
		}
	}
	tell(numbered(1))
	n.low = 0 // what it said before was of the other one
	l.now = l.now.Add(900 * time.Millisecond)
	r := l.report(1)
	r.Done -= 100
	if p := l.top.Announce(l.now, r); indexOf(p) == 0 {
		t.Fatalf("node 1 takes from %+v", p)
	}
	l.now = l.now.Add(100 * time.Millisecond)
	if tell(); n.low != 0 {
		t.Error("a port that was shared for most of the time counts as its own")
	}
	l.now = l.now.Add(time.Second)
	if tell(); n.low != 1 {
		t.Errorf("low reports: %d", n.low)
	}
}
