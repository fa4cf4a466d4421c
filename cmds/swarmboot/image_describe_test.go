package main

import (
	"os"
	"path/filepath"
	"testing"

	"swarmboot/internal/disk"
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
