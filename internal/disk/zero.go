package disk

import (
	"context"
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// zeroStep is how much is zeroed between two looks at the context.
const zeroStep = 64 << 20

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
		step := min(n, zeroStep)
		if err := d.zero(off, step); err != nil {
			return err
		}
		off, n = off+step, n-step
	}
	return nil
}

func (d *Device) zero(off, n int64) error {
	err := d.zeroFast(off, n)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOTTY), errors.Is(err, unix.ENOSYS),
		errors.Is(err, unix.EINVAL): // EINVAL: not on sector boundaries
		return d.zeroByWriting(off, n)
	}
	return &IOError{d.path, "zero", off, err}
}

func (d *Device) zeroFast(off, n int64) error {
	if !d.block {
		return unix.Fallocate(int(d.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	}
	if off%int64(d.sector) != 0 || n%int64(d.sector) != 0 {
		return unix.EINVAL
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
