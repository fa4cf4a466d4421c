package md

import (
	"fmt"
	"slices"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30

	defaultChunk = 512 * kib
	maxChunk     = 128 * mib
	// maxMembers keeps a superblock within 1 KiB, which every tool reads.
	maxMembers = 384
	// maxMember keeps all sums within 63 bits.
	maxMember = 8 << 50
	// pastSuper is where a bitmap begins behind a superblock, and what the list of bad blocks needs: 4 KiB each.
	pastSuper = 4 * kib
	// endRoom is what a superblock at the end of a device needs at least (metadata 1.0).
	endRoom = 8 * kib
)

// Layouts as the kernel numbers them: that of level 0 says where the data of unequal members goes, the others are left-symmetric parity and two
// near copies.
const (
	originalZones = 1
	leftSymmetric = 2
	nearTwo       = 1<<8 | 2
)

// Geometry is how an array lies on its members. Everything is in bytes.
type Geometry struct {
	Size       int64 // usable bytes of the array
	DataOffset int64 // of each member's data
	Used       int64 // of each member, from DataOffset on
	Chunk      int64

	shape    Shape
	disks    int
	sizes    []int64 // of members, then spares
	dataSize int64   // level 0: what each member may use at most
	bitmap   bitmapShape
}

// levelRule is what the driver of a level and good sense ask for.
type levelRule struct {
	members int // at least
	layout  uint32
	module  string
}

var levelRules = map[int]levelRule{
	0:  {2, originalZones, "raid0"},
	1:  {2, 0, "raid1"},
	4:  {3, 0, "raid456"},
	5:  {3, leftSymmetric, "raid456"},
	6:  {4, leftSymmetric, "raid456"},
	10: {2, nearTwo, "raid10"},
}

// check looks at what does not depend on the sizes and fills in what was left open.
func (s *Shape) check(members, spares int) error {
	rule, ok := levelRules[s.Level]
	if !ok {
		return fmt.Errorf("level %d: want 0, 1, 4, 5, 6 or 10", s.Level)
	}
	if s.Metadata == "" {
		s.Metadata = "1.2"
	}
	if s.Metadata != "1.2" && s.Metadata != "1.0" {
		return fmt.Errorf("metadata %.20q: want 1.2 or 1.0", s.Metadata)
	}
	switch {
	case s.Level == 1 && s.Chunk != 0:
		return fmt.Errorf("level 1 has no chunks (%d bytes were asked for)", s.Chunk)
	case s.Level != 1 && s.Chunk == 0:
		s.Chunk = defaultChunk
	case s.Level != 1 && (s.Chunk < 4*kib || s.Chunk > maxChunk || s.Chunk&(s.Chunk-1) != 0):
		return fmt.Errorf("chunk of %d bytes: want a power of two from 4 KiB to 128 MiB", s.Chunk)
	}
	switch {
	case members < rule.members:
		return fmt.Errorf("%d members: level %d needs at least %d", members, s.Level, rule.members)
	case members+spares > maxMembers:
		return fmt.Errorf("%d members and spares: more than %d", members+spares, maxMembers)
	case s.Level == 0 && spares > 0:
		return fmt.Errorf("%d spares: level 0 cannot use any", spares)
	case s.Level == 0 && s.Bitmap:
		return fmt.Errorf("a bitmap: level 0 has nothing to bring in line")
	}
	return nil
}

// Geometry calculates how the array lies on members and spares of these sizes in bytes. They may differ: each
// is used as far as the smallest reaches. (mdadm takes the data offset from the first member and uses all of unequal members of level 0,
// by a rule that changed in Linux 5.4; with the smallest one the result depends on neither.)
func (s Shape) Geometry(members, spares []int64) (Geometry, error) {
	if err := s.check(len(members), len(spares)); err != nil {
		return Geometry{}, err
	}
	g := Geometry{Chunk: s.Chunk, shape: s, disks: len(members), sizes: slices.Concat(members, spares)}
	small := slices.Min(g.sizes) / sector * sector
	if small < 64*kib || small > maxMember {
		return Geometry{}, fmt.Errorf("a member of %d bytes: md is used from 64 KiB to 8 PiB", small)
	}
	overhead := endRoom + pastSuper + bitmapRoom(small)
	g.dataSize = superAtEnd(small) - pastSuper
	if s.Metadata == "1.2" {
		g.DataOffset = dataOffset(small, s.Chunk)
		overhead = g.DataOffset
		g.dataSize = small - overhead
	} else {
		small = roundDown(small, 4*kib)
	}
	g.Used = roundDown(small-overhead, s.unit())
	if g.Used <= 0 {
		return Geometry{}, fmt.Errorf("a member of %d bytes is too small: %d are needed for md's own use, and one chunk", small, overhead)
	}
	if s.Level == 0 {
		g.Used = roundDown(g.dataSize, s.Chunk)
	}
	g.Size = s.arraySize(g.Used, int64(len(members)))
	if s.Bitmap {
		covers := g.Used
		if s.Level == 10 {
			covers = g.Size
		}
		g.bitmap = newBitmap(covers, bitmapRoom(g.Used))
		if g.bitmap.chunk > maxBitmapChunk {
			return Geometry{}, fmt.Errorf("no bitmap of %d bytes can cover %d: go without", bitmapRoom(g.Used), covers)
		}
	}
	return g, nil
}

// unit is what a member's used size is a multiple of. Mirrors have no chunks until someone reshapes them to level 5: mdadm leaves them at
// multiples of 64 KiB.
func (s *Shape) unit() int64 {
	if s.Level == 1 {
		return 64 * kib
	}
	return s.Chunk
}

func (s *Shape) arraySize(used, members int64) int64 {
	switch s.Level {
	case 1:
		return used
	case 4, 5:
		return used * (members - 1)
	case 6:
		return used * (members - 2)
	case 10:
		return used / s.Chunk * members / 2 * s.Chunk // raid10.c, raid10_size
	}
	return used * members
}

// dataOffset leaves room for the superblock, the bitmap, the list of bad blocks, and some so that
// a reshape can move the data without a backup: about a thousandth, at most 128 MiB, at least two chunks. It is a
// multiple of 1 MiB.
func dataOffset(size, chunk int64) int64 {
	headroom := int64(128 * mib)
	for headroom<<10 > size && (chunk == 0 || headroom/2 >= 2*chunk) {
		headroom >>= 1
	}
	return roundUp(12*kib+bitmapRoom(size)+headroom/sector*sector, mib)
}

// bitmapRoom is what is left free for a bitmap, now or later.
func bitmapRoom(size int64) int64 {
	switch {
	case size < 64*kib:
		return 0
	case size-64*kib >= 200*gib:
		return 128 * kib
	case size-4*kib > 8*gib:
		return 64 * kib
	}
	return 4 * kib
}

// superAtEnd is where a superblock of version 1.0 lies: between 8 and 12 KiB before the end.
func superAtEnd(size int64) int64 { return roundDown(size/sector*sector-endRoom, 4*kib) }

func superOffset(minor int, size int64) int64 {
	switch minor {
	case 0:
		return superAtEnd(size)
	case 2:
		return 4 * kib
	}
	return 0
}
