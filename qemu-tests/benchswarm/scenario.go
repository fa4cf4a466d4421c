package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"swarmboot/internal/cli"
)

// scenario is a row of the table of aims.
type scenario struct {
	name   string
	packed bool
	tool   string // "" is swarm
	set    func(o *options, floor float64)
	judge  func(r *result, all map[string]*result) []verdict
}

// verdict is one aim and whether it was reached.
type verdict struct {
	what string
	got  float64
	most float64
}

func (v verdict) reached() bool { return v.got <= v.most } // not if it is no number

func (v verdict) String() string {
	word := "FAIL"
	if v.reached() {
		word = "pass"
	}
	return fmt.Sprintf("%s %s %.3f (at most %.3f)", word, v.what, v.got, v.most)
}

func at(who int, value, down float64) fault {
	return fault{who: who, value: value, down: down, set: true}
}

// within judges the last node that is not the victim, in floors.
func within(most float64) func(*result, map[string]*result) []verdict {
	return func(r *result, _ map[string]*result) []verdict {
		return []verdict{{"last ÷ floor", r.Ratio, most}}
	}
}

// verdicts are a row's aims. All nodes have to finish in every row: those that did not have no time that could be judged.
func (s scenario) verdicts(r *result, all map[string]*result) []verdict {
	v := []verdict{{"nodes that did not finish", float64(r.Failed), 0}}
	if s.judge != nil {
		v = append(v, s.judge(r, all)...)
	}
	return v
}

// scenarios are the rows, in their order: later ones are compared with earlier ones.
func scenarios() []scenario {
	rows := []scenario{
		{name: "aria2", tool: "aria2"},
		{name: "udpcast", tool: "udpcast"},
		{name: "http", tool: "http"},
		{name: "together", judge: judgeTogether},
		{name: "packed", packed: true, judge: within(0.48)},
		{name: "arrivals", set: func(o *options, floor float64) { o.stagger = seconds(floor) }, judge: within(1.10)},
		{name: "late", packed: true, judge: judgeLate, set: func(o *options, floor float64) { o.nodes, o.late = 2, seconds(0.35*floor) }},
		{name: "foreign", judge: judgeForeign, set: func(o *options, _ float64) { o.foreign = 2 }},
		{name: "killed", set: func(o *options, floor float64) { o.kill = at(o.nodes/2, floor/2, 0) }, judge: within(1.25)},
	}
	// One after another: nodes that start together get their places in any order.
	inOrder := func(o *options) { o.stagger = seconds(0.1 * float64(o.nodes)) }
	for _, node := range []int{1, 4, 8} { // whichever place the node has
		rows = append(rows,
			scenario{name: fmt.Sprintf("slow-port-%d", node), judge: within(1.15), set: func(o *options, _ float64) {
				inOrder(o)
				o.slow = at(min(node, o.nodes), float64(o.rate)/4, 0)
			}},
			scenario{name: fmt.Sprintf("slow-disk-%d", node), judge: within(1.15), set: func(o *options, _ float64) {
				inOrder(o)
				o.slowDisk = at(min(node, o.nodes), 3, 0)
			}})
	}
	rows = append(rows,
		// The last of a rack feeds the next one.
		scenario{name: "racks-slow-disk", judge: within(1.15), set: func(o *options, _ float64) {
			inOrder(o)
			o.inRack, o.slowDisk = (o.nodes+1)/2, at((o.nodes+1)/2, 3, 0)
		}},
		scenario{name: "racks-slow-port", judge: within(1.15), set: func(o *options, _ float64) {
			inOrder(o)
			o.inRack, o.slow = 1, at(1, float64(o.rate)/4, 0)
		}},
		// The follower of a slow first node shows that it is slow; here the follower is slow too, and all had the pace of the two: 4.2.
		scenario{name: "slow-ports-1-2", judge: within(1.5), set: func(o *options, _ float64) {
			inOrder(o)
			o.slow, o.slowPorts = at(1, float64(o.rate)/4, 0), min(2, o.nodes)
		}},
		scenario{name: "seeder-killed", set: func(o *options, floor float64) {
			o.stagger, o.server = seconds(floor/2), at(0, 1.2*floor, 9999)
		}},
		scenario{name: "server-restart", set: func(o *options, floor float64) { o.server = at(0, floor/2, 3) }, judge: judgeRestart},
		scenario{name: "cut", set: func(o *options, floor float64) { o.cut = at((o.nodes+2)/3, floor/2, 10) }, judge: judgeCut},
		scenario{name: "resume", set: func(o *options, floor float64) { o.restart = at(o.nodes/2, floor/2, 0) }, judge: judgeResume},
	)
	for _, n := range []int{8, 16, 24} {
		rows = append(rows, scenario{name: fmt.Sprintf("nodes-%d", n), judge: judgeMany,
			set: func(o *options, _ float64) { o.nodes, o.rate = n, o.rate/2 }})
	}
	return rows
}

func judgeTogether(r *result, all map[string]*result) []verdict {
	v := []verdict{{"last ÷ floor", r.Ratio, 1.09}, {"copies from the seeder", r.Seeder, 1.1},
		{"resident MiB", float64(r.RSS >> 20), 128}, {"seconds to \"you may go\"", r.Slowest, 1}}
	if a := all["aria2"]; a != nil && a.CPU > 0 {
		v = append(v, verdict{"CPU ÷ aria2's", r.CPU / a.CPU, 1.5})
	}
	return v
}

// judgeLate: the second node comes when the first has nearly everything and no longer in its cache, and has nobody else.
func judgeLate(r *result, _ map[string]*result) []verdict {
	return []verdict{{"late node ÷ floor of the packed bytes", r.Last * float64(r.RateMbit) * 1e6 / 8 / float64(r.WireBytes), 1.3},
		{"copies from the seeder", r.Seeder, 1.1}}
}

func judgeForeign(r *result, _ map[string]*result) []verdict {
	return []verdict{{"copies from the seeder", r.Seeder, 3}}
}

func judgeRestart(r *result, _ map[string]*result) []verdict {
	return []verdict{{"nodes the status page lost", float64(r.Nodes - r.Known), 0}}
}

func judgeCut(r *result, _ map[string]*result) []verdict {
	return []verdict{{"last ÷ floor", r.Ratio, 1.25 + 10/r.Floor}}
}

func judgeResume(r *result, _ map[string]*result) []verdict {
	return []verdict{{"copies fetched after the restart", r.Restarted, 0.75}}
}

func judgeMany(r *result, all map[string]*result) []verdict {
	if few := all["nodes-8"]; few != nil && few != r {
		return []verdict{{"last ÷ floor", r.Ratio, few.Ratio + 0.02}}
	}
	return nil
}

// wanted are the scenarios that were asked for; random says whether the random runs were.
func (o *options) wanted(packed bool) (rows []scenario, random bool, err error) {
	if o.scenarios == "all" {
		for _, s := range scenarios() {
			if packed || !s.packed {
				rows = append(rows, s)
			}
		}
		return rows, true, nil
	}
	names := strings.Split(o.scenarios, ",")
	for _, s := range scenarios() {
		if !slices.Contains(names, s.name) {
			continue
		}
		if s.packed && !packed {
			return nil, false, cli.Usagef("--scenarios %s needs --image VERBATIM,PACKED", s.name)
		}
		rows = append(rows, s)
	}
	for _, name := range names {
		random = random || name == "random"
		if name != "random" && !slices.ContainsFunc(rows, func(s scenario) bool { return s.name == name }) {
			return nil, false, cli.Usagef("--scenarios: there is no %q", name)
		}
	}
	return rows, random, nil
}

// table runs the scenarios that were asked for and says of each what it reached. It fails at the end if one did not reach its aims.
func (o *options) table(ctx context.Context, w io.Writer) error {
	verbatim, packed, _ := strings.Cut(o.image, ",")
	rows, random, err := o.wanted(packed != "")
	if err != nil {
		return err
	}
	all := map[string]*result{}
	var missed []string
	if !o.json {
		fmt.Fprintln(w, header)
	}
	for _, s := range rows {
		image := verbatim
		if s.packed {
			image = packed
		}
		r, err := o.row(ctx, s, image)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("%s: %w", s.name, err)
		case err != nil: // the rows of an hour do not end with one
			missed = append(missed, fmt.Sprintf("%s: %v", s.name, err))
			if !o.json {
				fmt.Fprintf(w, "        %s: FAIL %v\n", s.name, err)
			}
			continue
		}
		all[s.name], r.Scenario = r, s.name
		for _, v := range s.verdicts(r, all) {
			r.Aims = append(r.Aims, v.String())
			if !v.reached() {
				missed = append(missed, s.name+": "+v.String())
			}
		}
		if err := r.print(w, o.json); err != nil {
			return err
		}
		if !o.json {
			fmt.Fprintf(w, "        %s: %s\n", s.name, strings.Join(r.Aims, "; "))
		}
	}
	if random {
		v, err := o.random(ctx, w, verbatim)
		if err != nil {
			return err
		}
		if !v.reached() {
			missed = append(missed, "random: "+v.String())
		}
	}
	if len(missed) > 0 {
		return fmt.Errorf("not reached:\n%s", strings.Join(missed, "\n"))
	}
	return nil
}

func (o *options) row(ctx context.Context, s scenario, image string) (*result, error) {
	m, err := readImage(image)
	if err != nil {
		return nil, err
	}
	q := *o
	q.repeat, q.seed = 1, 0
	if s.set != nil {
		s.set(&q, float64(m.UsedBytes)*8/(float64(o.rate)*1e6))
	}
	return q.measure(ctx, orSwarm(s.tool), image, 0)
}

func orSwarm(tool string) string {
	if tool == "" {
		return "swarm"
	}
	return tool
}

// randomRuns is how many runs with random starts, kills and cuts all have to finish.
const randomRuns = 20

func (o *options) random(ctx context.Context, w io.Writer, image string) (verdict, error) {
	failed, begin := 0, time.Now()
	q := *o
	q.seed = max(1, o.seed)
	for i := range randomRuns {
		r, err := q.measure(ctx, "swarm", image, i)
		if err != nil {
			return verdict{}, fmt.Errorf("random run with seed %d: %w", q.seed+int64(i), err)
		}
		failed += r.Failed
		r.Scenario = "random"
		if err := r.print(w, o.json); err != nil {
			return verdict{}, err
		}
	}
	v := verdict{"nodes that did not finish", float64(failed), 0}
	if !o.json {
		fmt.Fprintf(w, "        random: %s; %d runs in %s\n", v, randomRuns, time.Since(begin).Round(time.Second))
	}
	return v, nil
}
