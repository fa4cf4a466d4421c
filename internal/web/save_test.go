package web

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"swarmboot/internal/durable"
	"swarmboot/internal/event"
)

// fullFolder returns a folder without a free byte, also for root, and what makes room there.
func fullFolder(t *testing.T) (dir string, makeRoom func()) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("64 KiB hold 1 MiB: %v", err)
	}
	return dir, func() {
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}
}

// Once a node has gone into the system that was deployed to it, only this list keeps the machine from being overwritten.
func TestDoneThatCannotBeSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, makeRoom := fullFolder(t)
		file := filepath.Join(dir, ".swarmboot", "nodes.json")
		n, _, log := table(t, file)
		h := Handler(Options{Images: oneImage{}, Nodes: n})
		request := func(method, path, body string) (int, string) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body)))
			return w.Code, w.Body.String()
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go n.Run(ctx)

		for range 3 { // the node asks again until it gives up
			if status, body := request("POST", "/api/v1/nodes", report(macA, "r", event.PhaseDone, 1)); status != 503 || !strings.Contains(body, "no space left") {
				t.Errorf("%d %s", status, body)
			}
		}
		time.Sleep(3 * saveAgain)
		synctest.Wait()
		if got := strings.Count(log.String(), "cannot be kept"); got != 1 {
			t.Errorf("said %d times:\n%s", got, log)
		}
		if d, ok := n.Deployed(macA, ""); !ok || d.Image != "debian" {
			t.Error("not even known in memory")
		}
		for _, path := range []string{"/", "/api/v1/warnings"} {
			if _, body := request("GET", path, ""); !strings.Contains(body, "no space left") {
				t.Errorf("%s does not say it:\n%s", path, body)
			}
		}

		makeRoom()
		time.Sleep(saveAgain + time.Second)
		synctest.Wait()
		if again, _, _ := table(t, file); again.CountDeployed() != 1 {
			t.Error("not saved although there is room")
		}
		if status, body := request("GET", "/api/v1/warnings", ""); status != 200 || strings.TrimSpace(body) != "[]" {
			t.Errorf("%d %s", status, body)
		}
		if status, body := request("POST", "/api/v1/nodes", report(macA, "r", event.PhaseDone, 1)); status != 200 {
			t.Errorf("%d %s", status, body)
		}
		if _, body := request("GET", "/", ""); strings.Contains(body, "cannot be saved") {
			t.Errorf("the page still says it:\n%s", body)
		}
	})
}

func TestRedeployThatCannotBeSaved(t *testing.T) {
	dir, makeRoom := fullFolder(t)
	n, _, _ := table(t, filepath.Join(dir, "nodes.json"))
	if err := n.Update(event.Progress{Node: "n", Run: "r", Phase: event.PhaseDone}, ""); !errors.Is(err, ErrNotSaved) {
		t.Errorf("%v", err)
	}
	w := httptest.NewRecorder()
	Handler(Options{Images: oneImage{}, Nodes: n}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/nodes/n/redeploy", nil))
	if w.Code != 503 || !strings.Contains(w.Body.String(), "1 to be deployed") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if _, ok := n.Deployed("n", ""); ok {
		t.Error("it still counts as deployed")
	}
	makeRoom()
	if err := n.Save(); err != nil {
		t.Error(err)
	}
}

// What lies at the path of the folder later may be another server's: its list must not be replaced by this one.
func TestListIsNotWrittenInAnotherFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "images")
	file := filepath.Join(dir, ".swarmboot", "nodes.json")
	folder := func(list string) {
		err := os.MkdirAll(filepath.Dir(file), 0o755)
		if err == nil {
			err = os.WriteFile(file, []byte(list), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	folder("{}")
	f, err := durable.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := NewNodes(NodesOptions{File: file, Folder: f})
	if err != nil {
		t.Fatal(err)
	}
	update(t, n, event.Progress{Run: "r", Phase: event.PhaseDone})
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	is := func(want error) {
		t.Helper()
		p := event.Progress{Node: fmt.Sprint("n", n.changes), Run: "r", Phase: event.PhaseDone}
		if err := n.Update(p, ""); !errors.Is(err, ErrNotSaved) || !errors.Is(err, want) {
			t.Errorf("%v", err)
		}
	}
	is(os.ErrNotExist)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder was made: %v", err)
	}
	const others = `{"another":{"image":"debian"}}`
	folder(others)
	is(durable.ErrReplaced)
	if b, err := os.ReadFile(file); err != nil || string(b) != others {
		t.Errorf("%s %v", b, err)
	}
}
