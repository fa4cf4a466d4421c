package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/deploy/deploytest"
	"swarmboot/internal/event"
	"swarmboot/internal/looptest"
)

// TestProfileSaysPlan: a profile can make a node's run a dry one. What it would do stands on the console, on the status page and in
// swarmboot status; nothing is written, no hook runs, and the node does not count as deployed.
func TestProfileSaysPlan(t *testing.T) {
	program, dir := swarmbootProgram(t), t.TempDir()
	if _, err := deploytest.Make(dir, "img", 24*mib, imagefmt.Packed); err != nil {
		t.Fatal(err)
	}
	ran := filepath.Join(t.TempDir(), "ran")
	writeFiles(t, dir, map[string]string{
		"profiles/default.yaml": "parameters: {action: plan, then: reboot}\nhooks:\n- {name: h, at: before-disks, content: \"#!/bin/sh\\ntouch " + ran + "\\n\"}\n",
		"profiles/real.yaml":    "parameters: {action: deploy, then: shell}\n",
	})
	s := &testServer{URL: wholeServer(t, dir)}
	file := makeTarget(t, 32*mib)
	disk := looptest.Attach(t, file)
	before := readFile(t, file)
	settled := filepath.Join(t.TempDir(), "settled")
	p := start(t, s, disk, "--image", "img", "--node", "careful", "--settled", settled)
	if c := p.code(); c != cli.CodeDone || !strings.Contains(p.err.String(), "root-x86-64") || !strings.Contains(p.err.String(), "a dry run: nothing was written") {
		t.Fatalf("code %d\n%s", c, p.err.String())
	}
	if !bytes.Equal(before, readFile(t, file)) {
		t.Fatal("the disk was written to")
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("a hook has run")
	}
	if b := readFile(t, settled); !strings.Contains(string(b), `"action":"plan"`) {
		t.Errorf("process 1 is told %s", b)
	}
	if n := nodeAt(t, s.URL, "careful"); n.Phase != event.PhasePlan || n.Deployed != "" || !strings.Contains(n.Message, "root-x86-64") {
		t.Errorf("the server knows %+v", n)
	}
	if out := tool(t, program, "status", "--server", s.URL); !strings.Contains(out, "dry run of careful:") || !strings.Contains(out, "  "+disk+" 32.0 MiB") {
		t.Errorf("status:\n%s", out)
	}
	resp, err := http.Get(s.URL + "/") //nolint:noctx // a test's own server
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if page, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(page), "<pre>") || !strings.Contains(string(page), "root-x86-64") {
		t.Errorf("the page: %v\n%s", err, page)
	}
	// A person can say otherwise, and so can a node's own profile.
	for _, args := range [][]string{{"--node", "careful", "--plan=false"}, {"--node", "real"}} {
		p := start(t, s, disk, append(args, "--image", "img")...)
		if c := p.code(); c != cli.CodeDone || strings.Contains(p.err.String(), "a dry run") {
			t.Errorf("%q: code %d\n%s", args, c, p.err.String())
		}
		if n := nodeAt(t, s.URL, args[1]); n.Phase != event.PhaseDone {
			t.Errorf("%q: the server knows %+v", args, n)
		}
	}
}
