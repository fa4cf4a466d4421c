package tracker

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// unreachable tells of a node that reaches the server, but no other node: those that it was told of for a while it has lost.
func (l *line) unreachable(i, done int, since map[netip.AddrPort]time.Time) {
	const dialGrace = 5 * time.Second // as swarm has it
	r := l.report(i)
	r.Done, r.Stalled, r.Rate = done, true, 0
	for a, named := range since {
		if l.now.Sub(named) >= dialGrace {
			r.Lost = append(r.Lost, a)
		}
	}
	slices.SortFunc(r.Lost, netip.AddrPort.Compare)
	l.place[i] = l.top.Announce(l.now, r)
	old := maps.Clone(since)
	clear(since)
	for _, a := range l.place[i].Upstreams {
		since[a] = l.now
		if named, ok := old[a]; ok {
			since[a] = named
		}
	}
}

// TestNodeThatReachesNobody: a node that loses one upstream after the other is what is wrong. It has the seeder before it gives up,
// and those that it cannot reach keep their places.
func TestNodeThatReachesNobody(t *testing.T) {
	const nodes, lonely = 30, 12
	for name, s := range map[string]Settings{"chain": {}, "trunk": {Chain: 10}} {
		t.Run(name, func(t *testing.T) {
			l := newLine(t, s)
			for range 4 {
				l.round(nodes)
			}
			since := make(map[netip.AddrPort]time.Time)
			done, helped, returned := l.report(lonely).Done, 0, 0
			for i := range 36 {
				l.now, l.done = l.now.Add(time.Second), l.done+90
				for j := range nodes {
					if j != lonely {
						l.place[j] = l.top.Announce(l.now, l.report(j))
					}
				}
				if l.unreachable(lonely, done, since); l.place[lonely].Seeder {
					helped++
				}
				if i == 20 {
					returned = l.top.Counts().Returned
				}
			}
			if helped < 15 {
				t.Errorf("it had the seeder %d times", helped)
			}
			if got := l.top.Counts().Returned; got != returned {
				t.Errorf("%d nodes lost their places, %d of them late", got, got-returned)
			}
			l.slow()
		})
	}
}
