package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/event"
)

// TestSettledSaysWhatIsUnsent: process 1 hears whether the server got the last report, whatever the run ended with, and gets the
// report where it did not.
func TestSettledSaysWhatIsUnsent(t *testing.T) {
	s := newServer(t, 0)
	s.publish(t, "img", 8*mib, imagefmt.Packed, nil)
	whole, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(whole) }}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			http.Error(w, "full", http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	deaf := &testServer{URL: front.URL}
	for _, tt := range []struct {
		name string
		s    *testServer
		size int64
		code int
		end  event.Phase
	}{
		{"told", s, 4 * mib, cli.CodeTooSmall, ""}, {"untold", deaf, 4 * mib, cli.CodeTooSmall, event.PhaseFailed},
		{"done", s, 8 * mib, cli.CodeDone, ""},
	} {
		settled := filepath.Join(t.TempDir(), "settled")
		p := start(t, tt.s, makeTarget(t, tt.size), "--image", "img", "--node", tt.name, "--settled", settled)
		if c := p.code(); c != tt.code {
			t.Fatalf("%s: code %d\n%s", tt.name, c, p.err.String())
		}
		var got event.Settled
		if err := json.Unmarshal(readFile(t, settled), &got); err != nil || (got.Unsent == nil) != (tt.end == "") {
			t.Fatalf("%s: %s: %v", tt.name, readFile(t, settled), err)
		}
		if u := got.Unsent; u != nil && (u.Phase != tt.end || u.Node != tt.name || u.Run == "" || u.ExitCode != tt.code || !strings.Contains(u.Error, "select: ")) {
			t.Errorf("%s: unsent: %+v", tt.name, *u)
		}
	}
}
