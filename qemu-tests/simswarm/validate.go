package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
)

// within is by how much the simulator may differ from what was measured.
const within = 0.10

// measured is a run of benchswarm, as it prints it with --json: nodes in network namespaces behind one switch.
type measured struct {
	Tool      string  `json:"tool"`
	Nodes     int     `json:"nodes"`
	RateMbit  float64 `json:"rateMbit"`
	WireBytes int64   `json:"wireBytes"`
	First     float64 `json:"firstSeconds"`
	Median    float64 `json:"medianSeconds"`
	Last      float64 `json:"lastSeconds"`
	Seeder    float64 `json:"seederCopies"`
	Plan      string  `json:"plan"`
	Load      string  `json:"loadAverage"`
	Failed    int     `json:"failed"`
}

func readMeasured(r io.Reader) (runs []measured, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var m measured
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return nil, fmt.Errorf("a line is no result of benchswarm --json: %w", err)
		}
		if m.Nodes < 1 || m.RateMbit <= 0 || m.WireBytes <= 0 || m.Last <= 0 || m.Failed > 0 {
			return nil, fmt.Errorf("a run of %d nodes, %d failed: nothing to compare with", m.Nodes, m.Failed)
		}
		if m.Tool != "swarm" || m.Plan != "" {
			return nil, fmt.Errorf("a run of %s (%s): only those of swarmboot in which nothing happens are simulated", m.Tool, m.Plan)
		}
		runs = append(runs, m)
	}
	if len(runs) == 0 && lines.Err() == nil {
		return nil, errors.New("no result in it")
	}
	return runs, lines.Err()
}

// model is what was measured, for the simulator: one rack, so no uplink.
func (m measured) model(base Model) Model {
	base.Nodes, base.Rack = m.Nodes, m.Nodes
	base.Port = m.RateMbit * 1e6
	base.Server = base.Port
	base.Image = m.WireBytes
	base.Storm, base.Die, base.Slow = 0, 0, 0
	return base
}

// compared is one figure of both.
type compared struct {
	what                string
	measured, simulated float64
}

func (c compared) off() float64 { return c.simulated/c.measured - 1 }

func (m measured) compare(base Model) ([]compared, error) {
	_, r, err := simulate(m.model(base), false)
	if err != nil {
		return nil, err
	}
	return []compared{
		{"first", m.First, r.First * r.Floor},
		{"median", m.Median, r.Median * r.Floor},
		{"last", m.Last, r.Last * r.Floor},
	}, nil
}

// validate prints measured against simulated seconds. It fails if a figure differs by more than 10 %.
func validate(path string, base Model, w io.Writer) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	runs, err := readMeasured(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	fmt.Fprintf(w, "%6s %7s %5s %8s %11s %11s %7s\n", "nodes", "Mbit/s", "load", "node", "measured_s", "simulated_s", "off")
	far := 0
	for _, m := range runs {
		figures, err := m.compare(base)
		if err != nil {
			return err
		}
		for _, c := range figures {
			word := ""
			if math.Abs(c.off()) > within {
				far, word = far+1, " FAIL"
			}
			fmt.Fprintf(w, "%6d %7.0f %5s %8s %11.2f %11.2f %+6.1f%%%s\n", m.Nodes, m.RateMbit, m.Load, c.what, c.measured, c.simulated, 100*c.off(), word)
		}
	}
	if far > 0 {
		return fmt.Errorf("%d figures differ by more than %.0f %%", far, 100*within)
	}
	return nil
}
