// Simswarm simulates a swarm of many nodes: the tracker's own topology code over a fluid model of
// racks, links and nodes. It prints how long the nodes take and what the links carry.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "simswarm:", err)
		}
		os.Exit(1)
	}
}

func run(args []string, out, errOut io.Writer) error {
	m := Model{Costs: defaultCosts()}
	fs := flag.NewFlagSet("simswarm", flag.ContinueOnError)
	fs.SetOutput(errOut)
	nodes := fs.String("nodes", "100,1000,7000,20000", "numbers of nodes, one run for each")
	all := fs.Bool("table", false, "the table: nodes that die, slow ones and boot storms, for each number of nodes")
	seeds := fs.Int("seeds", 3, "seeds of a row of the table with up to 1,000 nodes")
	measured := fs.String("validate", "", "compare with what benchswarm --json measured: a `FILE` of its lines")
	counts := fs.Bool("counts", false, "print how often the tracker intervened")
	uplink := fs.Bool("uplink", false, "print what crossed the busiest uplinks, and when")
	asJSON := fs.Bool("json", false, "print JSON")
	image := fs.Float64("image", 475, "size of the image, MB")
	piece := fs.Int64("piece", 256, "size of a piece, KiB")
	port := fs.Float64("port", 1000, "ports of the nodes, Mbit/s")
	server := fs.Float64("server", 0, "port of the server, Mbit/s; 0: like the nodes")
	fs.IntVar(&m.Rack, "rack", 40, "nodes of a rack")
	fs.Float64Var(&m.Oversub, "oversub", 4, "ports of a rack ÷ its uplink")
	fs.DurationVar(&m.Storm, "storm", 0, "nodes start at random within it")
	fs.BoolVar(&m.Ordered, "ordered", false, "nodes start rack by rack instead")
	fs.Float64Var(&m.Die, "die", 0, "share of nodes that die on the way")
	fs.Float64Var(&m.Slow, "slow", 0, "share of slow nodes")
	fs.Float64Var(&m.SlowRate, "slow-rate", 0.25, "their rate ÷ the others' rate")
	fs.Float64Var(&m.Disks, "disks", 0, "share of nodes whose disk alone is as slow")
	fs.Func("slow-disk", "`NUMBERS` of nodes whose disk alone is as slow, from 0", func(list string) (err error) {
		m.SlowDisk, err = parseNumbers(list)
		return err
	})
	fs.Func("cut", "`NUMBERS` of nodes whose cable is pulled, from 0", func(list string) (err error) {
		m.Cut, err = parseNumbers(list)
		return err
	})
	fs.DurationVar(&m.CutAt, "cut-at", 0, "when it is pulled")
	fs.DurationVar(&m.CutFor, "cut-for", 10*time.Second, "for how long")
	fs.Float64Var(&m.Tells, "tells", 0, "share of the slow nodes whose port tells its speed")
	fs.Uint64Var(&m.Seed, "seed", 1, "of the random numbers")
	fs.DurationVar(&m.Limit, "limit", time.Hour, "longest simulated time")
	fs.Float64Var(&m.Costs.Wire, "wire", m.Costs.Wire, "bytes on the wire ÷ bytes of pieces")
	fs.Float64Var(&m.Costs.HopPieces, "hop-pieces", m.Costs.HopPieces, "piece-times that a hop takes")
	fs.DurationVar(&m.Costs.HopFixed, "hop", m.Costs.HopFixed, "time that a hop takes beside")
	fs.DurationVar(&m.Costs.Stall, "stall", m.Costs.Stall, "silence after which a node asks for help")
	fs.IntVar(&m.Topology.Segment, "segment", 0, "tracker: nodes of a segment; 0 is its default")
	fs.IntVar(&m.Topology.Fan, "fan", 0, "tracker: segments that one feeds in a tree")
	fs.IntVar(&m.Topology.Chain, "chain", 0, "tracker: nodes up to which there is one chain")
	fs.IntVar(&m.Topology.Heads, "heads", 0, "tracker: segments that the seeder feeds")
	fs.DurationVar(&m.Topology.Interval, "interval", 0, "tracker: between announces; 0: by the number of nodes")
	if err := fs.Parse(args); err != nil {
		return err
	}
	m.Image, m.Piece, m.Port, m.Server = int64(*image*1e6), *piece<<10, *port*1e6, *server*1e6
	if m.Server == 0 {
		m.Server = m.Port
	}
	if *measured != "" {
		return validate(*measured, m, out)
	}
	numbers, err := parseNumbers(*nodes)
	if err != nil {
		return fmt.Errorf("--nodes: %w", err)
	}
	if *all {
		if *seeds < 1 {
			return fmt.Errorf("--seeds %d: want one at least", *seeds)
		}
		tell := tellTable(out)
		if *asJSON {
			tell = tellJSON(out)
		}
		return table(m, numbers, *seeds, tell)
	}
	var results []Result
	for _, n := range numbers {
		m.Nodes = n
		s, r, err := simulate(m, *uplink)
		if err != nil {
			return err
		}
		if *uplink {
			s.printUplink(out)
		}
		results = append(results, r)
	}
	if *asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(results)
	}
	printTable(out, results, *counts)
	return nil
}

func parseNumbers(list string) (numbers []int, err error) {
	for word := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(word)
		if err != nil {
			return nil, fmt.Errorf("%q is not a number", word)
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
}

// simulate runs a model; with uplink it notes who took what from another rack.
func simulate(m Model, uplink bool) (*sim, Result, error) {
	if err := m.check(); err != nil {
		return nil, Result{}, err
	}
	began := time.Now()
	s := newSim(m)
	if uplink {
		s.crossed = make(crossings)
	}
	s.run()
	return s, s.result(time.Since(began)), nil
}
