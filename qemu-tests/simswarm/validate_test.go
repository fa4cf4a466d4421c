package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRecorded compares the simulator with recorded runs of benchswarm (make bench-sim-validate measures anew).
func TestRecorded(t *testing.T) {
	f, err := os.Open("testdata/measured.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	runs, err := readMeasured(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range runs {
		figures, err := m.compare(Model{Seed: 1, Oversub: 1, Piece: 256 << 10, SlowRate: 1, Limit: time.Hour, Costs: defaultCosts()})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range figures {
			t.Logf("%d nodes, %.0f Mbit/s, %s: measured %.2f s, simulated %.2f s, %+.1f %%", m.Nodes, m.RateMbit, c.what, c.measured, c.simulated, 100*c.off())
			if math.Abs(c.off()) > within {
				t.Errorf("that is more than %.0f %% off", 100*within)
			}
		}
	}
}

func TestMeasuredRefusals(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "no JSON": "nodes floor\n", "failed": `{"nodes":8,"rateMbit":100,"wireBytes":1,"lastSeconds":1,"failed":2}`, "no time": `{"nodes":8}`,
		"another tool": `{"tool":"aria2","nodes":8,"rateMbit":100,"wireBytes":1000000,"lastSeconds":1}`,
		"a slow port":  `{"tool":"swarm","nodes":8,"rateMbit":100,"wireBytes":1000000,"lastSeconds":1,"plan":"node 4 at 25 Mbit/s"}`,
	} {
		path := filepath.Join(t.TempDir(), "m")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := validate(path, model(8), &out); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
