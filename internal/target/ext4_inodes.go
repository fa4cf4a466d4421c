package target

import (
	"context"
	"encoding/binary"
)

// Inodes that every ext4 has.
const (
	extRootInode    = 2
	extJournalInode = 8
	extLostInode    = 11
)

// extFile is what an inode says.
type extFile struct {
	number  uint32
	mode    uint16
	links   uint16
	size    int64 // bytes
	blocks  int64 // of 4 KiB, its tree not counted
	tree    int64 // the block that holds its extents, 0: the inode does
	extents []extRun
}

// firstInodes writes the inode bitmap and the first block of the inode table of group 0, and the directories.
func (w *extWriter) firstInodes(l *extLayout, d *extGroupDesc) error {
	bitmap := extBitmap([]extRun{{0, extFirstInode}}, w.groupInodes)
	d.inodeSum = extSum(w.seed, bitmap[:w.groupInodes/8])
	d.flags &^= extInodeUninit
	d.freeInodes, d.unused, d.dirs = w.groupInodes-extFirstInode, w.groupInodes-extFirstInode, 2
	if err := w.write(d.inodeBitmap, bitmap); err != nil {
		return err
	}
	journal, err := w.layout(w.journalFlex())
	if err != nil {
		return err
	}
	table := make([]byte, extBlock)
	for _, f := range []extFile{
		{number: extRootInode, mode: 0o40755, links: 3, size: extBlock, blocks: 1, extents: []extRun{{l.root, 1}}},
		{number: extJournalInode, mode: 0o100600, links: 1, size: w.journal * extBlock, blocks: w.journal, tree: journal.journalTree, extents: journal.journal},
		{number: extLostInode, mode: 0o40700, links: 2, size: extLostBlocks * extBlock, blocks: extLostBlocks, extents: []extRun{{l.lost, extLostBlocks}}},
	} {
		w.inode(table[extInode*(f.number-1):][:extInode], f)
	}
	// The superblock's copy of the journal's inode: block map, then the size's high and low half.
	i := table[extInode*(extJournalInode-1):]
	w.inode8 = append(append(append([]byte{}, i[40:100]...), i[108:112]...), i[4:8]...)
	if err := w.write(d.table, table); err != nil {
		return err
	}
	return w.directories(l)
}

// inode is struct ext4_inode with the extra fields of 32 bytes.
func (w *extWriter) inode(b []byte, f extFile) {
	le := binary.LittleEndian
	le.PutUint16(b[0:], f.mode)
	le.PutUint32(b[4:], uint32(f.size))
	for _, off := range []int{8, 12, 16, 144} { // accessed, changed, modified, created
		le.PutUint32(b[off:], uint32(w.e.Time.Unix()))
	}
	le.PutUint16(b[26:], f.links)
	if f.tree > 0 {
		f.blocks++
	}
	le.PutUint32(b[28:], uint32(f.blocks*extBlock/512))
	le.PutUint32(b[32:], 0x80000) // its blocks are described by extents
	root := b[40:100]
	if f.tree == 0 {
		extExtents(root, extInodeRuns, f.extents)
	} else {
		extHeader(root, 1, extInodeRuns, 1)
		le.PutUint32(root[16:], uint32(f.tree)) // for the file's block 0 and all that follow
		le.PutUint16(root[20:], uint16(f.tree>>32))
	}
	le.PutUint32(b[108:], uint32(f.size>>32))
	le.PutUint16(b[128:], 32)
	sum := extSum(w.inodeSeed(f.number), b)
	le.PutUint16(b[124:], uint16(sum))
	le.PutUint16(b[130:], uint16(sum>>16))
}

// inodeSeed begins the checksums of what belongs to an inode: its number and its generation, which is 0.
func (w *extWriter) inodeSeed(number uint32) uint32 {
	return extSum(w.seed, binary.LittleEndian.AppendUint64(nil, uint64(number)))
}

// extHeader is struct ext4_extent_header.
func extHeader(b []byte, entries, most, depth int) {
	le := binary.LittleEndian
	le.PutUint16(b[0:], 0xf30a)
	le.PutUint16(b[2:], uint16(entries))
	le.PutUint16(b[4:], uint16(most))
	le.PutUint16(b[6:], uint16(depth))
}

// extExtents is a leaf of an extent tree.
func extExtents(b []byte, most int, runs []extRun) {
	le := binary.LittleEndian
	extHeader(b, len(runs), most, 0)
	logical := int64(0)
	for i, r := range runs {
		e := b[12+12*i:]
		le.PutUint32(e[0:], uint32(logical))
		le.PutUint16(e[4:], uint16(r.length))
		le.PutUint16(e[6:], uint16(r.start>>32))
		le.PutUint32(e[8:], uint32(r.start))
		logical += r.length
	}
}

// extEntry is struct ext4_dir_entry_2.
func extEntry(b []byte, inode uint32, length int, kind byte, name string) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], inode)
	le.PutUint16(b[4:], uint16(length))
	b[6], b[7] = byte(len(name)), kind
	copy(b[8:], name)
}

// directories writes the root directory and lost+found.
func (w *extWriter) directories(l *extLayout) error {
	const directory, tail = 2, 12
	root := make([]byte, extBlock)
	extEntry(root, extRootInode, 12, directory, ".")
	extEntry(root[12:], extRootInode, 12, directory, "..")
	extEntry(root[24:], extLostInode, extBlock-tail-24, directory, "lost+found")
	w.sealDirectory(root, extRootInode)
	if err := w.write(l.root, root); err != nil {
		return err
	}
	lost := make([]byte, extLostBlocks*extBlock)
	extEntry(lost, extLostInode, 12, directory, ".")
	extEntry(lost[12:], extRootInode, extBlock-tail-12, directory, "..")
	for i := range extLostBlocks {
		b := lost[i*extBlock:][:extBlock]
		if i > 0 {
			extEntry(b, 0, extBlock-tail, 0, "")
		}
		w.sealDirectory(b, extLostInode)
	}
	return w.write(l.lost, lost)
}

// sealDirectory puts the checksum at the end of a directory's block, disguised as an entry.
func (w *extWriter) sealDirectory(b []byte, inode uint32) {
	tail := b[extBlock-12:]
	extEntry(tail, 0, 12, 0xde, "")
	binary.LittleEndian.PutUint32(tail[8:], extSum(w.inodeSeed(inode), b[:extBlock-12]))
}

// writeJournal zeroes the journal, if it is in this flexible group, and writes its extents and its superblock (struct journal_superblock_s,
// big-endian): version 2, empty.
func (w *extWriter) writeJournal(ctx context.Context, l *extLayout) error {
	if len(l.journal) == 0 {
		return nil
	}
	for _, r := range l.journal {
		if err := w.d.Zero(ctx, r.start*extBlock, r.length*extBlock); err != nil {
			return err
		}
	}
	if l.journalTree > 0 {
		tree := make([]byte, extBlock)
		extExtents(tree, (extBlock-12)/12, l.journal)
		binary.LittleEndian.PutUint32(tree[extBlock-4:], extSum(w.inodeSeed(extJournalInode), tree[:extBlock-4]))
		if err := w.write(l.journalTree, tree); err != nil {
			return err
		}
	}
	b := make([]byte, extBlock)
	for off, v := range map[int]uint32{
		0: 0xc03b3998, 4: 4 /* superblock, version 2 */, 12: extBlock, 16: uint32(w.journal), 20: 1 /* first block */, 24: 1 /* first transaction */, 64: 1, /* user */
	} {
		binary.BigEndian.PutUint32(b[off:], v)
	}
	return w.write(l.journal[0].start, b)
}
