package disk

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// directGrain is what writes past the cache begin and end at: pages, so that none of them shares one with a write through the cache.
	directGrain = 4096
	// directMemory is what the bytes to write begin at in memory; hardly any device needs more (statx(2), STATX_DIOALIGN).
	directMemory = 512
)

// WriteDirect has WriteAt go past the kernel's cache (O_DIRECT, open(2)) where page and memory are aligned, until EndDirect. A
// file system that cannot do that is an error, after which all is as before.
func (d *Device) WriteDirect() error {
	if d.direct != nil {
		return nil
	}
	// By its number: the path may lead elsewhere by now, and who has the device for himself may open it again.
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", d.f.Fd()), os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		return &IOError{d.path, "open with O_DIRECT", -1, bare(err)}
	}
	d.direct = f
	return nil
}

// EndDirect returns when everything written is on the medium, and the cache holds nothing that is older. No write may be under way.
func (d *Device) EndDirect() error {
	if d.direct == nil {
		return d.Sync()
	}
	err := d.direct.Close()
	d.direct = nil
	if err != nil {
		return &IOError{d.path, "close", -1, bare(err)}
	}
	return d.DropCaches()
}

// write picks the way that p can take.
func (d *Device) write(p []byte, off int64) (int, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.direct == nil || len(p) == 0 || (off|int64(len(p)))%directGrain != 0 || uintptr(unsafe.Pointer(&p[0]))%directMemory != 0 {
		return d.f.WriteAt(p, off)
	}
	n, err := d.direct.WriteAt(p, off)
	if n == 0 && errors.Is(err, unix.EINVAL) { // this device needs more
		return d.f.WriteAt(p, off)
	}
	return n, err
}
