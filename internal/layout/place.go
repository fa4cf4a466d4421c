package layout

import (
	"cmp"
	"fmt"
	"slices"

	"swarmboot/imagefmt"
	"swarmboot/internal/disk"
)

// want is a partition that is to be made on one disk.
type want struct {
	name   string
	length int64 // bytes; 0 with rest
	rest   bool
	pinned bool // it must begin at start, where the image has it
	start  int64
}

// room is the part of a disk that partitions may have.
type room struct {
	disk   disk.Disk
	lo, hi int64 // bytes: what a GPT leaves, aligned inwards
	first  int64 // what a GPT leaves, to the byte
	end    int64
	align  int64
	free   []imagefmt.Extent // in order
}

// alignment is what partitions on a disk begin at multiples of: 1 MiB, or the disk's optimal transfer length where
// that is more.
func alignment(d disk.Disk) int64 {
	if n := int64(d.OptimalIO); n > mib && n&(n-1) == 0 && n <= 1<<30 {
		return n
	}
	return mib
}

// newRoom finds the free ranges between partitions that stay where they are.
func newRoom(d disk.Disk, sector int, taken []imagefmt.Extent) (*room, error) {
	r := &room{disk: d, align: alignment(d)}
	r.first, r.end = disk.Usable(imagefmt.TableGPT, d.Size, sector)
	r.lo, r.hi = alignUp(r.first, r.align), alignDown(r.end, r.align)
	if r.lo >= r.hi {
		return nil, &disk.TooSmallError{Device: d.Path, Size: d.Size, Need: r.lo + r.align + d.Size - r.end}
	}
	taken = slices.Clone(taken)
	slices.SortFunc(taken, func(a, b imagefmt.Extent) int { return cmp.Compare(a.Off, b.Off) })
	at := r.lo
	for _, t := range append(taken, imagefmt.Extent{Off: r.hi}) {
		if end := alignDown(min(t.Off, r.hi), r.align); end > at {
			r.free = append(r.free, imagefmt.Extent{Off: at, Len: end - at})
		}
		at = max(at, alignUp(t.End(), r.align))
	}
	return r, nil
}

// place gives each partition a place, in order: those before the one that takes the rest from the front, those behind it from
// the back, and that one the largest range which is left. Lengths become multiples of the alignment.
func (r *room) place(wants []want) ([]imagefmt.Extent, error) {
	places := make([]imagefmt.Extent, len(wants))
	rest := slices.IndexFunc(wants, func(w want) bool { return w.rest })
	front := len(wants)
	if rest >= 0 {
		front = rest
	}
	gap := 0
	for i, w := range wants[:front] {
		if w.pinned {
			places[i] = imagefmt.Extent{Off: w.start, Len: w.length}
			continue
		}
		n := alignUp(w.length, r.align)
		for gap < len(r.free) && r.free[gap].Len < n {
			gap++
		}
		if gap == len(r.free) {
			return nil, r.noRoom(w, wants)
		}
		places[i] = imagefmt.Extent{Off: r.free[gap].Off, Len: n}
		r.free[gap] = imagefmt.Extent{Off: r.free[gap].Off + n, Len: r.free[gap].Len - n}
	}
	if rest < 0 {
		return places, nil
	}
	if err := r.placeBehind(wants, places, rest); err != nil {
		return nil, err
	}
	best := slices.MaxFunc(append(r.free, imagefmt.Extent{}), func(a, b imagefmt.Extent) int { return cmp.Compare(a.Len, b.Len) })
	if best.Len == 0 {
		return nil, r.noRoom(wants[rest], wants)
	}
	places[rest] = best
	return places, nil
}

// placeBehind places what follows the partition that takes the rest, from the end of the disk.
func (r *room) placeBehind(wants []want, places []imagefmt.Extent, rest int) error {
	gap := len(r.free) - 1
	for i := len(wants) - 1; i > rest; i-- {
		w := wants[i]
		if w.pinned {
			places[i] = imagefmt.Extent{Off: w.start, Len: w.length}
			continue
		}
		n := alignUp(w.length, r.align)
		for gap >= 0 && r.free[gap].Len < n {
			gap--
		}
		if gap < 0 {
			return r.noRoom(w, wants)
		}
		r.free[gap].Len -= n
		places[i] = imagefmt.Extent{Off: r.free[gap].End(), Len: n}
	}
	return nil
}

// noRoom says that there is none for w: the disk is too small for all, or what is kept lies in the way.
func (r *room) noRoom(w want, wants []want) error {
	need := r.lo + r.disk.Size - r.hi
	for _, w := range wants {
		if w.rest {
			need += r.align
		} else if !w.pinned {
			need += alignUp(w.length, r.align)
		}
	}
	if need > r.disk.Size {
		return fmt.Errorf("no room for partition %q: %w", w.name, &disk.TooSmallError{Device: r.disk.Path, Size: r.disk.Size, Need: need})
	}
	return &RefusedError{Device: r.disk.Path, Reason: fmt.Sprintf("no room for partition %q (%s) beside the partitions that stay where they are",
		w.name, disk.FormatSize(max(w.length, r.align)))}
}
