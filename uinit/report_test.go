package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"swarmboot/internal/event"
)

// A server that is away when the node fails is told once it is back, in the words of the engine's own run.
func TestServerThatWasAwayIsTold(t *testing.T) {
	var asked atomic.Int32
	var got []event.Progress
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) <= 8 {
			http.Error(w, "not yet", http.StatusServiceUnavailable)
			return
		}
		var p event.Progress
		if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
			t.Error(err)
		}
		got = append(got, p)
	}))
	defer s.Close()
	var shown bytes.Buffer
	n := &node{con: &console{outs: []*screen{{Writer: &shown}}}, server: s.URL}
	p := &event.Progress{Node: "n", Run: "0123", Phase: event.PhaseFailed, Error: "sync: broken", ExitCode: 5, Seconds: 60}
	n.unsent = p
	if err := n.tell(reportTries, time.Millisecond); err == nil || n.unsent != p || asked.Load() != reportTries {
		t.Fatalf("%v after %d tries, %v is left", err, asked.Load(), n.unsent)
	}
	never := func() bool { return false }
	n.tellOn(p, time.Millisecond, never)
	if len(got) != 1 || got[0].Run != p.Run || got[0].Error != p.Error || got[0].ExitCode != 5 || !strings.Contains(shown.String(), "the server was told\r\n") {
		t.Errorf("the server got %+v; shown: %q", got, &shown)
	}
	n.unsent = p
	if err := n.tell(1, 0); err != nil || n.unsent != nil || len(got) != 2 {
		t.Errorf("%v, %v is left", err, n.unsent)
	}
	s.Close()
	n.tellOn(p, time.Millisecond, func() bool { return true }) // ends, though nobody answers
}

func TestDeployByHandIsSeen(t *testing.T) {
	link := filepath.Join(t.TempDir(), filepath.Base(enginePath)) // as a command of the busybox program is one
	if err := os.Symlink("/bin/sleep", link); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), link, "1000")
	if err := cmd.Start(); err != nil { // it has its name when this returns
		t.Fatal(err)
	}
	if !deploysByHand() {
		t.Error("not seen")
	}
	cmd.Process.Kill() //nolint:errcheck // it has not ended before
	cmd.Wait()         //nolint:errcheck // killed
}
