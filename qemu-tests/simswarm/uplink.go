package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"
)

// crossing is what one node took over the uplinks from one other, or from the seeder.
type crossing struct {
	from, to    int32
	pieces      float64
	first, last time.Duration
}

// crossings keeps them apart. It is nil unless they are asked for: a run of 20,000 nodes has many.
type crossings map[[2]int32]*crossing

func (c crossings) note(from, to int32, pieces float64, now time.Duration) {
	if c == nil {
		return
	}
	key := [2]int32{from, to}
	x := c[key]
	if x == nil {
		x = &crossing{from: from, to: to, first: now}
		c[key] = x
	}
	x.pieces += pieces
	x.last = now
}

// printUplink prints what came into the rack that took most, and what left the one that gave most.
func (s *sim) printUplink(w io.Writer) {
	in, out := largest(s.in), largest(s.out)
	fmt.Fprintf(w, "into rack %d: %.2f copies\n", in, s.in[in]/s.pieces)
	s.printCrossings(w, func(x *crossing) bool { return s.peers[x.to].rack == in })
	fmt.Fprintf(w, "out of rack %d: %.2f copies\n", out, s.out[out]/s.pieces)
	s.printCrossings(w, func(x *crossing) bool { return int(x.from) < len(s.peers) && s.peers[x.from].rack == out })
}

func (s *sim) printCrossings(w io.Writer, which func(*crossing) bool) {
	var list []*crossing
	for _, x := range s.crossed {
		if which(x) {
			list = append(list, x)
		}
	}
	slices.SortFunc(list, func(a, b *crossing) int { return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.to, b.to)) })
	for _, x := range list {
		fmt.Fprintf(w, "  %8.2f s to %8.2f s: %5.3f copies, %s to %s\n", x.first.Seconds(), x.last.Seconds(), x.pieces/s.pieces, s.who(x.from), s.who(x.to))
	}
}

func (s *sim) who(i int32) string {
	if int(i) == len(s.peers) {
		return "seeder"
	}
	p, kind := &s.peers[i], ""
	if p.slow {
		kind = ", slow"
	}
	return fmt.Sprintf("node %d (rack %d%s)", i, p.rack, kind)
}

func largest(of []float64) int {
	at := 0
	for i, v := range of {
		if v > of[at] {
			at = i
		}
	}
	return at
}
