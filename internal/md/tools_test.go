package md

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"swarmboot/internal/tooltest"
)

// file stands for a disk: sparse, with sectors of any size.
type file struct {
	*os.File
	size   int64
	sector int
	writes *int // counts down to a power cut; nil: never
}

var errPower = errors.New("power cut")

func (f *file) Path() string    { return f.Name() }
func (f *file) Size() int64     { return f.size }
func (f *file) SectorSize() int { return f.sector }

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if f.writes != nil {
		if *f.writes == 0 {
			return 0, errPower
		}
		*f.writes--
	}
	if off < 0 || off+int64(len(p)) > f.size || off%int64(f.sector) != 0 || len(p)%f.sector != 0 {
		return 0, fmt.Errorf("write of %d bytes at %d: not whole sectors of the disk", len(p), off)
	}
	return f.File.WriteAt(p, off)
}

// disks makes a sparse file for each size.
func disks(t *testing.T, sector int, sizes ...int64) ([]Device, []string) {
	t.Helper()
	var d []Device
	var paths []string
	dir := t.TempDir()
	for i, size := range sizes {
		path := filepath.Join(dir, fmt.Sprintf("disk%d", i))
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		d = append(d, &file{File: f, size: size, sector: sector})
		paths = append(paths, path)
	}
	return d, paths
}

var tool = tooltest.Run

// fields are the lines "KEY : VALUE" of mdadm's output.
func fields(text string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " : "); ok {
			m[strings.TrimSpace(k)] = strings.TrimSpace(v)
		}
	}
	return m
}

func repeat(size int64, n int) []int64 {
	s := make([]int64, n)
	for i := range s {
		s[i] = size
	}
	return s
}

// allocated is what a sparse file takes, in bytes.
func allocated(fi os.FileInfo) int64 {
	if fi == nil {
		return -1
	}
	return fi.Sys().(*syscall.Stat_t).Blocks * 512
}
