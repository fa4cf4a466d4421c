package target

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// Ext4 describes an empty ext4.
type Ext4 struct {
	Label string    // up to 16 bytes
	UUID  [16]byte  // all zero: a random one
	Time  time.Time // of its creation; zero: now
}

// Blank is a device, or a part of one, whose content does not matter any more. Offsets are bytes from its start.
type Blank interface {
	io.WriterAt
	Zero(ctx context.Context, off, n int64) error
}

// Sizes of the ext4 that MakeExt4 makes. Bytes and blocks of 4 KiB.
const (
	extBlock       = 4096
	extGroup       = 8 * extBlock // blocks in a group: as many as a bitmap has bits
	extInode       = 256          // bytes
	extFirstInode  = 11
	extDesc        = 64 // bytes
	extMinSize     = 64 << 20
	extMaxSize     = 200 << 40 // its group descriptors fill most of a group
	extMinFlex     = 16        // groups whose bitmaps and inode tables lie together, as mke2fs has it
	extMaxFlexes   = 1024      // not more of those: each costs a disk a seek
	extSpareBlocks = 50        // in a last group that is worth having
)

// MakeExt4 makes the first size bytes of d an empty ext4, of 64 MiB to 200 TiB, with a journal and checksums, as mke2fs does with
// -E lazy_itable_init=1: the kernel zeroes the inode tables while it is in use. What is written is the descriptors of
// the groups, 52 MB for 100 TB and 28 copies of that, the bitmaps of groups that are not empty, and zeros where the journal is
// (1 GiB at most). Bitmaps and inode tables lie together for more groups than with mke2fs, so that a hard disk has few
// seeks to do. It has an inode for each 16 KiB, 32 from 4 TiB, 64 from 16 TiB, and no blocks reserved for root. The
// superblock comes last: what was interrupted is no file system.
func MakeExt4(ctx context.Context, d Blank, size int64, e Ext4) error {
	if err := makeExt4(ctx, d, size, e); err != nil {
		return fmt.Errorf("make ext4: %w", err)
	}
	return nil
}

func makeExt4(ctx context.Context, d Blank, size int64, e Ext4) error {
	g, err := e.plan(size)
	if err != nil {
		return err
	}
	if e.UUID == [16]byte{} {
		e.UUID = randomUUID()
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if err := zeroEdges(ctx, d, size); err != nil {
		return err
	}
	w := newExtWriter(g, d, e)
	for flex := range g.flexes() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := w.flexGroup(ctx, flex); err != nil {
			return err
		}
	}
	if err := w.flushDescriptors(); err != nil {
		return err
	}
	return w.supers()
}

// plan checks everything.
func (e Ext4) plan(size int64) (*extGeometry, error) {
	if len(e.Label) > 16 || strings.ContainsRune(e.Label, 0) {
		return nil, fmt.Errorf("label %.40q: want 16 bytes at most", e.Label)
	}
	return newExtGeometry(size)
}

// extGeometry is how an ext4 lies on its device. Lengths are blocks unless they say otherwise.
type extGeometry struct {
	blocks      int64
	groups      int64
	groupInodes int64 // inodes in a group
	table       int64 // a group's inode table
	descBlocks  int64 // the descriptors of all groups
	flex        int64 // groups in a flexible group: a power of two
	flexBits    int
	journal     int64
}

func newExtGeometry(size int64) (*extGeometry, error) {
	if size < extMinSize || size > extMaxSize {
		return nil, fmt.Errorf("%d bytes: want %d to %d (XFS can be larger)", size, int64(extMinSize), int64(extMaxSize))
	}
	ratio := int64(16 << 10)
	if size >= 16<<40 {
		ratio = 64 << 10
	} else if size >= 4<<40 {
		ratio = 32 << 10
	}
	g := &extGeometry{blocks: size / extBlock, groupInodes: extGroup * extBlock / ratio, flex: extMinFlex, flexBits: 4}
	g.table = g.groupInodes * extInode / extBlock
	g.count()
	if rest := g.blocks % extGroup; g.groups > 1 && rest > 0 && rest < g.base(g.groups-1)+g.table+2+extSpareBlocks {
		g.blocks -= rest
		g.count()
	}
	for g.flexes() > extMaxFlexes {
		g.flex, g.flexBits = 2*g.flex, g.flexBits+1
	}
	g.journal = extJournalSize(g.blocks)
	return g, nil
}

func (g *extGeometry) count() {
	g.groups = (g.blocks + extGroup - 1) / extGroup
	g.descBlocks = (g.groups*extDesc + extBlock - 1) / extBlock
}

func (g *extGeometry) flexes() int64 { return (g.groups + g.flex - 1) / g.flex }

// extJournalSize is ext2fs_default_journal_size of e2fsprogs 1.47, in blocks.
func extJournalSize(blocks int64) int64 {
	for _, s := range []struct{ below, journal int64 }{
		{32 << 10, 1 << 10}, {256 << 10, 4 << 10}, {512 << 10, 8 << 10}, {4 << 20, 16 << 10}, {8 << 20, 32 << 10}, {16 << 20, 64 << 10}, {32 << 20, 128 << 10},
	} {
		if blocks < s.below {
			return s.journal
		}
	}
	return 256 << 10
}

// hasSuper says whether a group begins with a copy of superblock and descriptors: feature sparse_super.
func (g *extGeometry) hasSuper(group int64) bool {
	if group <= 1 {
		return true
	}
	for _, base := range []int64{3, 5, 7} {
		n := base
		for n < group {
			n *= base
		}
		if n == group {
			return true
		}
	}
	return false
}

// base is how many blocks at the start of a group hold superblock and descriptors.
func (g *extGeometry) base(group int64) int64 {
	if g.hasSuper(group) {
		return 1 + g.descBlocks
	}
	return 0
}

// length is how many blocks a group has.
func (g *extGeometry) length(group int64) int64 { return min(extGroup, g.blocks-group*extGroup) }
