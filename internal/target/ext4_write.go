package target

import (
	"context"
	"encoding/binary"
	"hash/crc32"
)

// Flags of a group.
const (
	extInodeUninit = 1 // its inode bitmap and table were never written
	extBlockUninit = 2 // its block bitmap neither
)

// extChunk is how many bytes of descriptors are collected before they go to all their places.
const extChunk = 1 << 20

// extWriter writes the structures of ext4 (kernel documentation, "ext4 Data Structures and Algorithms"). They are little-endian.
type extWriter struct {
	*extGeometry
	d         Blank
	e         Ext4
	seed      uint32 // of all checksums
	desc      []byte // descriptors that are not written yet
	descAt    int64  // where they go, in bytes from the first one
	free      int64  // blocks, so far
	blocksOut int64  // of structures, so far: the overhead
	inode8    []byte // the journal's block map, which the superblock has a copy of
	hashSeed  [16]byte
}

func newExtWriter(g *extGeometry, d Blank, e Ext4) *extWriter {
	return &extWriter{extGeometry: g, d: d, e: e, seed: extSum(^uint32(0), e.UUID[:]), hashSeed: randomUUID()}
}

// extSum is the CRC32c of ext4, which is not inverted at the end.
func extSum(sum uint32, b []byte) uint32 { return ^crc32.Update(^sum, crc32cTable, b) }

func (w *extWriter) write(block int64, b []byte) error {
	_, err := w.d.WriteAt(b, block*extBlock)
	return err
}

// flexGroup writes a flexible group: bitmaps that are not empty and, where they belong to it, directories and journal.
func (w *extWriter) flexGroup(ctx context.Context, flex int64) error {
	l, err := w.layout(flex)
	if err != nil {
		return err
	}
	for _, u := range l.used {
		w.blocksOut += u.length
	}
	var bitmaps []byte // of the first groups, in a row
	for i := range l.groups {
		runs, free, baseOnly := l.usedIn(w.extGeometry, l.first+i)
		last := l.first+i == w.groups-1
		d := extGroupDesc{
			blockBitmap: l.blockBitmaps + i, inodeBitmap: l.inodeBitmaps + i, table: l.tables[i],
			free: free, freeInodes: w.groupInodes, unused: w.groupInodes, flags: extInodeUninit | extBlockUninit,
		}
		w.free, w.blocksOut = w.free+free, w.blocksOut+w.base(l.first+i)
		if !baseOnly || last { // the last one's bitmap says where the device ends
			b := extBitmap(runs, w.length(l.first+i))
			d.blockSum, d.flags = extSum(w.seed, b), d.flags&^extBlockUninit
			if int64(len(bitmaps)) == i*extBlock {
				bitmaps = append(bitmaps, b...)
			} else if err := w.write(d.blockBitmap, b); err != nil {
				return err
			}
		}
		if l.first+i == 0 {
			if err := w.firstInodes(l, &d); err != nil {
				return err
			}
		}
		if err := w.describe(l.first+i, d); err != nil {
			return err
		}
	}
	if err := w.write(l.blockBitmaps, bitmaps); err != nil {
		return err
	}
	return w.writeJournal(ctx, l)
}

// extBitmap has the bits of the runs set, and those from length on.
func extBitmap(runs []extRun, length int64) []byte {
	b := make([]byte, extBlock)
	for _, r := range append(runs, extRun{length, extGroup - length}) {
		for at := r.start; at < r.end(); {
			if at%8 == 0 && r.end()-at >= 8 {
				b[at/8] = 0xff
				at += 8
				continue
			}
			b[at/8] |= 1 << (at % 8)
			at++
		}
	}
	return b
}

// extGroupDesc is struct ext4_group_desc.
type extGroupDesc struct {
	blockBitmap, inodeBitmap, table int64
	free, freeInodes, dirs, unused  int64
	flags                           uint16
	blockSum, inodeSum              uint32
}

// describe adds the descriptor of the next group.
func (w *extWriter) describe(group int64, d extGroupDesc) error {
	le := binary.LittleEndian
	b := make([]byte, extDesc)
	for _, f := range []struct {
		off int
		v   int64
	}{{0, d.blockBitmap}, {4, d.inodeBitmap}, {8, d.table}} {
		le.PutUint32(b[f.off:], uint32(f.v))
		le.PutUint32(b[32+f.off:], uint32(f.v>>32))
	}
	for _, f := range []struct {
		off, high int
		v         int64
	}{{12, 44, d.free}, {14, 46, d.freeInodes}, {16, 48, d.dirs}, {28, 50, d.unused}, {24, 56, int64(d.blockSum)}, {26, 58, int64(d.inodeSum)}} {
		le.PutUint16(b[f.off:], uint16(f.v))
		le.PutUint16(b[f.high:], uint16(f.v>>16))
	}
	le.PutUint16(b[18:], d.flags)
	sum := extSum(extSum(w.seed, le.AppendUint32(nil, uint32(group))), b)
	le.PutUint16(b[30:], uint16(sum))
	w.desc = append(w.desc, b...)
	if len(w.desc) < extChunk {
		return nil
	}
	return w.flushDescriptors()
}

// flushDescriptors writes what was collected to every copy.
func (w *extWriter) flushDescriptors() error {
	if pad := len(w.desc) % extBlock; pad > 0 {
		w.desc = append(w.desc, make([]byte, extBlock-pad)...)
	}
	for group := range w.groups {
		if !w.hasSuper(group) || len(w.desc) == 0 {
			continue
		}
		if err := w.write(group*extGroup+1+w.descAt/extBlock, w.desc); err != nil {
			return err
		}
	}
	w.descAt, w.desc = w.descAt+int64(len(w.desc)), w.desc[:0]
	return nil
}

// supers writes the copies of the superblock and, last, the first one.
func (w *extWriter) supers() error {
	for group := w.groups - 1; group >= 0; group-- {
		if !w.hasSuper(group) {
			continue
		}
		b := make([]byte, extBlock)
		off := 0
		if group == 0 {
			off = extOffset
		}
		copy(b[off:], w.super(group))
		if err := w.write(group*extGroup, b); err != nil {
			return err
		}
	}
	return nil
}

// super is struct ext4_super_block.
func (w *extWriter) super(group int64) []byte {
	le := binary.LittleEndian
	b := make([]byte, superSize)
	now := uint32(w.e.Time.Unix())
	for off, v := range map[int]uint32{
		0: uint32(w.groups * w.groupInodes), 4: uint32(w.blocks), 336: uint32(w.blocks >> 32), 12: uint32(w.free), 344: uint32(w.free >> 32),
		16: uint32(w.groups*w.groupInodes - extFirstInode), 24: 2, 28: 2, 32: extGroup, 36: extGroup, 40: uint32(w.groupInodes),
		48: now, 64: now, 264: now, 76: 1, 84: extFirstInode, 92: extCompat, 96: extIncompat, 100: extROCompat,
		224: extJournalInode, 256: 0xc /* user_xattr, acl */, 352: 1 /* signed hashes */, 584: uint32(w.blocksOut),
	} {
		le.PutUint32(b[off:], v)
	}
	for off, v := range map[int]uint16{
		54: 0xffff, 56: 0xef53, 58: 1 /* clean */, 60: 1 /* go on after errors */, 88: extInode, 90: uint16(group), 254: extDesc, 348: 32, 350: 32,
	} {
		le.PutUint16(b[off:], v)
	}
	copy(b[extUUID:], w.e.UUID[:])
	copy(b[extLabel:extLabel+16], w.e.Label)
	copy(b[236:], w.hashSeed[:])
	b[252], b[253] = 1, 1 // half MD4; a copy of the journal's inode follows at 268
	copy(b[268:], w.inode8)
	b[372], b[373] = byte(w.flexBits), 1 // CRC32c
	le.PutUint32(b[extChecksum:], extSum(^uint32(0), b[:extChecksum]))
	return b
}

// Fields and features of the superblock.
const (
	extUUID     = 104
	extLabel    = 120
	extChecksum = 1020

	extCompat   = 0x2c  // has_journal, ext_attr, dir_index
	extIncompat = 0x2c2 // filetype, extents, 64bit, flex_bg
	extROCompat = 0x46b // sparse_super, large_file, huge_file, dir_nlink, extra_isize, metadata_csum
)
