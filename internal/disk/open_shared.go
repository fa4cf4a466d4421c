package disk

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// OpenShared opens a block device, or a regular file that stands for one, that something else may hold: what a failed run has left on it is to be
// cleared all the same. It is locked against udev as after Share.
func OpenShared(path string) (*Device, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open disk: %w", err)
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open disk: %w", err)
	}
	d := &Device{f: f, path: path, size: fi.Size(), sector: 512, block: fi.Mode()&os.ModeDevice != 0, shared: true}
	if d.block {
		_ = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) // who has the lock already is looking at the disk for a moment only
		// As long as somebody has the device open the kernel keeps what it has read of it, also where others (md) write past that.
		if err = d.geometry(); err == nil {
			err = d.DropCaches()
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return d, nil
}
