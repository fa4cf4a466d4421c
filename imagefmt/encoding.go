package imagefmt

import "encoding/binary"

// cursor reads the index encoding; after a read beyond the end or a number out of range bad is set and stays.
type cursor struct {
	b   []byte
	off int
	bad bool
}

func (c *cursor) left() int { return len(c.b) - c.off }

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b[c.off:])
	if n <= 0 || v > 1<<62 {
		c.bad = true
		return 0
	}
	c.off += n
	return v
}

// count reads a number of at most limit.
func (c *cursor) count(limit int) int {
	v := c.uvarint()
	if v > uint64(limit) {
		c.bad = true
		return 0
	}
	return int(v)
}

// extent reads an extent whose offset counts from end: forwards only, or (signed) both ways.
func (c *cursor) extent(end int64, signed bool) Extent {
	v := c.uvarint()
	d := int64(v)
	if signed {
		d = int64(v>>1) ^ -int64(v&1)
	}
	// end is at most MaxDiskSize (2^60) and d at most 2^62: no overflow.
	return Extent{Off: end + d, Len: int64(c.uvarint())}
}

func (c *cursor) take(n int) []byte {
	if c.left() < n {
		c.bad = true
		return nil
	}
	c.off += n
	return c.b[c.off-n : c.off]
}

func appendExtent(b []byte, e Extent, end int64, signed bool) []byte {
	d := e.Off - end
	if signed {
		b = binary.AppendUvarint(b, uint64(d<<1)^uint64(d>>63))
	} else {
		b = binary.AppendUvarint(b, uint64(d))
	}
	return binary.AppendUvarint(b, uint64(e.Len))
}

// appendRecord encodes the frames of one piece.
func appendRecord(b []byte, frames []*packFrame) []byte {
	b = binary.AppendUvarint(b, uint64(len(frames)))
	var end int64
	for _, f := range frames {
		b = binary.AppendUvarint(b, uint64(len(f.data))<<1|uint64(f.kind))
		b = binary.AppendUvarint(b, uint64(len(f.extents)))
		for _, e := range f.extents {
			b = appendExtent(b, e, end, true)
			end = e.End()
		}
		b = append(b, f.sum[:]...)
	}
	return b
}
