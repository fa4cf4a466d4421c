package main

import (
	"cmp"
	"slices"
)

// rounds of filling in a step. Each gives every flow an equal share of what is left of each link
// that it goes through; after a few of them little is left that anybody can use.
const rounds = 5

// flows shares out the links of one step: max-min fair, but for the rest that the rounds leave.
type flows struct {
	list []flow
	up   []link // of each node, the server's last
	down []link
	in   []link // of each rack
	out  []link
}

type link struct {
	cap   float64 // pieces a step
	left  float64
	users int32
	// takers are the flows of this step that come from the port.
	takers int32
}

type flow struct {
	to, from  int32
	want, got float64 // pieces
	share     float64
	cross     bool // goes through uplinks
}

func newFlows(m Model, peers []peer, racks int) flows {
	step := m.step().Seconds()
	f := flows{
		up: make([]link, len(peers)+1), down: make([]link, len(peers)),
		in: make([]link, racks), out: make([]link, racks),
	}
	for i, p := range peers {
		f.up[i].cap, f.down[i].cap = p.up*step, p.down*step
	}
	f.up[len(peers)].cap = m.rate(m.Server) * step
	uplink := m.rate(m.Port) * float64(m.Rack) / m.Oversub * step
	for r := range racks {
		f.in[r].cap, f.out[r].cap = uplink, uplink
	}
	return f
}

func (f *flows) run(s *sim) {
	f.collect(s)
	for range rounds {
		if !f.fill(s) {
			break
		}
	}
	for i := range f.list {
		f.settle(s, &f.list[i])
	}
}

// collect lists who can send what to whom.
func (f *flows) collect(s *sim) {
	for i := range f.list {
		f.up[f.list[i].from].takers = 0
	}
	f.list = f.list[:0]
	for _, i := range s.active {
		p := &s.peers[i]
		if p.state != fetching || p.cut {
			continue
		}
		have := f.have(s, p)
		if have <= p.done {
			continue
		}
		f.down[i].left = min(f.down[i].cap, have-p.done)
		if p.disk < 1 {
			f.down[i].left = min(f.down[i].left, max(0, s.hold()-p.waits))
		}
		for _, u := range p.ups {
			if want := min(offer(s, u), have) - p.done; want > 1e-9 {
				f.add(s, i, u, want)
			}
		}
	}
	f.up[len(s.peers)].left = f.up[len(s.peers)].cap
	for r := range f.in {
		f.in[r].left, f.out[r].left = f.in[r].cap, f.out[r].cap
	}
}

// have is how far a node can get now, with the delay of many upstreams.
func (f *flows) have(s *sim, p *peer) float64 {
	have := 0.0
	for _, u := range p.ups {
		have = max(have, offer(s, u))
	}
	if len(p.lag) > 0 {
		old := p.lag[p.lagAt]
		p.lag[p.lagAt] = have
		p.lagAt = (p.lagAt + 1) % len(p.lag)
		return old
	}
	return have
}

// offer is what can be had of a node, or of the seeder.
func offer(s *sim, u int32) float64 {
	if u == seederID {
		return s.pieces
	}
	if p := &s.peers[u]; !p.cut && (p.state == fetching || p.state == finished) {
		return p.offered
	}
	return 0
}

func (f *flows) add(s *sim, to, from int32, want float64) {
	x := flow{to: to, from: from, want: want}
	x.cross = from == seederID || s.peers[from].rack != s.peers[to].rack
	if from == seederID {
		x.from = int32(len(s.peers))
	} else {
		f.up[from].left = f.up[from].cap
	}
	f.up[x.from].takers++
	f.list = append(f.list, x)
}

// fill is one round; it returns false when nothing more can flow.
func (f *flows) fill(s *sim) bool {
	for i := range f.list {
		if x := &f.list[i]; x.want > x.got {
			f.each(s, x, func(l *link) { l.users++ })
		}
	}
	any := false
	for i := range f.list {
		x := &f.list[i]
		x.share = 0
		if x.want > x.got {
			x.share = x.want - x.got
			f.each(s, x, func(l *link) { x.share = min(x.share, l.left/float64(l.users)) })
		}
	}
	for i := range f.list {
		x := &f.list[i]
		if x.want > x.got {
			f.each(s, x, func(l *link) { l.users = 0; l.left -= x.share })
		}
		x.got += x.share
		any = any || x.share > 1e-9
	}
	return any
}

func (f *flows) each(s *sim, x *flow, do func(*link)) {
	do(&f.up[x.from])
	do(&f.down[x.to])
	if !x.cross {
		return
	}
	do(&f.in[s.peers[x.to].rack])
	if int(x.from) < len(s.peers) {
		do(&f.out[s.peers[x.from].rack])
	}
}

func (f *flows) settle(s *sim, x *flow) {
	if x.got <= 0 {
		return
	}
	p := &s.peers[x.to]
	p.done += x.got
	if p.disk < 1 {
		p.waits += x.got
	}
	p.progress, p.fed = s.now, true
	p.burst = f.burst(s, x)
	s.moved += x.got
	server := int(x.from) == len(s.peers)
	if server {
		s.serverSent += x.got
	}
	if x.cross {
		s.crossed.note(x.from, x.to, x.got, s.now)
		s.in[p.rack] += x.got
		if !server {
			s.out[s.peers[x.from].rack] += x.got
		}
	}
}

// burst is the rate at which a whole piece comes to a node: what its port and the other's share of
// its port let through, however seldom that has one.
func (f *flows) burst(s *sim, x *flow) float64 {
	return min(f.down[x.to].cap, f.up[x.from].cap/float64(max(1, f.up[x.from].takers))) / s.step.Seconds()
}

func byStart(peers []peer) []int32 {
	order := make([]int32, len(peers))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(peers[a].start, peers[b].start) })
	return order
}
