package disk

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pagesInMemory counts the pages of n bytes of a device, from the start, that the kernel's cache holds.
func pagesInMemory(t *testing.T, d *Device, n int) (in int) {
	t.Helper()
	m, err := unix.Mmap(int(d.f.Fd()), 0, n, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m) //nolint:errcheck // a mapping of ours
	pages := make([]byte, n/os.Getpagesize())
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(n), uintptr(unsafe.Pointer(&pages[0]))); errno != 0 {
		t.Fatal(errno)
	}
	for _, p := range pages {
		in += int(p & 1)
	}
	return in
}

// TestWriteDirect: writes of whole pages leave nothing in the cache.
func TestWriteDirect(t *testing.T) {
	d := open(t, loop(t, sparse(t, 8*mib)))
	data := make([]byte, 4*mib)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data) // never fails
	if err := d.DropCaches(); err != nil {
		t.Fatal(err)
	}
	if err := d.WriteDirect(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	if in := pagesInMemory(t, d, len(data)); in != 0 {
		t.Errorf("%d pages of what was written past the cache are in it", in)
	}
	if err := d.EndDirect(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	if in := pagesInMemory(t, d, len(data)); in == 0 {
		t.Error("after EndDirect writes still go past the cache")
	}
}

// TestWriteDirectMixed: runs of any place and length, from any place in memory, written at once by several, all arrive: on the
// medium, and as the cache shows it.
func TestWriteDirectMixed(t *testing.T) {
	const size = 8 * mib
	devices(t, size, func(t *testing.T, d *Device, file string) {
		want := make([]byte, size)
		rng := rand.New(rand.NewPCG(1, 2))
		_, _ = rand.NewChaCha8([32]byte{2}).Read(want) // never fails
		type run struct{ from, to int }
		var runs []run
		for at := 0; at < size; {
			n := 512 * (1 + rng.IntN(600))
			if rng.IntN(2) == 0 {
				n = 4096 * (1 + rng.IntN(64))
			}
			to := min(size, at+n)
			runs, at = append(runs, run{at, to}), to
		}
		rng.Shuffle(len(runs), func(i, j int) { runs[i], runs[j] = runs[j], runs[i] })
		if _, err := d.ReadAt(make([]byte, size), 0); err != nil { // old pages are in the cache
			t.Fatal(err)
		}
		if err := d.WriteDirect(); err != nil {
			t.Fatal(err)
		}
		work := make(chan run)
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				buf := make([]byte, size+1)
				for r := range work {
					b := buf[i%2:][:r.to-r.from] // odd ones begin where no device takes them from
					copy(b, want[r.from:r.to])
					if _, err := d.WriteAt(b, int64(r.from)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for _, r := range runs {
			work <- r
		}
		close(work)
		wg.Wait()
		if err := d.EndDirect(); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, size)
		if _, err := d.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("the device does not have what was written (%v)", err)
		}
		if below, err := os.ReadFile(file); err != nil || !bytes.Equal(below, want) {
			t.Errorf("the medium does not have what was written (%v)", err)
		}
	})
}

// TestWriteDirectRefused: a file system without O_DIRECT is an error that says so, and nothing else changes.
func TestWriteDirectRefused(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "ramfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, 0) }) //nolint:errcheck // a busy one is seen when the folder is removed
	path := dir + "/disk"
	if err := os.WriteFile(path, make([]byte, mib), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	err = d.WriteDirect()
	var ioErr *IOError
	if !errors.As(err, &ioErr) || ioErr.Device != path || ioErr.Op != "open with O_DIRECT" {
		t.Errorf("error is %v", err)
	}
	if _, err := d.WriteAt(bytes.Repeat([]byte{1}, 4096), 4096); err != nil {
		t.Error(err)
	}
	if err := d.EndDirect(); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
