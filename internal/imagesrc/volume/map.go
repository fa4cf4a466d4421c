package volume

import (
	"cmp"
	"slices"

	"swarmboot/imagefmt"
)

// DefaultMaxExtents bounds a Map: 1 Mi extents of 16 bytes, a quarter of what the image format allows for a disk.
const DefaultMaxExtents = 1 << 20

// Map collects used extents in bounded memory. When there are more than Max of them, the smallest gaps between
// neighbours are filled up: unused bytes are then copied too, which costs time but is never wrong.
type Map struct {
	Max int // extents kept at most; 0 means DefaultMaxExtents

	list []imagefmt.Extent
	gap  int64 // gaps up to this many bytes are filled, 0 until memory ran short
}

// Add records length bytes at off as used. Extents may come in any order and overlap.
func (m *Map) Add(off, length int64) {
	if length <= 0 {
		return
	}
	if n := len(m.list); n > 0 {
		last := &m.list[n-1]
		if off >= last.Off && off <= last.End()+m.gap {
			last.Len = max(last.End(), off+length) - last.Off
			return
		}
	}
	if len(m.list) >= m.limit() {
		m.shrink()
	}
	m.list = append(m.list, imagefmt.Extent{Off: off, Len: length})
}

func (m *Map) limit() int {
	if m.Max > 1 {
		return m.Max
	}
	return DefaultMaxExtents
}

// shrink merges until half of the room is free again.
func (m *Map) shrink() {
	m.list = Merge(m.list, m.gap)
	for len(m.list) > m.limit()/2 {
		m.gap = max(512, m.gap*2)
		m.list = Merge(m.list, m.gap)
	}
}

// Extents returns the used extents, sorted and merged, cut to [0, size).
func (m *Map) Extents(size int64) []imagefmt.Extent {
	m.list = Merge(m.list, m.gap)
	return Clip(m.list, 0, size)
}

// Merge sorts extents and joins those that overlap, touch, or lie at most gap bytes apart. It reuses list.
func Merge(list []imagefmt.Extent, gap int64) []imagefmt.Extent {
	byOff := func(a, b imagefmt.Extent) int { return cmp.Compare(a.Off, b.Off) }
	if !slices.IsSortedFunc(list, byOff) {
		slices.SortFunc(list, byOff)
	}
	out := list[:0]
	for _, e := range list {
		if n := len(out); n > 0 && e.Off <= out[n-1].End()+gap {
			out[n-1].Len = max(out[n-1].End(), e.End()) - out[n-1].Off
			continue
		}
		out = append(out, e)
	}
	return out
}

// Clip returns the parts of sorted, disjoint extents that lie in [start, end).
func Clip(list []imagefmt.Extent, start, end int64) []imagefmt.Extent {
	var out []imagefmt.Extent
	for _, e := range list {
		from, to := max(e.Off, start), min(e.End(), end)
		if from < to {
			out = append(out, imagefmt.Extent{Off: from, Len: to - from})
		}
	}
	return out
}

// Invert returns what sorted, disjoint extents leave of [start, end).
func Invert(list []imagefmt.Extent, start, end int64) []imagefmt.Extent {
	var out []imagefmt.Extent
	for _, e := range list {
		if e.Off > start {
			out = append(out, imagefmt.Extent{Off: start, Len: min(e.Off, end) - start})
		}
		if start = max(start, e.End()); start >= end {
			return out
		}
	}
	if start < end {
		out = append(out, imagefmt.Extent{Off: start, Len: end - start})
	}
	return out
}

// Sum is the number of bytes in disjoint extents.
func Sum(list []imagefmt.Extent) int64 {
	var n int64
	for _, e := range list {
		n += e.Len
	}
	return n
}
