package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"swarmboot/internal/tooltest"
)

// smallImage makes an image of a disk with one file system, DIR/NAME.
func smallImage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	raw, files, image := filepath.Join(dir, "small.raw"), filepath.Join(dir, "files"), filepath.Join(dir, "small")
	content := make([]byte, 8<<20)
	rand.NewChaCha8([32]byte{1}).Read(content) //nolint:errcheck // never fails
	if err := os.Mkdir(files, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(files, "content"), content, 0o644); err != nil {
		t.Fatal(err)
	}
	tooltest.Run(t, "truncate", "-s", "64M", raw)
	tooltest.Run(t, "sgdisk", "--new", "1:2048:+32M", raw)
	tooltest.Run(t, "mke2fs", "-q", "-t", "ext4", "-E", "offset=1048576", "-d", files, raw, "32M")
	tooltest.Run(t, "../../build/bin/swarmboot", "image", "create", "--layout", "verbatim", raw, image)
	return image
}

// An hour of rows is no time to learn that a tool's run does not even start. aria2's needs opentracker, which is a service that Debian
// starts when it is installed: tests do not.
func TestToolsRun(t *testing.T) {
	if testing.Short() {
		t.Skip("needs root and network namespaces")
	}
	image := smallImage(t)
	for _, tool := range []string{"swarm", "http", "udpcast"} {
		o := &options{nodes: 2, rate: 400, dir: "/dev/shm", bin: "../../build/bin", logs: t.TempDir()}
		r, err := o.measure(t.Context(), tool, image, 0)
		if err != nil {
			t.Errorf("%s: %v", tool, err)
			continue
		}
		if r.Failed > 0 || len(r.Took) != o.nodes || r.Last <= 0 || r.RawBytes < 8<<20 {
			t.Errorf("%s: %+v", tool, r)
		}
		if tool == "swarm" && (r.Known != o.nodes || r.Seeder > 1.2) {
			t.Errorf("%d nodes are on the status page, and the seeder sent %.2f copies", r.Known, r.Seeder)
		}
	}
}

// What a file system on a real disk keeps in memory the kernel may drop in the middle of a run.
func TestRunsFromMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("needs root and network namespaces")
	}
	o := &options{nodes: 1, rate: 100, dir: "/dev/shm", bin: "../../build/bin"}
	r, err := newRig(t.Context(), o, smallImage(t))
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	for _, path := range []string{r.image + ".payload", r.image + ".json", r.image + ".torrent", filepath.Join(r.bin, "swarmboot"), filepath.Join(r.bin, "deploy")} {
		if rel, err := filepath.Rel(o.dir, path); err != nil || !filepath.IsLocal(rel) {
			t.Errorf("%s is not in %s", path, o.dir)
		}
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}
