package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"swarmboot/imagefmt"
)

// WipeMode says what happens to the old bytes of a disk, besides its signatures, which are always cleared.
type WipeMode string

const (
	// WipeNone leaves them.
	WipeNone WipeMode = "none"
	// WipeDiscard tells the disk that they are not needed: quick, and good for flash. What is read afterwards is up to
	// the disk. It is a hint, as it is to mkfs: a disk that knows no discard (most hard disks) keeps its
	// bytes and nothing fails, so that one layout serves both kinds; Cleared says so.
	WipeDiscard WipeMode = "discard"
	// WipeZero makes them read as zero, or fails. It takes as long as writing everything where the disk has no command for it.
	WipeZero WipeMode = "zero"
)

// ParseWipeMode reads the name of a mode.
func ParseWipeMode(s string) (WipeMode, error) {
	switch m := WipeMode(s); m {
	case WipeNone, WipeDiscard, WipeZero:
		return m, nil
	}
	return "", fmt.Errorf("wipe %.40q: want none, discard or zero", s)
}

// Cleared says what Clear did.
type Cleared struct {
	Mode   WipeMode // what was asked for, WipeNone where the disk cannot do it
	Bytes  int64    // how many were discarded or zeroed
	Reason string   // why not all of what was asked for was done, "" when it was
}

// clearStep is how much is discarded between two looks at the context. Steps begin at its multiples, so that they are
// multiples of every disk's discard granularity too.
const clearStep = 1 << 30

// Clear discards or zeroes ranges of the device, in bytes: BLKDISCARD and BLKZEROOUT on a block device, holes in a regular file. They
// may come in any order but not overlap; all are checked before the first is touched. Nothing outside them is
// touched: sectors that a range covers in part are not discarded, and zeroed in that part. progress, which may be nil, is told
// how many bytes of all are done, at least every GiB. Kept partitions are left out by the caller, see Gaps.
func Clear(ctx context.Context, d *Device, mode WipeMode, ranges []imagefmt.Extent, progress func(done, total int64)) (Cleared, error) {
	c := clearer{d: d, progress: progress}
	if _, err := ParseWipeMode(string(mode)); err != nil {
		return Cleared{Mode: WipeNone}, err
	}
	ranges = slices.Clone(ranges)
	slices.SortFunc(ranges, func(a, b imagefmt.Extent) int { return cmp.Compare(a.Off, b.Off) })
	for i, r := range ranges {
		if err := d.bounds(string(mode), r.Off, r.Len); err != nil {
			return Cleared{Mode: WipeNone}, err
		}
		if i > 0 && ranges[i-1].End() > r.Off {
			return Cleared{Mode: WipeNone}, fmt.Errorf("%s: %s: the ranges at %d and %d overlap", d.path, mode, ranges[i-1].Off, r.Off)
		}
		c.total += r.Len
	}
	done := Cleared{Mode: mode}
	var err error
	switch mode {
	case WipeDiscard:
		done, err = c.discard(ctx, ranges)
	case WipeZero:
		err = c.each(ctx, ranges, zeroStep, d.zeroSpan)
		done.Bytes = c.done
	}
	if err != nil {
		return done, fmt.Errorf("clear: %w", err)
	}
	return done, d.Sync()
}

// clearer counts what is done.
type clearer struct {
	d           *Device
	done, total int64 // bytes
	progress    func(done, total int64)
}

// each calls f for every range in steps that begin at multiples of step.
func (c *clearer) each(ctx context.Context, ranges []imagefmt.Extent, step int64, f func(off, n int64) error) error {
	for _, r := range ranges {
		for r.Len > 0 {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			n := min(r.Len, step-r.Off%step)
			if err := f(r.Off, n); err != nil {
				return err
			}
			r.Off, r.Len, c.done = r.Off+n, r.Len-n, c.done+n
			if c.progress != nil {
				c.progress(c.done, c.total)
			}
		}
	}
	return nil
}

// discard leaves the rest alone when the disk does not know the command: for all of it, or (a disk behind device-mapper
// that is put together of several) for some of it.
func (c *clearer) discard(ctx context.Context, ranges []imagefmt.Extent) (Cleared, error) {
	done := Cleared{Mode: WipeDiscard}
	err := c.each(ctx, ranges, clearStep, func(off, n int64) error {
		sector := int64(c.d.sector)
		if !c.d.block {
			sector = 1
		}
		end := (off + n) / sector * sector
		off = (off + sector - 1) / sector * sector
		if off >= end {
			return nil
		}
		err := c.d.discardSpan(off, end-off)
		if err == nil {
			done.Bytes += end - off
			return nil
		}
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.ENOSYS) {
			done.Reason = fmt.Sprintf("%s does not support discard at offset %d: %v", c.d.path, off, err)
			return nil
		}
		return &IOError{c.d.path, "discard", off, err}
	})
	if done.Bytes == 0 && done.Reason != "" {
		done.Mode = WipeNone
	}
	return done, err
}

func (d *Device) discardSpan(off, n int64) error {
	if !d.block {
		return unix.Fallocate(int(d.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	}
	span := [2]uint64{uint64(off), uint64(n)}
	return d.ioctlPtr(unix.BLKDISCARD, unsafe.Pointer(&span))
}

// Gaps returns what lies between the kept extents of a device of size bytes, from its start to its end: what
// Clear may be given. The extents may overlap, touch, or reach beyond the end.
func Gaps(size int64, kept []imagefmt.Extent) []imagefmt.Extent {
	kept = slices.Clone(kept)
	slices.SortFunc(kept, func(a, b imagefmt.Extent) int { return cmp.Compare(a.Off, b.Off) })
	var gaps []imagefmt.Extent
	at := int64(0)
	for _, k := range append(kept, imagefmt.Extent{Off: size}) {
		if end := min(k.Off, size); end > at {
			gaps = append(gaps, imagefmt.Extent{Off: at, Len: end - at})
		}
		at = max(at, k.End())
	}
	return gaps
}
