package disk

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"swarmboot/internal/looptest"
	"swarmboot/internal/tooltest"
)

// TestMain puts the tests' disks on tmpfs: ext4 has no files of 100 TiB, and every tool syncs.
func TestMain(m *testing.M) {
	if err := os.Setenv("TMPDIR", "/dev/shm"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

var run = tooltest.Run

// stdout is run without what the tool says on its standard error.
func stdout(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	out, err := exec.CommandContext(context.Background(), name, args...).Output()
	if err != nil {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return out
}

// try is run for a tool whose exit code is the answer.
func try(name string, args ...string) (string, error) {
	out, err := exec.CommandContext(context.Background(), name, args...).CombinedOutput()
	return string(out), err
}

// sparse makes a file of the given size.
func sparse(t *testing.T, size int64) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(p)
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	return p
}

// loop attaches a loop device to a file, with partitions.
func loop(t *testing.T, file string, args ...string) string {
	t.Helper()
	return looptest.Attach(t, file, append(args, "-P")...)
}

func open(t *testing.T, path string) *Device {
	t.Helper()
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() }) // again where the test has closed it
	return d
}
