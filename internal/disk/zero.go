package disk

import (
	"context"
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// zeroStep is how much is zeroed between two looks at the context.
const zeroStep = 64 << 20

// cacheBlock is what the kernel caches a disk in at most: a page. Writing a part of one has it read the rest from the disk first.
const cacheBlock = 4096

// Zero makes n bytes from off read as zero: BLKZEROOUT on a block device, a hole
// in a regular file, writes of zeros where those are not supported.
func (d *Device) Zero(ctx context.Context, off, n int64) error {
	if err := d.bounds("zero", off, n); err != nil {
		return err
	}
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		step := min(n, zeroStep-off%zeroStep) // cut at multiples, which lie within no block
		if err := d.zeroSpan(off, step); err != nil {
			return err
		}
		off, n = off+step, n-step
	}
	return nil
}

// zeroSpan zeroes n bytes at off: by the fast way what are whole blocks of the cache, by writing what sticks out on both sides.
// BLKZEROOUT goes past the cache: a write to other bytes of the same block may have read it before and puts the old
// bytes back, and on a shared disk one that has not reached the medium is an error.
func (d *Device) zeroSpan(off, n int64) error {
	block := int64(max(d.sector, cacheBlock))
	first, last := (off+block-1)/block*block, (off+n)/block*block
	if first >= last {
		return d.zeroByWriting(off, n)
	}
	if err := d.zeroByWriting(off, first-off); err != nil {
		return err
	}
	if err := d.zero(first, last-first); err != nil {
		return err
	}
	return d.zeroByWriting(last, off+n-last)
}

// zero takes whole blocks.
func (d *Device) zero(off, n int64) error {
	err := d.zeroFast(off, n)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOTTY), errors.Is(err, unix.ENOSYS),
		errors.Is(err, unix.EBUSY): // the disk is shared, and some of these bytes were written before and are not on the medium yet
		return d.zeroByWriting(off, n)
	}
	return &IOError{d.path, "zero", off, err}
}

func (d *Device) zeroFast(off, n int64) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if !d.block {
		return unix.Fallocate(int(d.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	}
	span := [2]uint64{uint64(off), uint64(n)}
	return d.ioctlPtr(unix.BLKZEROOUT, unsafe.Pointer(&span))
}

func (d *Device) zeroByWriting(off, n int64) error {
	zeros := make([]byte, min(n, 1<<20))
	for n > 0 {
		step := min(n, int64(len(zeros)))
		if _, err := d.WriteAt(zeros[:step], off); err != nil {
			return err
		}
		off, n = off+step, n-step
	}
	return nil
}
