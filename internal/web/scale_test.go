package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"swarmboot/internal/event"
)

// A rack ends in the same second, on a disk that takes its time: the table must
// go on answering, and every node must be in the file when its report is answered.
func TestManyEndAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nodes.json")
	n, _, _ := table(t, file)
	n.saving.Lock()
	var wg sync.WaitGroup
	const many = 300
	for i := range many {
		wg.Go(func() {
			if err := n.Update(event.Progress{Node: fmt.Sprint("n", i), Image: "debian", Run: "r", Phase: event.PhaseDone}, ""); err != nil {
				t.Error(err)
			}
		})
	}
	for deadline := time.Now().Add(2 * time.Minute); len(n.List()) < many; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			n.saving.Unlock()
			t.Fatalf("while the file is written only %d of %d reports were taken", len(n.List()), many)
		}
	}
	n.saving.Unlock()
	wg.Wait()
	n, _, _ = table(t, file)
	if got := n.CountDeployed(); got != many {
		t.Errorf("the file knows %d of %d", got, many)
	}
}

// What the table takes must be readable at the next start, or the server does not start.
func TestDeployedListIsBounded(t *testing.T) {
	n, _, _ := table(t, "")
	long := Deployment{Image: strings.Repeat("i", 128), Run: strings.Repeat("r", 64), Time: time.Unix(1e9, 123456789).UTC(),
		Machine: event.Machine{UUID: uuidA, MACs: slices.Repeat([]string{macA}, event.MaxMACs)}, Again: true}
	one, err := json.MarshalIndent(map[string]Deployment{uuidA + "." + strings.Repeat("n", 64): long}, "", "  ")
	if err != nil || len(one)*maxDeployed > maxStateLen {
		t.Errorf("%d entries of %d bytes do not fit into %d (%v)", maxDeployed, len(one), maxStateLen, err)
	}
	for i := range maxDeployed {
		n.deployed[fmt.Sprint("n", i)] = long
	}
	done := event.Progress{Node: "more", Run: "r", Image: "debian", Phase: event.PhaseDone}
	if err := n.Update(done, ""); !errors.Is(err, ErrFull) {
		t.Errorf("more than the limit: %v", err)
	}
	done.Node = "n7"
	if err := n.Update(done, ""); err != nil {
		t.Errorf("a node that is known: %v", err)
	}
}

// deadlineRecorder notes the deadline that a handler sets.
type deadlineRecorder struct {
	*httptest.ResponseRecorder
	read time.Time
}

func (r *deadlineRecorder) SetReadDeadline(t time.Time) error { r.read = t; return nil }

func TestReportsHaveATimeLimit(t *testing.T) {
	nodes, _, _ := table(t, "")
	h := Handler(Options{Images: oneImage{}, Nodes: nodes})
	r := &deadlineRecorder{ResponseRecorder: httptest.NewRecorder()}
	body := strings.NewReader(report("n", "r", event.PhaseFetch, 1))
	h.ServeHTTP(r, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/nodes", body))
	if left := time.Until(r.read); r.Code != 200 || left <= 0 || left > bodyTime {
		t.Errorf("status %d, %s for a report", r.Code, left)
	}
}
