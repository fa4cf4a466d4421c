package web

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"swarmboot/internal/event"
	"swarmboot/internal/tooltest"
)

const macA = "52:54:00:00:00:0a"

// table is a node table with a clock and a log of its own.
func table(t *testing.T, file string) (*Nodes, *time.Time, *bytes.Buffer) {
	t.Helper()
	now := time.Unix(1e9, 0)
	log := &bytes.Buffer{}
	n, err := NewNodes(NodesOptions{File: file, Now: func() time.Time { return now }, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return n, &now, log
}

func update(t *testing.T, n *Nodes, p event.Progress) {
	t.Helper()
	if p.Node == "" {
		p.Node = macA
	}
	p.Image = "debian"
	if err := n.Update(p, "192.0.2.7"); err != nil {
		t.Fatal(err)
	}
}

func TestLateReportsChangeNothing(t *testing.T) {
	n, _, _ := table(t, "")
	for i, test := range []struct {
		p    event.Progress
		want event.Phase
	}{
		{event.Progress{Run: "r1", Phase: event.PhaseFetch, Seconds: 5}, event.PhaseFetch},
		{event.Progress{Run: "r1", Phase: event.PhaseWipe, Seconds: 3}, event.PhaseFetch},
		{event.Progress{Run: "r1", Phase: event.PhaseFailed, Seconds: 6}, event.PhaseFailed},
		{event.Progress{Run: "r1", Phase: event.PhaseFetch, Seconds: 7}, event.PhaseFailed},
		{event.Progress{Run: "r2", Phase: event.PhaseBoot, Seconds: 1}, event.PhaseBoot},
		{event.Progress{Run: "r1", Phase: event.PhaseDone, Seconds: 9}, event.PhaseBoot},
		{event.Progress{Run: "r2", Phase: event.PhaseDone, Seconds: 9}, event.PhaseDone},
	} {
		update(t, n, test.p)
		if got := n.List()[0].Phase; got != test.want {
			t.Errorf("report %d: phase %s, want %s", i, got, test.want)
		}
	}
}

func TestSilentNodesAreLost(t *testing.T) {
	n, now, _ := table(t, "")
	update(t, n, event.Progress{Run: "r", Phase: event.PhaseFetch})
	update(t, n, event.Progress{Node: "b", Run: "r", Phase: event.PhaseDone})
	for _, test := range []struct {
		after time.Duration
		lost  bool
	}{{LostAfter, false}, {time.Second, true}} {
		*now = now.Add(test.after)
		l := n.List()
		if l[0].Lost != test.lost || l[1].Lost {
			t.Errorf("lost: %v and %v, want %v and false", l[0].Lost, l[1].Lost, test.lost)
		}
	}
	update(t, n, event.Progress{Run: "r", Phase: event.PhaseFetch, Seconds: 31})
	if n.List()[0].Lost {
		t.Error("lost although it reports again")
	}
}

func TestEventsAreLoggedOnce(t *testing.T) {
	n, _, log := table(t, "")
	for i := range 3 {
		update(t, n, event.Progress{Run: "r", Phase: event.PhaseFetch, Seconds: float64(i)})
	}
	update(t, n, event.Progress{Run: "r", Phase: event.PhaseFailed, Seconds: 4, Error: "write /dev/sda at 4096: no space", ExitCode: 5})
	for want, times := range map[string]int{"node joined": 1, "phase=fetch": 1, "no space": 1, "level=ERROR": 1} {
		if got := strings.Count(log.String(), want); got != times {
			t.Errorf("%q is logged %d times:\n%s", want, got, log)
		}
	}
}

func TestDeployedSurvivesARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), ".swarmboot", "nodes.json")
	n, _, _ := table(t, file)
	update(t, n, event.Progress{Run: "r", Phase: event.PhaseFetch})
	if _, ok := n.Deployed(macA, ""); ok {
		t.Error("deployed before it is done")
	}
	update(t, n, event.Progress{Run: "r", Phase: event.PhaseDone})
	update(t, n, event.Progress{Node: "b", Run: "r", Phase: event.PhaseDone})

	n, _, _ = table(t, file)
	if d, ok := n.Deployed(macA, ""); !ok || d.Image != "debian" {
		t.Errorf("after a restart: %+v, %v", d, ok)
	}
	if k, err := n.Redeploy("all"); k != 2 || err != nil {
		t.Errorf("redeploy all: %d, %v", k, err)
	}
	n, _, _ = table(t, file)
	if _, ok := n.Deployed(macA, ""); ok {
		t.Error("redeploy was forgotten")
	}
}

// Racks lose their power together with their server, maybe in the second after the last of them was deployed.
func TestDeployedSurvivesAPowerCut(t *testing.T) {
	if dir := tooltest.Inside(); dir != "" {
		n, _, _ := table(t, filepath.Join(dir, ".swarmboot", "nodes.json"))
		update(t, n, event.Progress{Run: "r", Phase: event.PhaseDone})
		return
	}
	did := tooltest.Folders(t, "TestDeployedSurvivesAPowerCut", t.TempDir())
	if len(did) < 3 || !slices.Equal(did[:2], []string{"mkdir .swarmboot", "sync ."}) || did[len(did)-1] != "sync .swarmboot" {
		t.Errorf("%q", did)
	}
}

func TestUnreadableStateIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nodes.json")
	if err := os.WriteFile(file, []byte(`{"52:54`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := NewNodes(NodesOptions{File: file}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a damaged list was taken: %v", err)
	}
}

func TestTableIsBounded(t *testing.T) {
	n, now, _ := table(t, "")
	n.o.Logger = slog.New(slog.DiscardHandler)
	for i := range maxNodes {
		update(t, n, event.Progress{Node: fmt.Sprint("n", i), Run: "r", Phase: event.PhaseFetch})
	}
	if err := n.Update(event.Progress{Node: "more", Run: "r", Phase: event.PhaseFetch}, ""); err == nil {
		t.Error("more nodes than the limit")
	}
	*now = now.Add(LostAfter + time.Second)
	if err := n.Update(event.Progress{Node: "more", Run: "r", Phase: event.PhaseFetch}, ""); err != nil || len(n.List()) != maxNodes {
		t.Errorf("silent nodes do not make room: %v, %d nodes", err, len(n.List()))
	}
}
