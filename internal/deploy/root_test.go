package deploy

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"swarmboot/internal/event"
)

// A device of the root that cannot be given back is an error: it would hold the disks, and these count as unfinished.
func TestRootIsGivenBack(t *testing.T) {
	f := bareImage(t, true, 32*mib, "mkfs.ext4", "-q")
	if err := f.restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	e := &engine{m: f.Manifest, rep: newReporter(event.Progress{}, nil, nil), w: f.planned(t, f.Manifest, f.target)}
	e.w.setWhole(true)
	if err := e.inRoot(t.Context(), func(string, string) error { return nil }); err != nil || !e.w.whole {
		t.Fatalf("whole is %v (%v)", e.w.whole, err)
	}
	err := e.inRoot(t.Context(), func(_, device string) error {
		closeAll(t, device)
		return nil
	})
	if !errors.Is(err, unix.EBADF) || e.w.whole {
		t.Errorf("error %v, whole is %v", err, e.w.whole)
	}
	failed := errors.New("the hook failed")
	err = e.inRoot(t.Context(), func(_, device string) error {
		closeAll(t, device)
		return failed
	})
	if !errors.Is(err, unix.EBADF) || !errors.Is(err, failed) {
		t.Errorf("error %v", err)
	}
}

// closeAll closes what this process has open of a device, so that closing it once more fails.
func closeAll(t *testing.T, device string) {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err != nil || to != device {
			continue
		}
		n, err := strconv.Atoi(filepath.Base(fd))
		if err == nil {
			err = unix.Close(n)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
