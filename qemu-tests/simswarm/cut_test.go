package main

import (
	"slices"
	"testing"
	"time"
)

// TestCables: three of eight nodes are cut off for 10 s, whichever they are. Those that are not lose no more than it takes to notice; the
// others lose no more than that time. With help for those behind a node that was cut off, beside their new upstream, the seeder was
// shared for seconds and nobody was done before 1.19 × floor.
func TestCables(t *testing.T) {
	const cutFor = 10 * time.Second
	for a := range 8 {
		for b := a + 1; b < 8; b++ {
			for c := b + 1; c < 8; c++ {
				for phase := range 4 {
					m := model(8)
					m.Storm, m.Ordered = 100*time.Millisecond, true
					m.Cut, m.CutAt, m.CutFor = []int{a, b, c}, 19*time.Second+time.Duration(phase)*250*time.Millisecond, cutFor
					s, r := mustRun(t, m)
					if r.Done != m.Nodes {
						t.Fatalf("nodes %v are cut off: %d are done", m.Cut, r.Done)
					}
					var spared time.Duration
					for i := range s.peers {
						if !slices.Contains(m.Cut, i) {
							spared = max(spared, s.peers[i].ended)
						}
					}
					last := r.Last - cutFor.Seconds()/r.Floor
					if share := spared.Seconds() / r.Floor; share > 1.16 || last > 1.11 {
						t.Errorf("nodes %v are cut off at %v: the others took %.3f × floor, these %.3f without the time of the cut; %+v", m.Cut, m.CutAt, share, last, r.Counts)
					}
				}
			}
		}
	}
}
