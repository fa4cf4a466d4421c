package main

import (
	"context"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"swarmboot/internal/cli"
)

func missed(v []verdict) bool {
	return slices.ContainsFunc(v, func(v verdict) bool { return !v.reached() })
}

// Nodes that failed have no time: what is left of a run must not pass for a good one.
func TestFailedNodesReachNothing(t *testing.T) {
	for _, s := range scenarios() {
		for _, failed := range []int{1, 8} {
			r := &result{Nodes: 8, Known: 8, Failed: failed, Floor: 37, WireBytes: 1, RateMbit: 100}
			if v := s.verdicts(r, map[string]*result{}); !missed(v) {
				t.Errorf("%s: %d of 8 nodes failed: %v", s.name, failed, v)
			}
		}
		r := &result{Nodes: 8, Known: 8, Floor: 37, WireBytes: 470e6, RateMbit: 100}
		if v := s.verdicts(r, map[string]*result{}); missed(v) {
			t.Errorf("%s: none failed: %v", s.name, v)
		}
	}
}

func TestVerdict(t *testing.T) {
	for _, tt := range []struct {
		got  float64
		want string
	}{{1, "pass"}, {1.09, "pass"}, {1.0901, "FAIL"}, {math.NaN(), "FAIL"}, {math.Inf(1), "FAIL"}} {
		if v := (verdict{"last", tt.got, 1.09}); !strings.HasPrefix(v.String(), tt.want+" last ") {
			t.Errorf("%v: %s", tt.got, v)
		}
	}
}

func TestWanted(t *testing.T) {
	for _, tt := range []struct {
		names  string
		packed bool
		want   string
		random bool
		err    string
	}{
		{"together", false, "together", false, ""},
		{"nodes-24,nodes-8,random", false, "nodes-8 nodes-24", true, ""},
		{"random", false, "", true, ""},
		{"late,packed", true, "packed late", false, ""},
		{"late", false, "", false, "VERBATIM,PACKED"},
		{"togther", true, "", false, `no "togther"`},
		{"", true, "", false, `no ""`},
	} {
		rows, random, err := (&options{scenarios: tt.names}).wanted(tt.packed)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) || cli.Code(err) != cli.CodeUsage {
				t.Errorf("%s: %v", tt.names, err)
			}
			continue
		}
		var got []string
		for _, s := range rows {
			got = append(got, s.name)
		}
		if strings.Join(got, " ") != tt.want || random != tt.random || err != nil {
			t.Errorf("%s: %v, %v, %v", tt.names, got, random, err)
		}
	}
	with, random, _ := (&options{scenarios: "all"}).wanted(true)
	without, _, _ := (&options{scenarios: "all"}).wanted(false)
	if len(with) != len(scenarios()) || len(without) != len(with)-2 || !random {
		t.Errorf("all: %d and %d rows, %v", len(with), len(without), random)
	}
}

// A row that cannot be run is missed, and the next ones are run.
func TestTableGoesOn(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		var out strings.Builder
		err := (&options{scenarios: "together,killed", image: filepath.Join(t.TempDir(), "none"), json: asJSON}).table(t.Context(), &out)
		if err == nil || !strings.Contains(err.Error(), "together: ") || !strings.Contains(err.Error(), "killed: ") {
			t.Errorf("json %v: %v", asJSON, err)
		}
		if got := strings.Count(out.String(), "FAIL"); got != 2 && !asJSON || got > 0 && asJSON {
			t.Errorf("json %v: %s", asJSON, out.String())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (&options{scenarios: "together,killed", image: "none"}).table(ctx, io.Discard); err == nil || strings.Contains(err.Error(), "killed") {
		t.Errorf("interrupted: %v", err)
	}
}
