package extfs

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"swarmboot/internal/imagesrc/volume"
)

const blockUninit = 2 // bg_flags: the block bitmap was never written; what it would say is to be computed

// group is one decoded group descriptor.
type group struct {
	number      uint64
	blockBitmap uint64
	inodeBitmap uint64
	inodeTable  uint64
	free        uint64 // clusters
	uninit      bool
	desc        []byte
}

// usedBlocks adds every used block to m. A reason in the first result means that the bitmaps are damaged.
func (s *superblock) usedBlocks(m *volume.Map) (string, error) {
	descs := make([]byte, s.blockSize)
	bitmap := make([]byte, s.blockSize)
	meta := &volume.Map{} // kept apart: the metadata of a flex group lies far from most of its groups
	s.add(m, 0, s.firstData+1)
	m.Add(superblockOff, superblockSize)
	for n := range s.descBlocks() {
		loc := s.descLocation(n)
		if loc >= s.blocks {
			return fmt.Sprintf("group descriptor block %d lies outside", n), nil
		}
		if _, err := s.r.ReadAt(descs, int64(loc)*s.blockSize); err != nil {
			return "", fmt.Errorf("read group descriptors at block %d: %w", loc, err)
		}
		s.add(meta, loc, 1)
		first := n * s.descPerBlock()
		for i := range min(s.descPerBlock(), s.groups-first) {
			desc := descs[int64(i)*s.descSize:][:s.descSize]
			if reason, err := s.usedInGroup(m, meta, first+i, desc, bitmap); reason != "" || err != nil {
				return reason, err
			}
		}
	}
	for _, e := range meta.Extents(int64(s.blocks) * s.blockSize) {
		m.Add(e.Off, e.Len)
	}
	return "", nil
}

func (s *superblock) add(m *volume.Map, block, blocks uint64) {
	m.Add(int64(block)*s.blockSize, int64(blocks)*s.blockSize)
}

func (s *superblock) usedInGroup(m, meta *volume.Map, number uint64, desc, bitmap []byte) (string, error) {
	if !s.descSum(number, desc) {
		return fmt.Sprintf("group %d: the descriptor's checksum is wrong", number), nil
	}
	g := s.parseGroup(number, desc)
	for _, b := range []struct{ start, blocks uint64 }{{g.blockBitmap, 1}, {g.inodeBitmap, 1}, {g.inodeTable, s.itable}} {
		if b.start < s.firstData || b.start >= s.blocks || b.blocks > s.blocks-b.start {
			return fmt.Sprintf("group %d: its metadata lies at block %d+%d of %d", number, b.start, b.blocks, s.blocks), nil
		}
		s.add(meta, b.start, b.blocks)
	}
	if g.uninit {
		clear(bitmap)
		s.computeBitmap(g, bitmap)
	} else {
		if _, err := s.r.ReadAt(bitmap, int64(g.blockBitmap)*s.blockSize); err != nil {
			return "", fmt.Errorf("read block bitmap of group %d: %w", number, err)
		}
		if !s.bitmapSum(desc, bitmap) {
			return fmt.Sprintf("group %d: the block bitmap's checksum is wrong", number), nil
		}
	}
	if free := s.addUsed(m, number, bitmap); free != g.free {
		return fmt.Sprintf("group %d: %d free clusters in the bitmap, %d in the descriptor, run e2fsck", number, free, g.free), nil
	}
	return "", nil
}

func (s *superblock) parseGroup(number uint64, d []byte) group {
	lo := func(off int) uint64 { return uint64(binary.LittleEndian.Uint32(d[off:])) }
	g := group{
		number: number, blockBitmap: lo(0), inodeBitmap: lo(4), inodeTable: lo(8),
		free:   uint64(binary.LittleEndian.Uint16(d[0xC:])),
		uninit: s.hasGroupSum() && d[0x12]&blockUninit != 0,
		desc:   d,
	}
	if s.descSize >= 64 {
		g.blockBitmap |= lo(0x20) << 32
		g.inodeBitmap |= lo(0x24) << 32
		g.inodeTable |= lo(0x28) << 32
		g.free |= uint64(binary.LittleEndian.Uint16(d[0x2C:])) << 16
	}
	return g
}

// computeBitmap sets the bits that the block bitmap of a BLOCK_UNINIT group would have: superblock copy and
// descriptors, and the group's own bitmaps and inode table where they lie inside it (kernel:
// ext4_init_block_bitmap).
func (s *superblock) computeBitmap(g group, bitmap []byte) {
	start, end := s.groupStart(g.number), s.groupEnd(g.number)
	set := func(block, blocks uint64) {
		from, to := max(block, start), min(block+blocks, end)
		for b := from; b < to; b++ {
			c := (b - start) / s.ratio
			bitmap[c/8] |= 1 << (c % 8)
		}
	}
	set(start, s.baseBlocks(g.number))
	set(g.blockBitmap, 1)
	set(g.inodeBitmap, 1)
	set(g.inodeTable, s.itable)
}

// addUsed adds the runs of set bits and returns the number of free clusters in the group. A word at a time is
// looked at first, since most are all set or all clear.
func (s *superblock) addUsed(m *volume.Map, number uint64, bitmap []byte) uint64 {
	start, end := s.groupStart(number), s.groupEnd(number)
	clusters := (end - start + s.ratio - 1) / s.ratio
	run := func(from, to uint64) { // clusters
		first := start + from*s.ratio
		s.add(m, first, min(start+to*s.ratio, end)-first)
	}
	var used, open uint64 // open: first cluster of the run that is under way, plus one
	for c := uint64(0); c < clusters; {
		if c%64 == 0 && c+64 <= clusters {
			word := binary.LittleEndian.Uint64(bitmap[c/8:])
			if word == 0 && open == 0 || word == ^uint64(0) && open != 0 {
				used += uint64(bits.OnesCount64(word))
				c += 64
				continue
			}
		}
		set := bitmap[c/8]>>(c%8)&1 == 1
		switch {
		case set && open == 0:
			open = c + 1
		case !set && open != 0:
			run(open-1, c)
			open = 0
		}
		if set {
			used++
		}
		c++
	}
	if open != 0 {
		run(open-1, clusters)
	}
	return clusters - used
}
