package target

import (
	"encoding/binary"
	"hash/crc32"
)

// crc32cTable is for the checksums of XFS and ext4.
var crc32cTable = crc32.MakeTable(crc32.Castagnoli)

// Features of the superblock (xfs_format.h).
const (
	xfsVersion       = 0xb4a5 // 5, with: NLINK, ALIGN, LOGV2, EXTFLG, DIRV2, MOREBITS
	xfsVersionSector = 0x0800 // sectors other than 512 bytes
	xfsFeatures2     = 0x018a // LAZYSBCOUNT, ATTR2, PROJID32, CRC
	xfsROCompat      = 0x5    // FINOBT, REFLINK
	xfsIncompat      = 0x3    // FTYPE, SPINODES
	xfsNull          = 0xffffffff
)

// Fields of the headers that hold checksums: offsets in bytes.
const (
	xfsSuperCRC = 224
	xfsAGFCRC   = 216
	xfsAGICRC   = 312
	xfsAGFLCRC  = 32
	xfsTreeCRC  = 52
	xfsInodeCRC = 100
)

// xfsWriter writes the structures of XFS (XFS Algorithms & Data Structures, 3rd edition). They are big-endian, their
// checksums little-endian.
type xfsWriter struct {
	*xfsGeometry
	d Blank
	x XFS
}

// xfsBuf is a structure under construction.
type xfsBuf []byte

func (b xfsBuf) u16(off int, v int)   { binary.BigEndian.PutUint16(b[off:], uint16(v)) }
func (b xfsBuf) u32(off int, v int64) { binary.BigEndian.PutUint32(b[off:], uint32(v)) }
func (b xfsBuf) u64(off int, v int64) { binary.BigEndian.PutUint64(b[off:], uint64(v)) }

// seal puts the checksum over all of b into its field.
func (b xfsBuf) seal(off int) []byte {
	binary.LittleEndian.PutUint32(b[off:], 0)
	binary.LittleEndian.PutUint32(b[off:], crc32.Checksum(b, crc32cTable))
	return b
}

// group writes one allocation group, its superblock last.
func (w *xfsWriter) group(ag int) error {
	if ag == w.logAG {
		if err := w.write(ag, w.free*xfsBlock, w.logRecord()); err != nil {
			return err
		}
	}
	if ag == 0 {
		if err := w.write(ag, w.rootBlock*xfsBlock, w.inodes()); err != nil {
			return err
		}
	}
	runs := w.freeRuns(ag)
	var extents []byte
	for _, r := range runs { // by place as by size: what comes before the inodes is smaller
		extents = binary.BigEndian.AppendUint32(extents, uint32(r.start))
		extents = binary.BigEndian.AppendUint32(extents, uint32(r.length))
	}
	var chunks []byte
	if ag == 0 {
		chunks = w.chunkRecord()
	}
	for _, t := range []struct {
		block   int64
		magic   string
		records []byte
		size    int
	}{
		{w.bno, "AB3B", extents, 8},
		{w.cnt, "AB3C", extents, 8},
		{w.ino, "IAB3", chunks, 16},
		{w.fino, "FIB3", chunks, 16},
		{w.refc, "R3FC", nil, 24},
	} {
		if err := w.write(ag, t.block*xfsBlock, w.tree(ag, t.block, t.magic, t.records, t.size)); err != nil {
			return err
		}
	}
	sector := int64(w.sector)
	for i, b := range [][]byte{w.agf(ag, runs), w.agi(ag), w.agfl(ag)} {
		if err := w.write(ag, sector*int64(1+i), b); err != nil {
			return err
		}
	}
	return w.write(ag, 0, w.super(ag))
}

// write puts b at an offset in bytes from the start of a group.
func (w *xfsWriter) write(ag int, off int64, b []byte) error {
	_, err := w.d.WriteAt(b, w.offset(ag, 0)+off)
	return err
}

// super is xfs_dsb. Copies are as mkfs.xfs leaves them: marked as in progress, without inodes, and with the root inode in the
// last one and one in the middle.
func (w *xfsWriter) super(ag int) []byte {
	b := make(xfsBuf, w.sector)
	copy(b, "XFSB")
	b.u32(4, xfsBlock)
	b.u64(8, w.blocks)
	copy(b[32:], w.x.UUID[:])
	b.u64(48, int64(w.logAG)<<w.agBits|w.free)
	root := w.rootBlock * (xfsBlock / xfsInode)
	for i := range int64(3) { // root directory, bitmap and summary of the realtime section
		b.u64(56+8*int(i), -1)
		if ag == 0 || i == 0 && (ag == w.agCount-1 || ag == (w.agCount-1)/2) {
			b.u64(56+8*int(i), root+i)
		}
	}
	b.u32(80, 1) // blocks in a realtime extent
	b.u32(84, w.agBlocks)
	b.u32(88, int64(w.agCount))
	b.u32(96, w.logBlocks)
	b.u16(100, xfsVersion)
	b.u16(102, w.sector)
	b.u16(104, xfsInode)
	b.u16(106, xfsBlock/xfsInode)
	copy(b[108:120], w.x.Label)
	copy(b[120:], []byte{12, 9, 9, 3, byte(w.agBits), 0, 1, w.maxPct}) // logarithms; in progress
	b.u64(144, w.freeBlocks()+xfsChunkSize)
	if ag == 0 {
		b[126] = 0
		b.u64(128, xfsChunk)
		b.u64(136, xfsChunk-3)
		b.u64(144, w.freeBlocks())
	}
	b.u32(180, xfsChunkSize) // alignment of inodes
	b.u32(196, 1)            // stripe unit of the log: none
	if w.sector == 4096 {
		b.u16(100, xfsVersion|xfsVersionSector)
		b[121], b[193] = 12, 12
		b.u16(194, w.sector)
		b.u32(196, int64(w.sector))
	}
	b.u32(200, xfsFeatures2)
	b.u32(204, xfsFeatures2)
	b.u32(212, xfsROCompat)
	b.u32(216, xfsIncompat)
	b.u32(228, xfsChunkSize/2) // alignment of sparse inodes
	return b.seal(xfsSuperCRC)
}

// agf is xfs_agf: free space.
func (w *xfsWriter) agf(ag int, runs []xfsRun) []byte {
	b := make(xfsBuf, w.sector)
	copy(b, "XAGF")
	b.u32(4, 1)
	b.u32(8, int64(ag))
	b.u32(12, w.agLength(ag))
	b.u32(16, w.bno)
	b.u32(20, w.cnt)
	b.u32(28, 1) // levels of the two trees
	b.u32(32, 1)
	b.u32(40, 1) // first and last entry of the free list, and their number
	b.u32(44, xfsFreeList)
	b.u32(48, xfsFreeList)
	var free, longest int64
	for _, r := range runs {
		free, longest = free+r.length, max(longest, r.length)
	}
	b.u32(52, free)
	b.u32(56, longest)
	copy(b[64:], w.x.UUID[:])
	b.u32(84, 1) // blocks in the reference count tree, its root, its levels
	b.u32(88, w.refc)
	b.u32(92, 1)
	return b.seal(xfsAGFCRC)
}

// agi is xfs_agi: inodes.
func (w *xfsWriter) agi(ag int) []byte {
	b := make(xfsBuf, w.sector)
	copy(b, "XAGI")
	b.u32(4, 1)
	b.u32(8, int64(ag))
	b.u32(12, w.agLength(ag))
	b.u32(20, w.ino)
	b.u32(24, 1)
	b.u32(32, xfsNull)
	if ag == 0 {
		b.u32(16, xfsChunk)
		b.u32(28, xfsChunk-3)
		b.u32(32, w.rootBlock*(xfsBlock/xfsInode)) // the newest chunk
	}
	b.u32(36, xfsNull)
	for i := range 64 { // no unlinked inodes
		b.u32(40+4*i, xfsNull)
	}
	copy(b[296:], w.x.UUID[:])
	b.u32(328, w.fino)
	b.u32(332, 1)
	return b.seal(xfsAGICRC)
}

// agfl is xfs_agfl: blocks kept for the trees of free space. They begin in the second entry.
func (w *xfsWriter) agfl(ag int) []byte {
	b := make(xfsBuf, w.sector)
	copy(b, "XAFL")
	b.u32(4, int64(ag))
	copy(b[8:], w.x.UUID[:])
	for off := 36; off+4 <= len(b); off += 4 {
		b.u32(off, xfsNull)
	}
	for i := range int64(xfsFreeList) {
		b.u32(40+4*int(i), w.freeList(ag)+i)
	}
	return b.seal(xfsAGFLCRC)
}

// tree is a root that is a leaf: xfs_btree_block, the short form.
func (w *xfsWriter) tree(ag int, block int64, magic string, records []byte, size int) []byte {
	b := make(xfsBuf, xfsBlock)
	copy(b, magic)
	b.u16(6, len(records)/size)
	b.u32(8, xfsNull) // no siblings
	b.u32(12, xfsNull)
	b.u64(16, w.offset(ag, block)/512)
	copy(b[32:], w.x.UUID[:])
	b.u32(48, int64(ag))
	copy(b[56:], records)
	return b.seal(xfsTreeCRC)
}

// chunkRecord is xfs_inobt_rec for the one chunk, three of its inodes in use.
func (w *xfsWriter) chunkRecord() []byte {
	b := make(xfsBuf, 16)
	b.u32(0, w.rootBlock*(xfsBlock/xfsInode))
	b[6], b[7] = xfsChunk, xfsChunk-3
	b.u64(8, -1<<3)
	return b
}

// inodes is the first chunk: the root directory, bitmap and summary of the realtime section (there is none), free ones.
func (w *xfsWriter) inodes() []byte {
	chunk := make([]byte, xfsChunk*xfsInode)
	first := w.rootBlock * (xfsBlock / xfsInode)
	for i := range int64(xfsChunk) {
		b := xfsBuf(chunk[i*xfsInode:][:xfsInode])
		copy(b, "IN")
		b[4] = 3           // version
		b.u32(96, xfsNull) // next unlinked
		b.u64(152, first+i)
		copy(b[160:], w.x.UUID[:])
		if i < 3 {
			w.inode(b, first, int(i))
		}
		b.seal(xfsInodeCRC)
	}
	return chunk
}

// inode fills in one that is used: xfs_dinode.
func (w *xfsWriter) inode(b xfsBuf, root int64, i int) {
	const directory, file = 0o40755, 0o100000
	for _, off := range []int{32, 40, 48, 144} { // accessed, modified, changed, created
		b.u32(off, w.x.Time.Unix())
		b.u32(off+4, int64(w.x.Time.Nanosecond()))
	}
	b.u16(2, file)
	b[5] = 2 // extents, none of them
	b.u32(16, 1)
	b[83] = 2 // format of attributes, none of them either
	b.u64(104, 2)
	switch i {
	case 0: // the directory is in the inode, its parent is itself, no entries
		b.u16(2, directory)
		b[5] = 1
		b.u32(16, 2)
		b.u64(56, 6)
		b.u32(178, root)
	case 1:
		b.u16(90, 4) // XFS_DIFLAG_NEWRTBM
	}
}

// logRecord is the head of a log that was cleanly unmounted: xlog_rec_header and an unmount record.
func (w *xfsWriter) logRecord() []byte {
	length := max(1024, w.sector) // header and what follows it
	b := make(xfsBuf, length)
	b.u32(0, 0xfeedbabe)
	b.u32(4, 1) // cycle
	b.u32(8, 2) // version
	b.u32(12, int64(length-512))
	b.u64(16, 1<<32) // sequence number of this record and of the tail
	b.u64(24, 1<<32)
	b.u32(36, xfsNull) // previous block
	b.u32(40, 1)       // operations
	b.u32(44, 0xb0c0d0d0)
	b.u32(300, 1) // little-endian Linux
	copy(b[304:], w.x.UUID[:])
	b.u32(320, 32<<10) // size of the buffers
	for off := 512; off < length; off += 512 {
		b.u32(off, 1) // every sector begins with the cycle; the first one's own word is in the header
	}
	copy(b[516:], "\x00\x00\x00\x08\xaa\x20\x00\x00nU") // length, client, flag; "Un"
	return b
}
