package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"swarmboot/internal/tracker"
)

// Result is what a run came to. Ratios are of a node's time from its own start to the floor.
type Result struct {
	Model    Model   `json:"model"`
	Floor    float64 `json:"floorSeconds"`
	Step     float64 `json:"stepSeconds"`
	Done     int     `json:"done"`
	Died     int     `json:"died"`
	Stuck    int     `json:"stuck"`
	End      float64 `json:"endSeconds"` // of the last node, from the first start
	First    float64 `json:"first"`
	Median   float64 `json:"median"`
	P99      float64 `json:"p99"`
	Last     float64 `json:"last"`     // of nodes of ordinary speed
	LastSlow float64 `json:"lastSlow"` // of slow ones, ÷ their own floor
	Seeder   float64 `json:"seederCopies"`
	InMean   float64 `json:"rackInMean"` // copies through the uplinks into a rack, and out of it
	InMax    float64 `json:"rackInMax"`
	OutMax   float64 `json:"rackOutMax"`
	Requests int     `json:"requests"`
	PeakReqs int     `json:"peakRequestsPerSecond"`
	Wall     float64 `json:"wallSeconds"`

	Counts tracker.Counts `json:"tracker"`
}

func (s *sim) result(wall time.Duration) Result {
	r := Result{
		Model: s.m, Floor: s.m.floor().Seconds(), Step: s.step.Seconds(), Wall: wall.Seconds(),
		Seeder: s.serverSent / s.pieces, Counts: s.top.Counts(),
	}
	var ordinary []float64
	for i := range s.peers {
		p := &s.peers[i]
		switch {
		case p.ended > 0:
			r.Done++
			end := p.ended + s.m.Costs.Finish
			r.End = max(r.End, end.Seconds())
			ratio := (end - p.start + s.m.Costs.Start).Seconds() / r.Floor
			if p.slow {
				r.LastSlow = max(r.LastSlow, ratio*s.m.SlowRate)
			} else {
				ordinary = append(ordinary, ratio)
			}
		case p.state == dead:
			r.Died++
		default:
			r.Stuck++
		}
	}
	slices.Sort(ordinary)
	if n := len(ordinary); n > 0 {
		r.First, r.Median, r.P99, r.Last = ordinary[0], ordinary[n/2], ordinary[n*99/100], ordinary[n-1]
	}
	for i := range s.in {
		r.InMean += s.in[i] / s.pieces / float64(len(s.in))
		r.InMax = max(r.InMax, s.in[i]/s.pieces)
		r.OutMax = max(r.OutMax, s.out[i]/s.pieces)
	}
	for _, n := range s.requests {
		r.Requests += n
		r.PeakReqs = max(r.PeakReqs, n)
	}
	return r
}

const columns = "%7s %8s %7s %6s %6s %6s %6s %6s %6s %7s %7s %7s %7s %5s %5s %6s %6s\n"

// printTable prints a line for each run; with counts, the tracker's interventions under it.
func printTable(w io.Writer, results []Result, counts bool) {
	head := strings.Fields("nodes floor_s end_s first median p99 last slow seeder in_mean in_max out_max req/s died stuck step wall_s")
	row := make([]any, len(head))
	for i, h := range head {
		row[i] = h
	}
	fmt.Fprintf(w, columns, row...)
	for _, r := range results {
		f := func(v float64) string { return fmt.Sprintf("%.2f", v) }
		fmt.Fprintf(w, columns, fmt.Sprint(r.Model.Nodes), f(r.Floor), f(r.End), f(r.First), f(r.Median), f(r.P99), f(r.Last), f(r.LastSlow),
			f(r.Seeder), f(r.InMean), f(r.InMax), f(r.OutMax), fmt.Sprint(r.PeakReqs), fmt.Sprint(r.Died), fmt.Sprint(r.Stuck), f(r.Step*1000), f(r.Wall))
		if counts {
			fmt.Fprintf(w, "        %+v\n", r.Counts)
		}
	}
}
