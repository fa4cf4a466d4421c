package main

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/deploy/deploytest"
	"swarmboot/internal/looptest"
)

// TestWriteDirect: the image arrives past the page cache too, in both layouts; a disk that cannot be written so is written
// through the cache, with a warning.
func TestWriteDirect(t *testing.T) {
	s := newServer(t, 0)
	for _, layout := range []imagefmt.Layout{imagefmt.Packed, imagefmt.Verbatim} {
		name := "img-" + string(layout)
		im := s.publish(t, name, 16*mib, layout, nil)
		file := makeTarget(t, 20*mib)
		p := start(t, s, looptest.Attach(t, file), "--image", name, "--node", name, "--write", "direct", "--verify", "readback", "--json")
		if c := p.code(); c != cli.CodeDone {
			t.Fatalf("%s: code %d\n%s", layout, c, p.err.String())
		}
		if w := p.lastReport(t).Warnings; len(w) != 0 {
			t.Errorf("%s: warnings %q", layout, w)
		}
		checkTarget(t, im, file)
	}

	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "ramfs", 0, ""); err != nil { // knows no O_DIRECT
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, 0) }) //nolint:errcheck // a busy one is seen when the folder is removed
	im := s.publish(t, "img", 16*mib, imagefmt.Packed, nil)
	file := filepath.Join(dir, "target")
	if err := deploytest.Target(file, 20*mib); err != nil {
		t.Fatal(err)
	}
	p := start(t, s, file, "--image", "img", "--node", "n", "--write", "direct", "--json")
	if c := p.code(); c != cli.CodeDone {
		t.Fatalf("code %d\n%s", c, p.err.String())
	}
	w := p.lastReport(t).Warnings
	if len(w) != 1 || !strings.Contains(w[0], "page cache") || !strings.Contains(w[0], file) || !strings.Contains(w[0], "O_DIRECT") {
		t.Errorf("warnings %q", w)
	}
	checkTarget(t, im, file)
}

// TestWriteOption: a way that does not exist is refused before anything is asked of the server.
func TestWriteOption(t *testing.T) {
	s := newServer(t, 0)
	p := start(t, s, makeTarget(t, mib), "--image", "img", "--write", "fast")
	if c := p.code(); c != cli.CodeUsage || !strings.Contains(p.err.String(), "cache or direct") {
		t.Errorf("code %d\n%s", c, p.err.String())
	}
}
