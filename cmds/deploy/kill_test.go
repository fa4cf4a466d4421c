package main

import (
	"bufio"
	"encoding/json"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"swarmboot/imagefmt"
	"swarmboot/internal/event"
)

// kills is how often TestKilledAnywhere kills a deployment.
const kills = 25

// phases before the last one that a run may be killed in without anything of the image being listed.
var unverified = []event.Phase{"", event.PhaseManifest, event.PhaseSelect, event.PhaseWipe, event.PhasePartition, event.PhaseFetch,
	event.PhaseSync, event.PhaseVerify, event.PhaseMkfs}

// TestKilledAnywhere kills deploy at random points of its run. After every kill what is kept is there, byte for byte and in the table; nothing
// of the image is listed unless it was verified; and the next run ends well.
func TestKilledAnywhere(t *testing.T) {
	const seed = 20240817
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := newServer(t, 24*mib) // so that a fetch takes a while
	im := s.publish(t, "img", 24*mib, imagefmt.Packed, nil)
	dev := loop(t, makeTarget(t, keptDisk))
	layout := layoutFile(t, keepingLayout(dev))
	all := append(unverified[1:len(unverified):len(unverified)], event.PhaseReread, event.PhaseSeed)
	reached := map[event.Phase]int{}
	for i := range kills {
		data := oldDisk(t, dev)
		before := sfdisk(t, dev)
		// Half of the points are anywhere in time, most of which is the fetch; half soon after a step has begun.
		phase, wait := event.PhaseManifest, time.Duration(rng.Int64N(int64(1200*time.Millisecond)))
		if i%2 == 1 {
			phase, wait = all[rng.IntN(len(all))], time.Duration(rng.Int64N(int64(8*time.Millisecond)))
		}
		last := runAndKill(t, s, layout, phase, wait)
		reached[last]++
		when := "killed in " + string(last)
		checkKept(t, when, dev, data, before)
		if slices.Contains(unverified, last) {
			for uuid, p := range sfdisk(t, dev) {
				for _, q := range im.Manifest.Table.Partitions {
					if strings.EqualFold(uuid, q.UUID) {
						t.Errorf("%s: %s of the image is listed", when, p.Node)
					}
				}
			}
		}
		if p := startLayout(t, s, layout, "--verify", "readback"); p.code() != 0 {
			t.Fatalf("%s, and again: %s", when, p.err.String())
		}
		checkKept(t, when+", and again", dev, data, before)
		checkPlaced(t, when+", and again", dev, im)
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("killed in %v", reached)
	if len(reached) < 4 || reached[event.PhaseFetch] == 0 {
		t.Errorf("killed in %v only", reached)
	}
}

// runAndKill starts a deployment, kills it some time after it has reported a phase, and returns the last phase it reported.
func runAndKill(t *testing.T, s *testServer, layout string, phase event.Phase, wait time.Duration) (last event.Phase) {
	t.Helper()
	path, err := exec.LookPath("deploy")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "--server", s.URL, "--layout", layout, "--image", "img", "--node", "n", "--listen", "127.0.0.1:0",
		"--json", "--linger", "1s", "--verify", "readback")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var p event.Progress
		if json.Unmarshal(lines.Bytes(), &p) != nil {
			break // cut off in the middle
		}
		if last = p.Phase; last == phase && !killed {
			killed = true
			time.AfterFunc(wait, func() { cmd.Process.Kill() }) //nolint:errcheck // it may have ended
		}
	}
	if !killed {
		cmd.Process.Kill() //nolint:errcheck // as above
	}
	cmd.Wait() //nolint:errcheck // killed
	return last
}
