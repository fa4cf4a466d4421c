package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"swarmboot/imagefmt"
)

// IOError is a read, write or other operation on a device that failed. Nothing
// on the device at Off can be relied on afterwards.
type IOError struct {
	Device string // path
	Op     string // "read", "write", "zero", "sync", ...
	Off    int64  // bytes from the start of the device; -1 where none applies
	Err    error
}

func (e *IOError) Error() string {
	if e.Off < 0 {
		return fmt.Sprintf("%s: %s: %v", e.Device, e.Op, e.Err)
	}
	return fmt.Sprintf("%s: %s at offset %d: %v", e.Device, e.Op, e.Off, e.Err)
}

func (e *IOError) Unwrap() error { return e.Err }

// BusyError says that something else holds a device.
type BusyError struct {
	Device string
	Reason string // "" when unknown
}

func (e *BusyError) Error() string {
	if e.Reason == "" {
		return e.Device + " is in use"
	}
	return e.Device + " is in use: " + e.Reason
}

// Device is a block device opened exclusively, or a regular file that stands
// for one. ReadAt, WriteAt and Zero may be called concurrently, with each other and with Share. While it is open nobody can
// mount the device or a partition of it: Close it first.
type Device struct {
	mu     sync.RWMutex // held to read while f is read or written, to write while Share replaces it
	f      *os.File
	direct *os.File // what goes past the cache; nil: nothing does
	path   string
	size   int64
	sector int
	block  bool
	shared bool           // not held exclusively any more
	table  imagefmt.Table // the last one written
}

// Open opens a whole block device (O_EXCL: a *BusyError when it is mounted or held)
// or an existing regular file for reading and writing. A file or device that a loop device makes available
// is busy when that is, and a file too when it is swapped to or a running program (QEMU, another deployment) has locked it.
func Open(path string) (*Device, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open disk: %w", err)
	}
	flags := os.O_RDWR
	switch {
	case fi.Mode()&os.ModeDevice != 0 && fi.Mode()&os.ModeCharDevice == 0:
		flags |= unix.O_EXCL
	case !fi.Mode().IsRegular():
		return nil, fmt.Errorf("open disk: %s is neither a block device nor a regular file", path)
	}
	f, err := os.OpenFile(path, flags, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, &BusyError{Device: path, Reason: useOf(path)}
	}
	if err != nil {
		return nil, fmt.Errorf("open disk: %w", err)
	}
	d := &Device{f: f, path: path, size: fi.Size(), sector: 512, block: flags&unix.O_EXCL != 0}
	if d.block {
		err = d.geometry()
	} else {
		err = d.lock()
	}
	if use, uerr := indirectUse("/", path, fi); err == nil && uerr != nil {
		err = fmt.Errorf("open disk: is %s in use: %w", path, uerr)
	} else if err == nil && use != "" {
		err = &BusyError{Device: path, Reason: use}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return d, nil
}

// lock takes a write lock on the whole of a regular file until Close. QEMU has locks of this kind on the images of a
// running machine (block/file-posix.c). A file system without locks is no reason to fail.
func (d *Device) lock() error {
	err := unix.FcntlFlock(d.f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return &BusyError{Device: d.path, Reason: "another program has locked it"}
	}
	return nil
}

// geometry asks the kernel for size and logical sector size, and whether the device can be written to: the
// kernel may find that out at the first write only.
func (d *Device) geometry() error {
	if readOnly, err := unix.IoctlGetInt(int(d.f.Fd()), unix.BLKROGET); err == nil && readOnly != 0 {
		return fmt.Errorf("open disk: %s is read-only", d.path)
	}
	var size uint64
	if err := d.ioctlPtr(unix.BLKGETSIZE64, unsafe.Pointer(&size)); err != nil {
		return &IOError{d.path, "read size", -1, err}
	}
	sector, err := unix.IoctlGetInt(int(d.f.Fd()), unix.BLKSSZGET)
	if err != nil {
		return &IOError{d.path, "read sector size", -1, err}
	}
	d.size, d.sector = int64(size), sector
	return nil
}

func (d *Device) ioctlPtr(req uint, p unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.f.Fd(), uintptr(req), uintptr(p))
	if errno != 0 {
		return errno
	}
	return nil
}

// Path returns the path that the device was opened by.
func (d *Device) Path() string { return d.path }

// Size returns the size in bytes.
func (d *Device) Size() int64 { return d.size }

// SectorSize returns the logical sector size in bytes; a regular file has 512 until CheckTable.
func (d *Device) SectorSize() int { return d.sector }

// ReadAt fills p from off. Errors other than io.EOF at the end are *IOError.
func (d *Device) ReadAt(p []byte, off int64) (int, error) {
	d.mu.RLock()
	n, err := d.f.ReadAt(p, off)
	d.mu.RUnlock()
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF) && off+int64(n) >= d.size:
		return n, io.EOF
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return n, &IOError{d.path, "read", off + int64(n), bare(err)}
}

// WriteAt writes all of p at off or fails with *IOError: past the end of the
// device too, also where the operating system would let a file grow.
func (d *Device) WriteAt(p []byte, off int64) (int, error) {
	if err := d.bounds("write", off, int64(len(p))); err != nil {
		return 0, err
	}
	n, err := d.write(p, off)
	if err == nil && n != len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return n, &IOError{d.path, "write", off + int64(n), bare(err)}
	}
	return n, nil
}

func (d *Device) bounds(op string, off, n int64) error {
	if off < 0 || n < 0 || n > d.size || off > d.size-n {
		return &IOError{d.path, op, off, fmt.Errorf("%d bytes do not lie within the device's %d", n, d.size)}
	}
	return nil
}

// bare strips the path and operation that package os adds, since IOError has its own.
func bare(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// Sync returns when everything written is on the medium.
func (d *Device) Sync() error {
	if err := d.f.Sync(); err != nil {
		return &IOError{d.path, "sync", -1, bare(err)}
	}
	return nil
}

// DropCaches syncs and throws away the kernel's cached copy of the device, so
// that what is read next comes from the device itself.
func (d *Device) DropCaches() error {
	if err := d.Sync(); err != nil {
		return err
	}
	if d.block {
		// CAP_SYS_ADMIN may be missing; the advice below then does the same for clean pages.
		err := unix.IoctlSetInt(int(d.f.Fd()), unix.BLKFLSBUF, 0)
		if err != nil && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM) {
			return &IOError{d.path, "flush buffers", -1, err}
		}
	}
	if err := unix.Fadvise(int(d.f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return &IOError{d.path, "drop caches", -1, err}
	}
	return nil
}

// Close releases the device without syncing it. It does not wait for reads under way, which a disk may never answer; the kernel
// lets go of the device when the last one has ended.
func (d *Device) Close() error {
	if d.direct != nil { // it stays: a write that never ends may look at it
		_ = d.direct.Close() // it has nothing of its own to lose
	}
	if err := d.f.Close(); err != nil {
		return &IOError{d.path, "close", -1, bare(err)}
	}
	return nil
}

// deviceNumber returns major and minor of the block device at path.
func deviceNumber(path string) (major, minor uint32, err error) {
	fi, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, fmt.Errorf("%s is not a block device", path)
	}
	return unix.Major(st.Rdev), unix.Minor(st.Rdev), nil
}
