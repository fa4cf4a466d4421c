package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"swarmboot/internal/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// oneImage is a catalog with the image "debian".
type oneImage struct{}

var payload = bytes.Repeat([]byte("0123456789"), 1000)

func (oneImage) List() []ImageInfo {
	return []ImageInfo{{Name: "debian", State: "ready"}, {Name: "large", State: ImageChecking, Percent: 41}}
}
func (oneImage) Manifest(name string) ([]byte, bool) {
	return []byte(`{"name":"debian"}`), name == "debian"
}
func (oneImage) Torrent(name, announce string) ([]byte, bool) {
	return []byte("announce=" + announce), name == "debian"
}
func (oneImage) Payload(name string) (Payload, int64, time.Time, bool) {
	return bytes.NewReader(payload), int64(len(payload)), time.Unix(1e9, 0), name == "debian"
}

// testServer serves oneImage; needed tells which nodes others depend on.
func testServer(t *testing.T, needed func(image, node string) bool) (*Nodes, *httptest.Server) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "vmlinuz"), []byte("kernel"), 0o644); err != nil {
		t.Fatal(err)
	}
	nodes, err := NewNodes(NodesOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h := Handler(Options{
		Images: oneImage{}, Nodes: nodes, Needed: needed, Kernel: filepath.Join(dir, "vmlinuz"), Initramfs: filepath.Join(dir, "initramfs"),
		Tracker: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "tracker "+r.URL.Path) }),
		Script: func(r BootRequest) (string, error) {
			if r.MAC == "52:54:00:00:00:ff" {
				return "", fmt.Errorf("no script")
			}
			return r.Base + " " + r.MAC + r.UUID, nil
		},
		IPXE: func(name string) (fs.File, error) { return os.DirFS(dir).Open(name) },
	})
	s := httptest.NewUnstartedServer(h)
	s.Config = Server(h, slog.New(slog.DiscardHandler))
	s.Start()
	t.Cleanup(func() { s.Close(); http.DefaultClient.CloseIdleConnections() })
	return nodes, s
}

// call sends a request; headers are "Name: value", "Host: x" sets the host.
func call(t *testing.T, method, url, body string, headers ...string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			req.Host = value
			continue
		}
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func TestGet(t *testing.T) {
	_, s := testServer(t, nil)
	for _, test := range []struct {
		path    string
		headers []string
		status  int
		body    string // part of it
	}{
		{"/healthz", nil, 200, "ok"},
		{"/images/debian.json", nil, 200, `{"name":"debian"}`},
		{"/images/debian.torrent", []string{"Host: boot.example:8080"}, 200, "announce=http://boot.example:8080/announce"},
		{"/images/debian.torrent", []string{"Host: 10.0.0.1"}, 200, "announce=http://10.0.0.1/announce"},
		{"/images/debian.torrent", []string{"Host: [fe80::1]:80"}, 200, "announce=http://[fe80::1]:80/announce"},
		{"/images/debian.torrent", []string{"Host: a b"}, 400, ""},
		{"/images/debian.torrent", []string{"Host: x/../y"}, 400, ""},
		{"/images/debian.torrent", []string{"Host: x:99999"}, 400, ""},
		{"/images/debian.torrent", []string{"Host: ${x}"}, 400, ""},
		{"/images/debian.payload", []string{"Range: bytes=15-18"}, 206, "5678"},
		{"/images/debian.payload", []string{"Range: bytes=10000-"}, 416, ""},
		// aria2 asks so; a Metalink in place of the bytes would break a download.
		{"/images/debian.payload", []string{"Accept: application/metalink4+xml", "Range: bytes=0-3"}, 206, "0123"},
		{"/images/other.json", nil, 404, "no image is ready"},
		{"/images/large.json", nil, 503, "large.json is still being checked: 41 %"},
		{"/images/large.torrent", nil, 503, "41 %"},
		{"/images/large", nil, 404, ""},
		{"/images/debian", nil, 404, ""},
		{"/images/..%2fdebian.json", nil, 404, ""},
		{"/api/v1/images", nil, 200, `"name": "debian"`},
		{"/api/v1/nodes", nil, 200, "[]"},
		{"/announce", nil, 200, "tracker /announce"},
		{"/scrape", nil, 200, "tracker /scrape"},
		{"/boot/script", []string{"Host: 10.0.0.1:8080"}, 200, "http://10.0.0.1:8080 "},
		{"/boot/script?mac=52-54-00-AA-BB-cc", []string{"Host: 10.0.0.1"}, 200, "http://10.0.0.1 52:54:00:aa:bb:cc"},
		{"/boot/script?mac=52-54-00-AA-BB-cc&uuid=" + uuidA, []string{"Host: 10.0.0.1"}, 200, "52:54:00:aa:bb:cc" + uuidA},
		{"/boot/script?mac=52-54-00-AA-BB-cc&uuid=", []string{"Host: 10.0.0.1"}, 200, "52:54:00:aa:bb:cc"},
		{"/boot/script?mac=52", nil, 400, "not a MAC address"},
		{"/boot/script?mac=525400aabbcc", []string{"Host: ${x}"}, 400, ""},
		{"/boot/script?mac=5254000000ff", nil, 500, "no script"},
		{"/boot/vmlinuz", nil, 200, "kernel"},
		{"/boot/initramfs", nil, 404, ""},
		{"/boot/ipxe/vmlinuz", nil, 200, "kernel"},
		{"/boot/ipxe/none.efi", nil, 404, ""},
		{"/", nil, 200, "<td>debian</td>"},
		{"/none", nil, 404, ""},
	} {
		status, body, _ := call(t, "GET", s.URL+test.path, "", test.headers...)
		if status != test.status || !strings.Contains(body, test.body) {
			t.Errorf("%s %v: %d %q, want %d %q", test.path, test.headers, status, body, test.status, test.body)
		}
	}
	if _, body, _ := call(t, "GET", s.URL+"/images/debian.payload", ""); body != string(payload) {
		t.Errorf("payload: %d bytes, want %d", len(body), len(payload))
	}
	if _, _, h := call(t, "GET", s.URL+"/boot/script", ""); h.Get("Cache-Control") != "no-store" {
		t.Error("a boot script may be cached")
	}
}

func report(node, run string, phase event.Phase, seconds float64) string {
	b, _ := json.Marshal(event.Progress{Node: node, Run: run, Image: "debian", Phase: phase, Seconds: seconds, PiecesDone: 5, PiecesTotal: 10})
	return string(b)
}

func TestReports(t *testing.T) {
	needed := true
	nodes, s := testServer(t, func(image, node string) bool {
		// The tracker knows a node by what it says itself, letter for letter.
		if image != "debian" || node != "52:54:00:00:00:0A" {
			t.Errorf("asked whether %q of %q is needed", node, image)
		}
		return needed
	})
	post := func(body string) (int, bool) {
		t.Helper()
		status, answer, _ := call(t, "POST", s.URL+"/api/v1/nodes", body)
		var r event.Reply
		if status == 200 {
			if err := json.Unmarshal([]byte(answer), &r); err != nil {
				t.Fatal(err)
			}
		}
		return status, r.Leave
	}
	for _, test := range []struct {
		phase  event.Phase
		needed bool
		leave  bool
	}{{event.PhaseFetch, false, false}, {event.PhaseSeed, true, false}, {event.PhaseSeed, false, true}, {event.PhaseDone, false, true}} {
		needed = test.needed
		if status, leave := post(report("52:54:00:00:00:0A", "r1", test.phase, 1)); status != 200 || leave != test.leave {
			t.Errorf("%s, needed %v: %d, leave %v", test.phase, test.needed, status, leave)
		}
	}
	if l := nodes.List(); len(l) != 1 || l[0].Node != "52:54:00:00:00:0a" || l[0].Phase != event.PhaseDone || l[0].Deployed != "debian" || l[0].Addr != "127.0.0.1" {
		t.Errorf("nodes: %+v", l)
	}
	for name, body := range map[string]string{
		"not JSON": "x", "no node": report("", "r", event.PhaseFetch, 0), "node with a slash": report("a/b", "r", event.PhaseFetch, 0),
		"node all": report("all", "r", event.PhaseFetch, 0), "node too long": report(strings.Repeat("a", 65), "r", event.PhaseFetch, 0),
		"unknown phase": report("n", "r", "dancing", 0), "negative": report("n", "r", event.PhaseFetch, -1),
		"too large": `{"node":"n","phase":"fetch","message":"` + strings.Repeat("x", maxBody) + `"}`,
	} {
		if status, _ := post(body); status != 400 {
			t.Errorf("%s: %d", name, status)
		}
	}
	if l := nodes.List(); len(l) != 1 {
		t.Errorf("nodes: %+v", l)
	}
}

// A deployment that ended well may have something to tell: it must not be lost behind the last remark.
func TestWarnings(t *testing.T) {
	nodes, s := testServer(t, nil)
	warning, array := "partition 2: the file system was not grown", "array root: resync 3.1 %"
	for _, phase := range []event.Phase{event.PhaseGrow, event.PhaseDone} {
		b, err := json.Marshal(event.Progress{Node: "n", Run: "r", Phase: phase, Message: "loaded", Warnings: []string{warning}, Arrays: []string{array}})
		if err != nil {
			t.Fatal(err)
		}
		if status, body, _ := call(t, "POST", s.URL+"/api/v1/nodes", string(b)); status != 200 {
			t.Fatal(body)
		}
	}
	if l := nodes.List(); len(l) != 1 || len(l[0].Warnings) != 1 || l[0].Warnings[0] != warning {
		t.Errorf("nodes: %+v", l)
	}
	if _, body, _ := call(t, "GET", s.URL+"/", ""); !strings.Contains(body, warning) || !strings.Contains(body, array) {
		t.Errorf("page:\n%s", body)
	}
}

// However much a node has to tell, that it is done must be heard: else it is deployed again when it next boots.
func TestReportWithMuchInIt(t *testing.T) {
	for i, p := range []event.Progress{{Warnings: make([]string, event.MaxWarnings+1)}, {Arrays: make([]string, event.MaxArrays+1)}} {
		nodes, s := testServer(t, nil)
		p.Node, p.Run, p.Phase = "m", "r", event.PhaseDone
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if status, body, _ := call(t, "POST", s.URL+"/api/v1/nodes", string(b)); status != 200 {
			t.Errorf("%d: %d %s", i, status, body)
		}
		if _, ok := nodes.Deployed("m", ""); !ok {
			t.Errorf("%d: the node counts as not deployed", i)
		}
		if n := nodes.List()[0]; len(n.Warnings) > event.MaxWarnings || len(n.Arrays) > event.MaxArrays {
			t.Errorf("%d: %d warnings, %d arrays are kept", i, len(n.Warnings), len(n.Arrays))
		}
	}
}

func TestRedeployOverHTTP(t *testing.T) {
	nodes, s := testServer(t, nil)
	call(t, "POST", s.URL+"/api/v1/nodes", report("52:54:00:00:00:0a", "r1", event.PhaseDone, 1))
	url := s.URL + "/api/v1/nodes/52-54-00-00-00-0A/redeploy"
	if status, _, _ := call(t, "POST", url, "", "Origin: http://evil.example", "Sec-Fetch-Site: cross-site"); status != 403 {
		t.Errorf("a foreign page may redeploy: %d", status)
	}
	if status, _, _ := call(t, "GET", url, ""); status != 405 {
		t.Errorf("GET redeploys: %d", status)
	}
	if _, ok := nodes.Deployed("52:54:00:00:00:0a", ""); !ok {
		t.Fatal("the node is no longer deployed")
	}
	if status, body, _ := call(t, "POST", url, ""); status != 200 || !strings.Contains(body, `"nodes": 1`) {
		t.Errorf("%d %s", status, body)
	}
	if _, ok := nodes.Deployed("52:54:00:00:00:0a", ""); ok {
		t.Error("the node is still deployed")
	}
	if status, _, _ := call(t, "POST", url, ""); status != 404 {
		t.Errorf("a node that is not deployed: %d", status)
	}
}

func TestPageEscapes(t *testing.T) {
	_, s := testServer(t, nil)
	b, _ := json.Marshal(event.Progress{Node: "n", Run: "r", Phase: event.PhaseFailed, Error: "<script>alert(1)</script>", Disk: "<b>"})
	if status, body, _ := call(t, "POST", s.URL+"/api/v1/nodes", string(b)); status != 200 {
		t.Fatal(body)
	}
	_, body, h := call(t, "GET", s.URL+"/", "")
	if strings.Contains(body, "<script>") || strings.Contains(body, "<b>") || !strings.Contains(body, "&lt;script&gt;") {
		t.Errorf("page:\n%s", body)
	}
	if !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Error("no content security policy")
	}
}

func FuzzReport(f *testing.F) {
	f.Add([]byte(report("52:54:00:00:00:0a", "r", event.PhaseFetch, 1)))
	f.Add([]byte(`{"node":"host-1","phase":"done","steps":[{"name":"fetch","seconds":1}]}`))
	f.Add([]byte(`{"node":"n","phase":"failed","error":"\ud800","bytesDone":-1}`))
	nodes, err := NewNodes(NodesOptions{})
	if err != nil {
		f.Fatal(err)
	}
	h := Handler(Options{Images: oneImage{}, Nodes: nodes})
	f.Fuzz(func(t *testing.T, b []byte) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/nodes", bytes.NewReader(b)))
		if w.Code != 200 && w.Code != 400 {
			t.Fatalf("status %d", w.Code)
		}
		for _, n := range nodes.List() {
			if !nodeID.MatchString(n.Node) || n.Phase == "" || len(n.Error) > event.MaxText {
				t.Fatalf("node %+v", n)
			}
		}
		page := httptest.NewRecorder()
		h.ServeHTTP(page, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
		if page.Code != 200 {
			t.Fatalf("page: %d", page.Code)
		}
		for _, n := range nodes.List() { // a small table keeps the fuzzer fast
			delete(nodes.nodes, n.Node)
		}
	})
}

func FuzzParseMAC(f *testing.F) {
	for _, s := range []string{"52:54:00:aa:bb:cc", "52-54-00-AA-BB-CC", "525400aabbcc", "", "52:54", "5254.00aa.bbcc", "52:54:00:aa:bb:cc:dd"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		mac, err := ParseMAC(s)
		if err != nil {
			return
		}
		again, err := ParseMAC(mac)
		if err != nil || again != mac || len(mac) != 17 || strings.ToLower(mac) != mac || strings.Count(mac, ":") != 5 {
			t.Fatalf("%q gives %q, that gives %q, %v", s, mac, again, err)
		}
	})
}
