package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"swarmboot/internal/cli"
)

func TestServeOptions(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"--no-netboot", "--images DIR is missing"},
		{"--images d", "--interface"},
		{"--images d --no-netboot --interface a", "exclude"},
		{"--images d --no-netboot --range 10.0.0.1-10.0.0.9", "--range means nothing with --no-netboot"},
		{"--images d --no-netboot --force-dhcp", "--force-dhcp means nothing"},
		{"--images d --no-netboot x", `unexpected argument "x"`},
		{"--images d --no-netboot --then dance", "must be one of kexec, reboot, poweroff, shell"},
		{"--images d --no-netboot --action shell", "must be one of deploy, plan"},
		{"--images d --no-netboot --upload-rate fast", "upload rate"},
		{"--images d --no-netboot --upload-rate 99999999999G", "upload rate"},
		{"--images d --no-netboot --nonsense", "nonsense"},
		{"--images d --no-netboot --disk sizzle=3", "--disk: "},
		{"--images d --no-netboot --append ${x}", "swarmboot.append: iPXE would replace"},
		{"--images d --interface a --interface b --interface a", "--interface a is given twice"},
		{"--images d --no-netboot --http foo", "--http: address foo: missing port"},
		{"--images d --no-netboot --bt-listen :70000", "--bt-listen: "},
		{"--images d --no-netboot --cmdline swarmboot.foo=x", "swarmboot.foo=\"x\": no such parameter"},
		{"--images d --no-netboot --cmdline swarmboot.grow=x", "swarmboot.grow"},
		{"--images d --no-netboot --then reboot --cmdline swarmboot.then=kexec", "given before"},
	} {
		_, err := serveOptions(strings.Fields(test.args), io.Discard)
		if err == nil || cli.Code(err) != cli.CodeUsage || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v (code %d), want %q", test.args, err, cli.Code(err), test.want)
		}
	}
	o, err := serveOptions(strings.Fields("--images d --interface a --interface b --upload-rate 20M --console ttyS1 --disk serial=X --cmdline swarmboot.grow=none"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(o.Interfaces, []string{"a", "b"}) || o.UploadRate != 20e6 || !slices.Equal(o.Args.Console, []string{"ttyS1"}) || o.Args.Disk != "serial=X" || o.HTTP != ":8080" {
		t.Errorf("%+v", o)
	}
}

func TestHelpNamesEveryVerbAndExitCode(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"help"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, v := range verbs() {
		if !strings.Contains(out.String(), "\n  "+v.name+" ") {
			t.Errorf("%s is not in the help", v.name)
		}
	}
	for _, args := range [][]string{{"serve", "--help"}, {"status", "-h"}} {
		out.Reset()
		if err := run(t.Context(), args, &out, io.Discard); err != nil || !strings.Contains(out.String(), "Exit codes:") {
			t.Errorf("%v: %v\n%s", args, err, out.String())
		}
	}
	for _, args := range [][]string{nil, {"dance"}, {"version", "x"}, {"serve", "--images", t.TempDir(), "--interface", "none0"}} {
		if err := run(t.Context(), args, io.Discard, io.Discard); cli.Code(err) != cli.CodeUsage {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestStatus(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/warnings", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `["the list cannot be saved: \u001b[2Jno space left"]`)
	})
	mux.HandleFunc("GET /api/v1/images", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `[{"name":"debian","state":"checking","percent":40}]`)
	})
	mux.HandleFunc("GET /api/v1/nodes", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `[{"node":"52:54:00:00:00:0a","phase":"fetch","lost":true,"piecesDone":1,"piecesTotal":4,"disk":"/dev/vda\u001b[2J\u009b2J","message":"disk \u001b[2Jx","warnings":["not grown"],"arrays":["array root: resync"],"switch":{"name":"sw-r7","port":"1/7\u001b[2J"}}]`)
	})
	mux.HandleFunc("POST /api/v1/nodes/{node}/redeploy", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("node") != "all" {
			http.Error(w, "no such node", http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, `{"nodes":3}`)
	})
	s := httptest.NewServer(mux)
	defer s.Close()
	status := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := run(t.Context(), append([]string{"status", "--server", s.URL}, args...), &out, io.Discard)
		return out.String(), err
	}
	out, err := status()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"warning: the list cannot be saved:  [2Jno space left\n", "checking 40%", "52:54:00:00:00:0a", "lost in fetch", "25%", "not grown; disk ", "; array root: resync", "sw-r7 1/7 [2J"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
	if strings.ContainsAny(out, "\x1b\u009b") {
		t.Error("a node can steer the terminal")
	}
	// An address that is this host's and no loopback one, for which proxies are left out anyhow.
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	if code, _, msg := runTool(t, "status", "--server", strings.Replace(s.URL, "127.0.0.1", "0.0.0.0", 1)); code != cli.CodeDone {
		t.Errorf("with a proxy for the Internet: code %d: %s", code, msg)
	}
	if out, err = status("--json"); err != nil || !json.Valid([]byte(out)) || !strings.Contains(out, `"warnings": [`) {
		t.Errorf("--json: %v\n%s", err, out)
	}
	if out, err = status("--redeploy", "all"); err != nil || !strings.HasPrefix(out, "3 ") {
		t.Errorf("redeploy: %v %s", err, out)
	}
	if out, err = status("--redeploy", ""); cli.Code(err) != cli.CodeUsage || out != "" {
		t.Errorf("redeploy of nothing: %v\n%s", err, out)
	}
	if _, err = status("--redeploy", "x/../y"); err == nil || !strings.Contains(err.Error(), "no such node") {
		t.Errorf("redeploy of an unknown node: %v", err)
	}
	s.Close()
	if _, err = status(); cli.Code(err) != cli.CodeUnreachable {
		t.Errorf("no server: %v (code %d)", err, cli.Code(err))
	}
}
