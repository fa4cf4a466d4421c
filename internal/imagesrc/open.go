package imagesrc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Open opens a raw file or block device for reading and finds its used extents. A disk that is in use gives a
// *MountedError, a dirty file system a *DirtyError, and a file that holds a disk in another format a *ContainerError, unless o.Force is set. A block device is held exclusively
// until Close, so that nobody mounts it meanwhile. When ctx ends, so does the search, with its error.
func Open(ctx context.Context, path string, o Options) (*Source, error) {
	f, use, err := openFile(path, o.Force)
	if err != nil {
		return nil, err
	}
	if !o.Force {
		if err := checkRaw(path, f); err != nil {
			_ = f.Close()
			return nil, err
		}
	}
	d, err := newDisk(ctx, f, path, o)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	if use != "" {
		d.note("it is in use (%s) and may change while it is copied", use)
	}
	err = d.scan()
	if ctx.Err() != nil { // what could not be read any more may have passed for something not understood
		err = fmt.Errorf("%s: %w", path, ctx.Err())
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &Source{f: f, size: d.size, sector: d.sector, table: d.table, extents: d.extents, logical: d.logical, foreign: d.foreign, top: d.top, notes: d.notes}, nil
}

// openFile opens path and says who uses it, which is an error without force.
func openFile(path string, force bool) (f *os.File, use string, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, "", err
	}
	block := st.Mode()&fs.ModeDevice != 0 && st.Mode()&fs.ModeCharDevice == 0
	if !block && !st.Mode().IsRegular() {
		return nil, "", fmt.Errorf("%s is neither a file nor a block device", path)
	}
	if use, err = usedBy(path, st); err != nil {
		return nil, "", err
	}
	if use != "" && !force {
		return nil, "", &MountedError{Path: path, Use: use}
	}
	flags := os.O_RDONLY
	if block && !force {
		flags |= syscall.O_EXCL // EBUSY for whatever the kernel knows and usedBy does not, other mount namespaces too
	}
	f, err = os.OpenFile(path, flags, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, "", &MountedError{Path: path, Use: "the kernel says that it or a partition of it is busy"}
	}
	return f, use, err
}

// untilDone reads until ctx ends: a part of a large disk that no file system accounts for is read for hours.
type untilDone struct {
	ctx context.Context
	r   io.ReaderAt
}

func (u untilDone) ReadAt(p []byte, off int64) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.ReadAt(p, off)
}

func newDisk(ctx context.Context, f *os.File, path string, o Options) (*disk, error) {
	d := &disk{path: path, r: untilDone{ctx, f}, sector: 512, o: o, foreign: map[int]string{}, top: map[int][]string{}}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("size of %s: %w", path, err)
	}
	d.size = size
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Mode().IsRegular() {
		d.nextData = func(off int64) (int64, error) { return f.Seek(off, unix.SEEK_DATA) }
		return d, nil
	}
	d.device = true
	if d.sector, err = logicalSector(f); err != nil {
		return nil, fmt.Errorf("logical sector size of %s: %w", path, err)
	}
	return d, nil
}

// logicalSector asks the kernel (BLKSSZGET; the argument is a C int).
func logicalSector(f *os.File) (int, error) {
	var n int32
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKSSZGET, uintptr(unsafe.Pointer(&n))); errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
