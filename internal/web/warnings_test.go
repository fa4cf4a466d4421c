package web

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// What is wrong with the server stands on the page and in the status.
func TestServerWarnings(t *testing.T) {
	nodes, err := NewNodes(NodesOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h := Handler(Options{Images: oneImage{}, Nodes: nodes, Warnings: func() []string { return []string{"another <server>"} }})
	for path, want := range map[string]string{"/": "another &lt;server&gt;", "/api/v1/warnings": `"another \u003cserver\u003e"`} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
		if w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d, %s", path, w.Code, w.Body)
		}
	}
}
