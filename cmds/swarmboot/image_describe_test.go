package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swarmboot/internal/disk"
	"swarmboot/internal/looptest"
)

// TestDescribeContents: what is on a disk is told by its superblocks alone; XFS is not read otherwise.
func TestDescribeContents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	makeDisk(t, path, 32*mib, "label: gpt\nstart=1MiB, size=16MiB\n", []part{{24 * mib, 1 * mib, ""}})
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("XFSB"), 1*mib); err != nil {
		t.Fatal(err)
	}
	disks, err := disk.ReadInventory([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	d := &disks[len(disks)-1]
	d.Model, d.Serial, d.InUse = "M 1", "", "mounted"
	if got, want := describeContents(d), ", 32.0 MiB, model M 1, serial unknown, in use: mounted\n  partition 1: 16.0 MiB, xfs "; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestDescribeDisk: a disk goes by whatever path leads to it; what is no disk has nothing to say.
func TestDescribeDisk(t *testing.T) {
	dir := t.TempDir()
	img, link := filepath.Join(dir, "img"), filepath.Join(dir, "link")
	makeDisk(t, img, 32*mib, "label: gpt\nstart=1MiB, size=16MiB\n", nil)
	if err := os.Symlink(looptest.Attach(t, img), link); err != nil {
		t.Fatal(err)
	}
	if got := describeDisk(link); !strings.HasPrefix(got, link+", 32.0 MiB, ") || !strings.Contains(got, "\n  partition 1: 16.0 MiB, ") {
		t.Error(got)
	}
	for _, path := range []string{dir, img, filepath.Join(dir, "gone")} {
		if got := describeDisk(path); got != path {
			t.Error(got)
		}
	}
}
