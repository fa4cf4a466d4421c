package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"swarmboot/internal/cli"
)

// A reverse proxy may have the server in a folder.
func TestStatusKeepsThePath(t *testing.T) {
	var asked string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.EscapedPath()
		_, _ = io.WriteString(w, `{"nodes":1}`)
	}))
	defer s.Close()
	for _, tt := range []struct{ path, node, want string }{
		{"", "n", "/api/v1/nodes/n/redeploy"},
		{"/", "n", "/api/v1/nodes/n/redeploy"},
		{"/rack/7", "n", "/rack/7/api/v1/nodes/n/redeploy"},
		{"/rack/7/", "52:54:00:00:00:0a", "/rack/7/api/v1/nodes/52:54:00:00:00:0a/redeploy"},
		{"/a%2Fb", "x/../y", "/a%2Fb/api/v1/nodes/x%2F..%2Fy/redeploy"},
	} {
		var out bytes.Buffer
		err := run(t.Context(), []string{"status", "--server", s.URL + tt.path, "--redeploy", tt.node}, &out, io.Discard)
		if err != nil || asked != tt.want {
			t.Errorf("%s: asked for %s, want %s; %v", tt.path, asked, tt.want, err)
		}
	}
	// What would be left out is refused.
	for _, server := range []string{s.URL + "/?rack=7", s.URL + "/#7", strings.Replace(s.URL, "//", "//root:x@", 1)} {
		if err := run(t.Context(), []string{"status", "--server", server}, io.Discard, io.Discard); cli.Code(err) != cli.CodeUsage {
			t.Errorf("%s: %v", server, err)
		}
	}
}
