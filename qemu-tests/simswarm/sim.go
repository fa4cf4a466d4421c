package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"swarmboot/internal/tracker"
)

const (
	seederID   = -1
	leastPause = time.Second // between two announces of a node, but those that the tracker asks for
	// firstMeasure is after how many pieces a node tells its rate for the first time.
	firstMeasure = 8
	never        = time.Duration(1<<63 - 1)
)

type state uint8

const (
	off state = iota
	fetching
	finished // has everything, waits until nobody needs it
	gone
	dead
)

// peer is a simulated node. Amounts are pieces.
type peer struct {
	state   state
	rack    int
	slow    bool
	tells   bool    // it knows that its port is slow
	up      float64 // pieces a second
	down    float64
	disk    float64       // of down, what the disk takes
	waits   float64       // of done, what waits for a slow disk
	start   time.Duration // first announce
	dies    time.Duration
	ended   time.Duration // last piece
	cut     bool          // its cable is pulled
	done    float64
	offered float64 // what it had a step ago: others can have that
	ups     []int32 // seederID or a node
	lag     []float64
	lagAt   int

	announced time.Duration
	announce  time.Duration // the next
	progress  time.Duration // the last time that something came
	fed       bool          // something came
	told      bool          // of its stall
	busy      bool          // of its disk
	burst     float64       // the rate while something came lately, pieces a second; 0 is none
	measured  bool          // the first one was told
	lost      []int32
}

// sim runs the tracker's Topology over a fluid model of nodes and links.
type sim struct {
	m      Model
	rng    *rand.Rand
	disks  *rand.Rand
	top    *tracker.Topology
	peers  []peer
	names  []string
	racks  []string
	pieces float64
	step   time.Duration
	now    time.Duration
	active []int32 // started, not gone
	waits  []int32 // by start, not started
	flow   flows

	serverSent float64
	in, out    []float64 // over each rack's uplink
	crossed    crossings
	requests   []int // announces in each second
	moved      float64
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newSim(m Model) *sim {
	m.Topology.Pieces = m.pieces()
	racks := (m.Nodes + m.Rack - 1) / m.Rack
	s := &sim{
		m: m, rng: rand.New(rand.NewPCG(m.Seed, 1)), disks: rand.New(rand.NewPCG(m.Seed, 2)), top: tracker.NewTopology(m.Topology),
		peers: make([]peer, m.Nodes), names: make([]string, m.Nodes),
		pieces: float64(m.pieces()), step: m.step(),
		in: make([]float64, racks), out: make([]float64, racks),
	}
	for r := range racks {
		s.racks = append(s.racks, fmt.Sprintf("rack%d", r))
	}
	for i := range s.peers {
		s.make(i)
	}
	s.waits = byStart(s.peers)
	s.flow = newFlows(m, s.peers, racks)
	return s
}

func (s *sim) make(i int) {
	m := &s.m
	p := &s.peers[i]
	s.names[i] = fmt.Sprintf("n%d", i)
	p.rack = i / m.Rack
	p.up, p.down, p.disk = m.rate(m.Port), m.rate(m.Port), 1
	if s.rng.Float64() < m.Slow {
		p.slow = true
		p.up *= m.SlowRate
		p.down *= m.SlowRate
		p.tells = s.rng.Float64() < m.Tells
	}
	if slices.Contains(m.SlowDisk, i) || m.Disks > 0 && s.rng.Float64() < m.Disks {
		p.slow, p.disk = true, m.SlowRate
	}
	at := time.Duration(s.rng.Float64() * float64(m.Storm))
	if m.Ordered {
		at = m.Storm * time.Duration(i) / time.Duration(m.Nodes)
	}
	p.start, p.dies = at+m.Costs.Start, never
	if s.rng.Float64() < m.Die {
		p.dies = p.start + time.Duration(s.rng.Float64()*1.2*float64(m.floor()))
	}
}

// run steps until every node that lives has the image and has gone, or the limit.
func (s *sim) run() {
	for s.now = 0; s.now < s.m.Limit && (len(s.waits) > 0 || len(s.active) > 0); s.now += s.step {
		if len(s.active) == 0 {
			// Nothing happens before the next start.
			for s.now+s.step < s.peers[s.waits[0]].start {
				s.now += s.step
			}
		}
		s.arrive()
		s.cable()
		s.events()
		s.flow.run(s)
		s.progress()
	}
}

func (s *sim) arrive() {
	for len(s.waits) > 0 && s.peers[s.waits[0]].start <= s.now {
		i := s.waits[0]
		s.waits = s.waits[1:]
		p := &s.peers[i]
		p.state, p.announce, p.progress = fetching, s.now, s.now
		s.active = append(s.active, i)
	}
}

// cable pulls cables and puts them back. TCP keeps the connections.
func (s *sim) cable() {
	for _, i := range s.m.Cut {
		s.peers[i].cut = s.now >= s.m.CutAt && s.now < s.m.CutAt+s.m.CutFor
	}
}

// events: deaths, announces and goodbyes that are due.
func (s *sim) events() {
	keep := s.active[:0]
	for _, i := range s.active {
		p := &s.peers[i]
		switch {
		case p.dies <= s.now:
			p.state = dead // without a word
			continue
		case p.cut && p.announce <= s.now:
			p.announce = s.now + s.m.Costs.Unheard
		case p.state == fetching && p.announce <= s.now:
			s.tell(int(i))
		case p.state == finished && p.announce <= s.now:
			s.tell(int(i))
			if !s.top.Needed(s.names[i]) {
				s.top.Leave(s.names[i], "1")
				p.state = gone
				continue
			}
			p.announce = s.now + s.m.Costs.Poll
		}
		keep = append(keep, i)
	}
	s.active = keep
}

func addrOf(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 6881)
}

func indexOf(a netip.AddrPort) int32 {
	b := a.Addr().As4()
	return int32(b[1])<<16 | int32(b[2])<<8 | int32(b[3])
}

// tell announces a node and takes over the answer.
func (s *sim) tell(i int) {
	p := &s.peers[i]
	r := tracker.Report{
		Node: s.names[i], Run: "1", Addr: addrOf(i), Rack: s.racks[p.rack], Done: int(p.done),
		Complete: p.done == s.pieces, Stalled: s.stalled(p), Speed: int(s.m.Port / 1e6), Left: s.m.Image - int64(p.done)*s.m.Piece,
		Rate: int64(p.burst * float64(s.m.Piece) * (1 + s.m.Costs.Noise*s.rng.NormFloat64())),
	}
	r.Busy, r.Disk = p.busy, s.diskRate(p)
	if p.tells {
		r.Speed = int(s.m.Port * s.m.SlowRate / 1e6)
	}
	p.burst = 0
	for _, l := range p.lost {
		r.Lost = append(r.Lost, addrOf(int(l)))
	}
	p.lost = p.lost[:0]
	place := s.top.Announce(epoch.Add(s.now), r)
	second := int(s.now / time.Second)
	for len(s.requests) <= second {
		s.requests = append(s.requests, 0)
	}
	s.requests[second]++
	p.announced = s.now
	p.announce = s.now + s.top.Interval()
	if place.Again > 0 {
		p.announce = s.now + place.Again
	}
	if p.state == finished {
		return
	}
	p.ups = p.ups[:0]
	for _, a := range place.Upstreams {
		p.ups = append(p.ups, indexOf(a))
	}
	if place.Seeder {
		p.ups = append(p.ups, seederID)
	}
	s.delay(p)
}

// busyShare is how much of what may wait for a disk does when a node says so.
const busyShare = 0.75

// hold is how many pieces may wait for a disk.
func (s *sim) hold() float64 { return float64(s.m.Costs.Unwritten) / float64(s.m.Piece) }

// diskRate is what a node says of its disk. Ordinary ones take more than ports carry.
func (s *sim) diskRate(p *peer) int64 {
	share := p.disk
	if share == 1 {
		share = 3
	}
	return int64(share * s.m.Port / 8 * (1 + s.m.Costs.Noise*s.disks.NormFloat64()))
}

// write takes from what waits for a slow disk what it wrote in a step.
func (s *sim) write(p *peer) {
	if p.disk < 1 {
		p.waits = max(0, p.waits-p.disk*p.down*s.step.Seconds())
	}
}

// stalled says that nothing came for a while: longer before the first byte, when the swarm has still to fill.
func (s *sim) stalled(p *peer) bool {
	limit := s.m.stall()
	if !p.fed {
		limit = s.m.Costs.FirstStall
	}
	return p.state == fetching && s.now-p.progress > limit && p.waits == 0
}

// delay makes a node with many upstreams wait for what it has under request from each of them.
func (s *sim) delay(p *peer) {
	n := int(float64(len(p.ups)-1) * float64(s.m.Costs.Queue) * 8 / s.m.Port / s.step.Seconds())
	if len(p.ups) < 3 {
		n = 0
	}
	if len(p.lag) == n {
		return
	}
	p.lag, p.lagAt = make([]float64, n), 0
	for i := range p.lag {
		p.lag[i] = p.done
	}
}

// progress notes ends, stalls and broken connections after a step's flows.
func (s *sim) progress() {
	for _, i := range s.active {
		p := &s.peers[i]
		if p.state != fetching {
			continue
		}
		if p.done > s.pieces-1e-6 {
			p.done = s.pieces
		}
		p.offered = p.done
		s.write(p)
		if p.done == s.pieces && p.waits == 0 {
			p.state, p.ended = finished, s.now+s.step
			p.announce = p.ended
			continue
		}
		stalled, busy := s.stalled(p), p.waits >= busyShare*s.hold()
		wake := stalled && !p.told && p.fed || p.burst > 0 && !p.measured && p.done > firstMeasure
		p.told, p.measured = stalled, p.measured || wake
		wake = wake || busy != p.busy
		p.busy = busy
		for _, u := range p.ups {
			if u >= 0 && s.peers[u].state == gone {
				p.lost, wake = append(p.lost, u), true // its connection was closed
			}
		}
		if len(p.lost) > 0 {
			p.ups = without(p.ups, p.lost)
		}
		if wake {
			p.announce = min(p.announce, max(s.now+s.step, p.announced+leastPause))
		}
	}
}

func without(ups, lost []int32) []int32 {
	keep := ups[:0]
	for _, u := range ups {
		found := false
		for _, l := range lost {
			found = found || l == u
		}
		if !found {
			keep = append(keep, u)
		}
	}
	return keep
}
