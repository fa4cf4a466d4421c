package main

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/deploy/deploytest"
	"swarmboot/internal/event"
	"swarmboot/internal/swarm"
	"swarmboot/internal/tracker"
)

// testServer is the part of a swarmboot server that a node talks to.
type testServer struct {
	URL     string
	dir     string
	tracker *tracker.Tracker
	seeder  *swarm.Seeder
	heard   chan struct{} // a report came in

	mu      sync.Mutex
	layouts map[string]string // JSON by name
	infos   map[string][20]byte
	nodes   map[string][]event.Progress
}

// newServer starts a server of no images; its seeder sends rate bytes per second, 0: all it can.
func newServer(t *testing.T, rate int64) *testServer {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	s := &testServer{dir: t.TempDir(), layouts: map[string]string{}, tracker: tracker.New(tracker.Options{Logger: quiet}),
		infos: map[string][20]byte{}, nodes: map[string][]event.Progress{}, heard: make(chan struct{}, 1)}
	var err error
	s.seeder, err = swarm.NewSeeder(swarm.SeederOptions{Listen: "127.0.0.1:0", UploadRate: rate, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.seeder.Close() })
	s.tracker.SetSeeder(s.seeder.Port())
	mux := http.NewServeMux()
	mux.Handle("GET /images/", http.StripPrefix("/images/", http.FileServer(http.Dir(s.dir))))
	mux.Handle("GET /announce", s.tracker)
	mux.Handle("GET /scrape", s.tracker)
	mux.HandleFunc("POST /api/v1/nodes", s.report)
	mux.HandleFunc("GET /api/v1/profile", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "{}") //nolint:errcheck // the node has gone
	})
	mux.HandleFunc("GET /layouts/{name}", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		text, ok := s.layouts[r.PathValue("name")]
		s.mu.Unlock()
		if !ok {
			http.NotFound(w, r)
			return
		}
		io.WriteString(w, text) //nolint:errcheck // the node has gone
	})
	h := httptest.NewServer(mux)
	t.Cleanup(h.Close)
	s.URL = h.URL
	return s
}

func (s *testServer) report(w http.ResponseWriter, r *http.Request) {
	var p event.Progress
	if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.nodes[p.Node] = append(s.nodes[p.Node], p)
	info := s.infos[p.Image]
	s.mu.Unlock()
	select {
	case s.heard <- struct{}{}:
	default:
	}
	reply := event.Reply{Leave: p.Phase == event.PhaseSeed && !s.tracker.Needed(info, p.Node)}
	json.NewEncoder(w).Encode(reply) //nolint:errcheck // the node has gone
}

// reports returns what a node has said.
func (s *testServer) reports(node string) []event.Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]event.Progress(nil), s.nodes[node]...)
}

func (s *testServer) last(node string) event.Progress {
	if r := s.reports(node); len(r) > 0 {
		return r[len(r)-1]
	}
	return event.Progress{}
}

// publish makes an image, lets spoil change its payload file, and seeds it.
func (s *testServer) publish(t *testing.T, name string, size int64, layout imagefmt.Layout, spoil func(*os.File, *imagefmt.Manifest)) *deploytest.Image {
	t.Helper()
	im, err := deploytest.Make(s.dir, name, size, layout)
	if err != nil {
		t.Fatal(err)
	}
	s.seed(t, name, im, spoil)
	return im
}

// seed lets spoil change the payload file of an image in the server's directory, and seeds it.
func (s *testServer) seed(t *testing.T, name string, im *deploytest.Image, spoil func(*os.File, *imagefmt.Manifest)) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(s.dir, name+".payload"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.seeder.Remove(im.Metainfo.InfoHash); f.Close() })
	if spoil != nil {
		spoil(f, im.Manifest)
	}
	if err := s.seeder.Add(im.Metainfo.Marshal(""), f); err != nil {
		t.Fatal(err)
	}
	s.tracker.Register(im.Metainfo.InfoHash, im.Manifest.Pieces())
	s.mu.Lock()
	s.infos[name] = im.Metainfo.InfoHash
	s.mu.Unlock()
}

func corrupt(f *os.File, m *imagefmt.Manifest) {
	b := make([]byte, 1)
	off := m.PayloadLength / 2
	_, err := f.ReadAt(b, off)
	b[0] ^= 0xFF
	if err == nil {
		_, err = f.WriteAt(b, off)
	}
	if err != nil {
		panic(err)
	}
}
