package web

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A node gets its own profile or a reason why not, never an empty one by mistake.
func TestProfile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tool"), []byte("#!/bin/sh"), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var asked []string
	profile := func(node string, macs []string) ([]byte, error) {
		asked = append(append(asked, node), macs...)
		if node == "bad" {
			return nil, errors.New("bad.yaml:3:1: hostname: wrong")
		}
		return []byte(`{"hostname":"` + strings.ReplaceAll(node, ":", "") + `"}`), nil
	}
	h := Handler(Options{Images: oneImage{}, Nodes: &Nodes{}, Files: func(name string) (fs.File, error) { return root.Open(name) },
		Profile: profile, Layout: func(name string) ([]byte, error) {
			switch name {
			case "raid1":
				return []byte(`{"candidates":[]}`), nil
			case "broken":
				return nil, errors.New("broken.yaml:3:1: candidates[0].name: wrong")
			}
			return nil, fmt.Errorf("layout %q: %w", name, fs.ErrNotExist)
		}})
	bare := Handler(Options{Images: oneImage{}, Nodes: &Nodes{}})
	for _, tt := range []struct {
		path   string
		status int
		body   string
	}{
		{"/api/v1/profile?node=52-54-00-AA-BB-CC", 200, `{"hostname":"525400aabbcc"}`},
		{"/api/v1/profile?node=host-1&mac=52-54-00-AA-BB-CD&mac=x", 200, `{"hostname":"host-1"}`},
		{"/api/v1/profile?node=bad", 422, "bad.yaml:3:1: hostname: wrong"},
		{"/api/v1/profile?node=../bad", 400, "neither"},
		{"/api/v1/profile", 400, "neither"},
		{"/layouts/raid1", 200, `{"candidates":[]}`},
		{"/layouts/broken", 422, "broken.yaml:3:1: candidates[0].name: wrong"},
		{"/layouts/none", 404, "no layout of this name"},
		{"/layouts/", 404, ""},
		{"/layouts/%2e%2e%2fraid1", 404, ""},
		{"/files/tool", 200, "#!/bin/sh"},
		{"/files/none", 404, ""},
		{"/files/", 404, ""},
		{"/files/%2e%2e/x", 404, ""},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", tt.path, nil))
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.body) {
			t.Errorf("%s: %d %q", tt.path, w.Code, w.Body)
		}
	}
	if strings.Join(asked, " ") != "52:54:00:aa:bb:cc host-1 52:54:00:aa:bb:cd bad" {
		t.Errorf("asked for %q", asked)
	}
	w := httptest.NewRecorder()
	bare.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/api/v1/profile?node=a", nil))
	if w.Code != 200 || w.Body.String() != "{}" {
		t.Errorf("without profiles: %d %q", w.Code, w.Body)
	}
}
