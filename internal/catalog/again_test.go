package catalog

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// failing makes the first reads of a payload end in an error, and counts the checks.
func failing(c *Catalog, times int, err error) (checks *int) {
	checks = new(int)
	c.verify = func(ctx context.Context, im *Image, size int64, pieces bool, percent func(int)) error {
		if *checks++; *checks <= times {
			return fmt.Errorf("piece 7: %w", &fs.PathError{Op: "read", Path: im.Name, Err: err})
		}
		return verify(ctx, im, size, pieces, percent)
	}
	return checks
}

// A disk, or a server of NFS, that fails a read is asked again: nobody touches the files when it is back.
func TestFailedReadIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		makeImage(t, dir, "a", 1)
		c, _ := newCatalog(t, dir, -1)
		checks := failing(c, 2, syscall.EIO)
		for _, step := range []struct {
			wait   time.Duration
			checks int
			want   string
		}{
			{0, 1, "a=broken"}, {firstPause - 1, 1, "a=broken"}, {1, 2, "a=broken"},
			{2*firstPause - 1, 2, "a=broken"}, {1, 3, "a=ready"}, {24 * time.Hour, 3, "a=ready"},
		} {
			time.Sleep(step.wait)
			if scan(t, c); c.states() != step.want || *checks != step.checks {
				t.Errorf("after %s: %s, %d checks; want %s, %d", step.wait, c.states(), *checks, step.want, step.checks)
			}
		}
	})
}

func TestPausesBetweenFailedReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		makeImage(t, dir, "a", 1)
		c, _ := newCatalog(t, dir, -1)
		checks := failing(c, 20, syscall.EMFILE)
		for range 21 {
			scan(t, c)
			time.Sleep(lastPause)
		}
		if c.states() != "a=ready" || *checks != 21 {
			t.Errorf("%s after %d checks", c.states(), *checks)
		}
	})
}

// Bytes that are wrong stay wrong, and a check of them takes long.
func TestWrongBytesAreNotReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		makeImage(t, dir, "a", 1)
		flip(t, filepath.Join(dir, "a.payload"), -1)
		c, _ := newCatalog(t, dir, -1)
		checks := failing(c, 1, syscall.EIO)
		for range 5 {
			scan(t, c)
			time.Sleep(24 * time.Hour)
		}
		if l := c.List(); len(l) != 1 || *checks != 2 || l[0].State != StateBroken || strings.Contains(l[0].Reason, "input/output") {
			t.Errorf("%d checks: %+v", *checks, l)
		}
	})
}
