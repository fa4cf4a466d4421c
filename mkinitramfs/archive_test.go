package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/u-root/mkuimage/cpio"
	"golang.org/x/sys/unix"
)

// A folder goes into the archive with its links as they are, also one that leads round in circles; what is no file is refused.
func TestHostFile(t *testing.T) {
	dir := t.TempDir()
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "a/b"), 0o755), os.WriteFile(filepath.Join(dir, "a/b/run"), []byte("x"), 0o755),
		os.Symlink("..", filepath.Join(dir, "a/b/up")), os.Symlink("nowhere", filepath.Join(dir, "a/dangling")),
		os.Symlink("b/run", filepath.Join(dir, "a/link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	im := newImage()
	im.hostFile(filepath.Join(dir, "a"), "/etc/a")
	im.hostFile(filepath.Join(dir, "a/link"), "/run") // what is named itself is meant, not the link
	if im.err != nil {
		t.Fatal(im.err)
	}
	for name, want := range map[string]struct {
		kind uint64
		data string
	}{
		"etc/a/b/run": {cpio.S_IFREG, "x"}, "etc/a/b/up": {cpio.S_IFLNK, ".."}, "etc/a/dangling": {cpio.S_IFLNK, "nowhere"},
		"etc/a/link": {cpio.S_IFLNK, "b/run"}, "run": {cpio.S_IFREG, "x"},
	} {
		r, ok := im.files.Records[name]
		if !ok {
			t.Errorf("%s is missing", name)
			continue
		}
		data := make([]byte, r.FileSize)
		if _, err := r.ReadAt(data, 0); err != nil && err != io.EOF || r.Mode&cpio.S_IFMT != want.kind || string(data) != want.data { //nolint:errorlint // ReaderAt returns it bare
			t.Errorf("%s: %#o %q, %v", name, r.Mode, data, err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "a/b/fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	im.hostFile(filepath.Join(dir, "a"), "etc")
	if im.err == nil || !strings.Contains(im.err.Error(), "fifo: want a file, a folder or a link") {
		t.Error(im.err)
	}
}

// The error says why zstd ended early, and no half of an archive is left.
func TestZstdThatDies(t *testing.T) {
	bin, out := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "zstd"), []byte("#!/bin/sh\necho No space left on device >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	im := newImage()
	im.file("large", make([]byte, 4<<20), 0o644) // more than a pipe holds
	_, err := im.write(t.Context(), filepath.Join(out, "archive"), "zstd")
	if err == nil || !strings.Contains(err.Error(), "No space left on device") {
		t.Error(err)
	}
	if left, err := os.ReadDir(out); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
