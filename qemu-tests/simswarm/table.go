package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// trouble is a row of the table for each number of nodes.
type trouble struct {
	name string
	set  func(*Model)
}

func troubles() []trouble {
	return []trouble{
		{"together", func(*Model) {}},
		{"2 % die", func(m *Model) { m.Die = 0.02 }},
		{"5 % slow", func(m *Model) { m.Slow = 0.05 }},
		{"5 % slow, they know", func(m *Model) { m.Slow, m.Tells = 0.05, 1 }},
		{"2 % slow disks", func(m *Model) { m.Disks = 0.02 }},
		{"all start in 60 s", func(m *Model) { m.Storm = time.Minute }},
		{"slow, die, 60 s", func(m *Model) { m.Slow, m.Die, m.Storm = 0.05, 0.02, time.Minute }},
	}
}

// fewSeeds is up to how many nodes a row has several seeds.
const fewSeeds = 1000

// Row are the runs of one setting with several seeds.
type Row struct {
	Trouble string   `json:"trouble"`
	Nodes   int      `json:"nodes"`
	Runs    []Result `json:"runs"`
}

// spread returns the median and the worst of a figure of all runs.
func (r Row) spread(figure func(Result) float64) (median, worst float64) {
	all := make([]float64, len(r.Runs))
	for i := range r.Runs {
		all[i] = figure(r.Runs[i])
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)-1]
}

// table runs every trouble with every number of nodes: seeds of them for few nodes, one for many.
func table(m Model, numbers []int, seeds int, tell func(Row) error) error {
	first := m.Seed
	for _, n := range numbers {
		for _, tr := range troubles() {
			row := Row{Trouble: tr.name, Nodes: n}
			times := seeds
			if n > fewSeeds {
				times = 1
			}
			for i := range times {
				m := m
				m.Nodes, m.Seed = n, first+uint64(i)
				tr.set(&m)
				_, r, err := simulate(m, false)
				if err != nil {
					return err
				}
				row.Runs = append(row.Runs, r)
			}
			if err := tell(row); err != nil {
				return err
			}
		}
	}
	return nil
}

func tellTable(w io.Writer) func(Row) error {
	began := false
	return func(r Row) error {
		if !began {
			began = true
			fmt.Fprintf(w, "Times are of ordinary nodes, ÷ the floor of %.1f s; over several seeds: the median, and the worst.\n", r.Runs[0].Floor)
			fmt.Fprintf(w, "%6s  %-20s %5s", "nodes", "", "seeds")
			for _, c := range figures() {
				fmt.Fprintf(w, " %*s", c.width(), c.name)
			}
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%6d  %-20s %5d", r.Nodes, r.Trouble, len(r.Runs))
		for _, c := range figures() {
			median, worst := r.spread(c.of)
			text := fmt.Sprintf(c.format, median)
			if len(r.Runs) > 1 {
				text += " " + fmt.Sprintf(c.format, worst)
			}
			fmt.Fprintf(w, " %*s", c.width(), text)
		}
		_, err := fmt.Fprintln(w)
		return err
	}
}

func tellJSON(w io.Writer) func(Row) error {
	e := json.NewEncoder(w)
	return func(r Row) error { return e.Encode(r) }
}

// figure is a column of the table.
type figure struct {
	name, format string
	of           func(Result) float64
}

func (f figure) width() int {
	return max(len(f.name), 2*len(strings.TrimSpace(fmt.Sprintf(f.format, 1.0)))+1)
}

func figures() []figure {
	return []figure{
		{"median", "%.2f", func(r Result) float64 { return r.Median }},
		{"p99", "%.2f", func(r Result) float64 { return r.P99 }},
		{"last", "%.2f", func(r Result) float64 { return r.Last }},
		{"slow ÷ own", "%.2f", func(r Result) float64 { return r.LastSlow }},
		{"seeder", "%.2f", func(r Result) float64 { return r.Seeder }},
		{"rack in", "%.2f", func(r Result) float64 { return r.InMax }},
		{"rack out", "%.2f", func(r Result) float64 { return r.OutMax }},
		{"announces/s", "%5.0f", func(r Result) float64 { return float64(r.PeakReqs) }},
		{"stuck", "%.0f", func(r Result) float64 { return float64(r.Stuck) }},
	}
}
