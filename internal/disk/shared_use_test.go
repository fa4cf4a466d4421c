package disk

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"
)

// concurrent is what is done to a device by several at once.
var concurrent = map[string]func(d *Device) error{
	"read":  func(d *Device) error { _, err := d.ReadAt(make([]byte, 4096), 0); return err },
	"write": func(d *Device) error { _, err := d.WriteAt(make([]byte, 4096), 0); return err },
	"zero":  func(d *Device) error { return d.Zero(context.Background(), 0, 4096) },
}

// Peers are served, and zeros written, while a disk begins to be shared.
func TestShareWhileUsed(t *testing.T) {
	for name, use := range concurrent {
		t.Run(name, func(t *testing.T) {
			d := open(t, loop(t, sparse(t, 8*mib)))
			begun, stop, done := make(chan struct{}), make(chan struct{}), make(chan error)
			go func() {
				err := use(d)
				close(begun)
				for more := true; more && err == nil; {
					err = use(d) // once at least with nothing that would put it before or behind Share
					select {
					case <-stop:
						more = false
					default:
					}
				}
				done <- err
			}()
			<-begun
			if err := d.Share(); err != nil {
				t.Error(err)
			}
			close(stop)
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// What is done to a device waits while its file is replaced. Beside Share itself the race detector often misses that: it sees the locks of package os,
// which put the two in order.
func TestUseWaitsForShare(t *testing.T) {
	for name, use := range concurrent {
		t.Run(name, func(t *testing.T) {
			d, other := open(t, loop(t, sparse(t, 8*mib))), open(t, loop(t, sparse(t, 8*mib)))
			done := make(chan error)
			d.mu.Lock()
			go func() { done <- use(d) }()
			d.f, other.f = other.f, d.f
			d.mu.Unlock()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// udev may be looking at the disk when it begins to be shared.
func TestShareLocksWhenUdevIsDone(t *testing.T) {
	dev := loop(t, sparse(t, 8*mib))
	d := open(t, dev)
	lock := func(f *os.File, how int) error { return unix.Flock(int(f.Fd()), how|unix.LOCK_NB) }
	udev, err := os.Open(dev)
	if err != nil {
		t.Fatal(err)
	}
	defer udev.Close()
	if err := lock(udev, unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		shared := make(chan error)
		go func() { shared <- d.Share() }()
		synctest.Wait() // it has found the lock taken
		if err := lock(udev, unix.LOCK_UN); err != nil {
			t.Error(err)
		}
		if err := <-shared; err != nil {
			t.Error(err)
		}
	})
	if err := lock(udev, unix.LOCK_SH); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("udev may have the kernel read the table: %v", err)
	}
}
