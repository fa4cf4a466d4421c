package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/event"
)

// What process 1 has heard of the switch reaches the tracker, as the rack, and the reports; --rack wins over it for the tracker.
func TestSwitchReachesTrackerAndStatus(t *testing.T) {
	file := filepath.Join(t.TempDir(), "switch")
	text := `{"id":"mac:02:00:00:00:00:51","name":"sw-r7","port":"1/7","portDescription":"node 42"}`
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	at := event.Switch{ID: "mac:02:00:00:00:00:51", Name: "sw-r7", Port: "1/7", PortDescription: "node 42"}
	for _, tt := range []struct {
		args []string
		rack string
		at   event.Switch
	}{
		{[]string{"--switch", file}, at.ID, at},
		{[]string{"--switch", file, "--rack", "r7"}, "r7", at},
		{[]string{"--switch", file + ".none"}, "", event.Switch{}}, // not heard yet
		{nil, "", event.Switch{}},
	} {
		s := newServer(t, 0)
		s.publish(t, "img", 8*mib, imagefmt.Packed, nil)
		to, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		racks := make(chan string, 100)
		proxy := httputil.NewSingleHostReverseProxy(to)
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/announce" {
				racks <- r.URL.Query().Get("sb_rack")
			}
			proxy.ServeHTTP(w, r)
		}))
		p := start(t, s, makeTarget(t, 8*mib), append([]string{"--server", front.URL, "--image", "img", "--node", "n1"}, tt.args...)...)
		if code := p.code(); code != 0 {
			t.Fatalf("%q: code %d: %s", tt.args, code, &p.err)
		}
		front.Close()
		if got := <-racks; got != tt.rack {
			t.Errorf("%q: rack %q, want %q", tt.args, got, tt.rack)
		}
		if last := s.last("n1"); last.Phase != event.PhaseDone || last.Switch != tt.at {
			t.Errorf("%q: %s, %+v", tt.args, last.Phase, last.Switch)
		}
	}
}

func TestReadSwitch(t *testing.T) {
	for text, want := range map[string]event.Switch{
		`{"name":"sw"}`: {Name: "sw"},
		`{"name":"sw"`:  {},
		"":              {},
		`{"id":"` + strings.Repeat("a", event.MaxSwitchID+1) + `"}`: {}, // the tracker would refuse it
		`{"name":"` + strings.Repeat("a", maxSwitch) + `"}`:         {},
	} {
		path := filepath.Join(t.TempDir(), "switch")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := readSwitch(path); got != want {
			t.Errorf("%.80s: %+v", text, got)
		}
	}
}
