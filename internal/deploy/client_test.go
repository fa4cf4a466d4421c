package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/deploy/deploytest"
	"swarmboot/internal/event"
)

// imageServer serves the files of dir below /images and lets broken answer first.
func imageServer(t *testing.T, dir string, broken func(w http.ResponseWriter, r *http.Request) bool) *client {
	t.Helper()
	files := http.StripPrefix("/images/", http.FileServer(http.Dir(dir)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !broken(w, r) {
			files.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	c, err := newClient(s.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

func makeImage(t *testing.T, dir, name string, size int64) {
	t.Helper()
	if _, err := deploytest.Make(dir, name, size, imagefmt.Packed); err != nil {
		t.Fatal(err)
	}
}

func TestImageTriesAgain(t *testing.T) {
	dir := t.TempDir()
	makeImage(t, dir, "img", 16*mib)
	var calls atomic.Int32
	c := imageServer(t, dir, func(w http.ResponseWriter, r *http.Request) bool {
		if n := calls.Add(1); n <= 2 {
			http.Error(w, "starting", http.StatusServiceUnavailable)
			return true
		}
		return false
	})
	var said []string
	m, mi, err := c.image(t.Context(), "img", 2*time.Minute, func(s string) { said = append(said, s) })
	if err != nil {
		t.Fatal(err)
	}
	if m.Name != "img" || mi.Check(m) != nil {
		t.Errorf("got image %q", m.Name)
	}
	if len(said) != 2 || !strings.Contains(said[0], "503") {
		t.Errorf("remarks %q, want two about 503", said)
	}
}

// A server that checks its images longer than the node's patience is waited for.
func TestImageIsChecked(t *testing.T) {
	dir := t.TempDir()
	makeImage(t, dir, "img", 16*mib)
	start := time.Now()
	c := imageServer(t, dir, func(w http.ResponseWriter, r *http.Request) bool {
		if time.Since(start) > time.Second {
			return false
		}
		w.Header().Set("Retry-After", "2")
		http.Error(w, "img.json is still being checked: 7 %", http.StatusServiceUnavailable)
		return true
	})
	var said string
	if _, _, err := c.image(t.Context(), "img", 600*time.Millisecond, func(s string) { said = s }); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(said, "still being checked: 7 %") {
		t.Errorf("remark %q", said)
	}
}

func TestImageFailures(t *testing.T) {
	dir := t.TempDir()
	makeImage(t, dir, "img", 16*mib)
	makeImage(t, dir, "other", 17*mib)
	copyFile := func(from, to string) func() {
		return func() {
			b, err := os.ReadFile(filepath.Join(dir, from))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, to), b, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	pass := func(http.ResponseWriter, *http.Request) bool { return false }
	for _, c := range []struct {
		name, image string
		prep        func()
		broken      func(http.ResponseWriter, *http.Request) bool
		code        int
		text        string
	}{
		{"no such image", "none", func() {}, pass, cli.CodeUsage, "no image of this name"},
		{"server broken", "img", func() {}, func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusInternalServerError)
			return true
		}, cli.CodeUnreachable, "500"},
		{"too much", "img", func() {}, func(w http.ResponseWriter, _ *http.Request) bool {
			for range 2 * maxManifest / 1024 {
				if _, err := w.Write(make([]byte, 1024)); err != nil {
					break // the client has seen enough
				}
			}
			return true
		}, cli.CodeVerify, "more than"},
		{"renamed manifest", "new", copyFile("img.json", "new.json"), pass, cli.CodeUsage, "no image"},
		{"renamed image", "new", copyFile("img.torrent", "new.torrent"), pass, cli.CodeVerify, `names itself "img"`},
		{"torrent of another image", "img", copyFile("other.torrent", "img.torrent"), pass, cli.CodeVerify, "disagree"},
		{"manifest is not JSON", "img", copyFile("img.payload", "img.json"), pass, cli.CodeVerify, "manifest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.prep()
			cl := imageServer(t, dir, c.broken)
			if c.name == "manifest is not JSON" {
				if err := os.WriteFile(filepath.Join(dir, "img.json"), []byte("<html>"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			_, _, err := cl.image(t.Context(), c.image, 300*time.Millisecond, func(string) {})
			if cli.Code(err) != c.code || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %v (code %d), want %q (code %d)", err, cli.Code(err), c.text, c.code)
			}
		})
	}
}

func TestNewClientRefuses(t *testing.T) {
	for _, s := range []string{"", "192.0.2.1:8080", "ftp://x", "http://", "http://[::1", "/images"} {
		if _, err := newClient(s); cli.Code(err) != cli.CodeUsage {
			t.Errorf("%q: error %v, want code %d", s, err, cli.CodeUsage)
		}
	}
}

func TestRunServerUnreachable(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	target := filepath.Join(t.TempDir(), "target")
	if err := deploytest.Target(target, mib); err != nil {
		t.Fatal(err)
	}
	var last event.Progress
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	_, err := Run(ctx, Options{Server: s.URL, Image: "img", Disk: target, Patience: 200 * time.Millisecond}, func(p event.Progress) { last = p })
	if cli.Code(err) != cli.CodeUnreachable {
		t.Errorf("error %v (code %d)", err, cli.Code(err))
	}
	if last.Phase != event.PhaseFailed || last.ExitCode != cli.CodeUnreachable {
		t.Errorf("last report %+v", last)
	}
	if d := time.Since(start); d > finalLimit+time.Minute {
		t.Errorf("it took %s to give up", d)
	}
	b, _ := os.ReadFile(target)
	for i := range b {
		if b[i] != deploytest.Pattern {
			t.Fatalf("byte %d of the target was written", i)
		}
	}
}

func TestNodeID(t *testing.T) {
	host, _ := os.Hostname()
	if got := NodeID("http://127.0.0.1:8080"); got != host {
		t.Errorf("over loopback: %q, want the host name %q", got, host)
	}
}

func TestReporterLeavesOnlyWhenSeeding(t *testing.T) {
	post := func(context.Context, event.Progress) (event.Reply, error) { return event.Reply{Leave: true}, nil }
	r := newReporter(event.Progress{Phase: event.PhaseFetch}, post, nil)
	r.answered(event.PhaseFetch, event.Reply{Leave: true})
	select {
	case <-r.leave:
		t.Fatal("let go by an answer to a report of another phase")
	default:
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.run(ctx); close(done) }()
	r.update(func(p *event.Progress) { p.Phase = event.PhaseSeed })
	select {
	case <-r.leave:
	case <-time.After(2 * time.Minute):
		t.Error("not let go")
	}
	cancel()
	<-done
}

// The server is away for some posts; the last one must still arrive.
func TestFinalReportIsRepeated(t *testing.T) {
	var calls atomic.Int32
	var got atomic.Pointer[event.Progress]
	c := imageServer(t, t.TempDir(), func(w http.ResponseWriter, r *http.Request) bool {
		if calls.Add(1) < 3 {
			http.Error(w, "away", http.StatusBadGateway)
			return true
		}
		var p event.Progress
		if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
			t.Error(err)
		}
		got.Store(&p)
		if err := json.NewEncoder(w).Encode(event.Reply{}); err != nil {
			t.Error(err)
		}
		return true
	})
	r := newReporter(event.Progress{Node: "n"}, c.post, nil)
	err := r.follow(t.Context(), []step{{name: event.PhaseSelect, run: func(context.Context) error { return cli.WithCode(cli.CodeDisk, os.ErrInvalid) }}}, func() {})
	if cli.Code(err) != cli.CodeDisk {
		t.Errorf("error %v", err)
	}
	if p := got.Load(); p == nil || p.Phase != event.PhaseFailed || p.ExitCode != cli.CodeDisk || p.Error == "" || len(p.Steps) != 1 {
		t.Errorf("the server heard %+v", p)
	}
}

// A node with very much to tell must be heard all the same: a server that refuses its last report has it deployed again.
func TestReportOfMuchIsBounded(t *testing.T) {
	var got atomic.Pointer[event.Progress]
	c := imageServer(t, t.TempDir(), func(w http.ResponseWriter, r *http.Request) bool {
		var p event.Progress
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, event.MaxReport)).Decode(&p); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return true
		}
		got.Store(&p)
		_ = json.NewEncoder(w).Encode(event.Reply{})
		return true
	})
	r := newReporter(event.Progress{Node: "n"}, c.post, nil)
	err := r.follow(t.Context(), []step{{name: event.PhaseUUIDs, run: func(context.Context) error {
		for range 100 {
			r.warn(strings.Repeat("<", 10<<10))
		}
		return nil
	}}}, func() {})
	if p := got.Load(); err != nil || p == nil || p.Phase != event.PhaseDone || len(p.Warnings) != event.MaxWarnings {
		t.Errorf("%v, the server heard %+v", err, p)
	}
}

// TestNodesDriftApart: nodes that lost their server together, or that end together while it is away, do not ask it together for ever.
func TestNodesDriftApart(t *testing.T) {
	const nodes = 20
	for name, run := range map[string]func(ctx context.Context, tried func()){
		"manifest": func(ctx context.Context, tried func()) {
			c := &client{base: "http://192.0.2.1", http: &http.Client{Transport: refuse(tried)}}
			_, _, _ = c.image(ctx, "img", time.Minute, func(string) {})
		},
		"end": func(ctx context.Context, tried func()) {
			post := func(context.Context, event.Progress) (event.Reply, error) {
				tried()
				return event.Reply{}, errors.New("connection refused")
			}
			_ = newReporter(event.Progress{}, post, nil).final(ctx, time.Minute)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				moments := map[time.Time]int{}
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				var wg sync.WaitGroup
				for range nodes {
					wg.Go(func() {
						run(ctx, func() {
							mu.Lock()
							defer mu.Unlock()
							moments[time.Now()]++
						})
					})
				}
				wg.Wait()
				all := 0
				for _, n := range moments {
					all += n
				}
				if all < 3*nodes || len(moments) < all/2 {
					t.Errorf("%d attempts at %d moments", all, len(moments))
				}
			})
		})
	}
}

// refuse is a network in which nobody answers.
type refuse func()

func (r refuse) RoundTrip(*http.Request) (*http.Response, error) {
	r()
	return nil, errors.New("connection refused")
}
