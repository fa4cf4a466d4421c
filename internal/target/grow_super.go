package target

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// superblock is what growing needs to know of a file system.
type superblock struct {
	kind      string // ext4 (also for ext2 and ext3), xfs or btrfs
	blockSize int64  // bytes
	blocks    int64  // the file system's size in blocks
	maxBlocks int64  // as large as this format can become; 0: as large as any disk
	slack     int64  // so many bytes at the end of a device the kernel may leave unused; for ext4 a group
	imaxPct   uint32 // XFS: percentage of space for inodes
	devID     uint64 // btrfs: number of this device
}

func (s superblock) size() int64 { return s.blockSize * s.blocks }

var errNoGrowth = errors.New("no file system that can be grown is in it (ext2, ext3, ext4, XFS, btrfs)")

// Where superblocks lie, and how much of them is read.
const (
	extOffset   = 1024
	btrfsOffset = 64 << 10
	superSize   = 1024
)

// CanGrow says why the file system at the start of r cannot be grown; nil: it can. Without reading all of it nobody can
// promise that growing will work.
func CanGrow(r io.ReaderAt) error {
	_, err := readSuperblock(r)
	return err
}

// readSuperblock finds the file system at the start of r.
func readSuperblock(r io.ReaderAt) (superblock, error) {
	head := make([]byte, extOffset+superSize)
	if err := readFull(r, head, 0); err != nil {
		return superblock{}, fmt.Errorf("read superblock: %w", err)
	}
	ext := head[extOffset:]
	switch {
	case ext[56] == 0x53 && ext[57] == 0xef:
		return extSuperblock(ext)
	case string(head[:4]) == "XFSB":
		return xfsSuperblock(head)
	}
	b, err := readBtrfs(r)
	switch {
	case err != nil:
		return superblock{}, fmt.Errorf("read superblock: %w", err)
	case b != nil:
		return btrfsSuperblock(b)
	}
	return superblock{}, errNoGrowth
}

// readBtrfs reads the beginning of a btrfs superblock; nil: there is none.
func readBtrfs(r io.ReaderAt) ([]byte, error) {
	b := make([]byte, superSize)
	if err := readFull(r, b, btrfsOffset); err != nil || string(b[64:72]) != "_BHRfS_M" {
		return nil, err
	}
	return b, nil
}

// readFull reads what there is; beyond the end b stays zero.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// Bits of an ext4 superblock (kernel documentation, "The Super Block").
const (
	extStateErrors       = 0x2
	extIncompatJournal   = 0x8 // a journal device, no file system
	extIncompat64Bit     = 0x80
	extCompatSparseSuper = 0x200 // sparse_super2
)

func extSuperblock(b []byte) (superblock, error) {
	le := binary.LittleEndian
	s := superblock{kind: "ext4", blocks: int64(le.Uint32(b[4:]))}
	incompat := le.Uint32(b[96:])
	wide := incompat&extIncompat64Bit != 0
	if wide {
		s.blocks |= int64(le.Uint32(b[336:])) << 32
	} else {
		s.maxBlocks = 1<<32 - 1
	}
	logSize, perGroup := le.Uint32(b[24:]), int64(le.Uint32(b[32:]))
	if logSize > 6 || perGroup == 0 || s.blocks <= 0 || s.blocks > 1<<62>>(10+logSize) {
		return superblock{}, errors.New("ext superblock: sizes that cannot be")
	}
	s.blockSize = 1024 << logSize
	s.slack = s.blockSize * perGroup
	switch {
	case incompat&extIncompatJournal != 0:
		return superblock{}, errNoGrowth
	case le.Uint16(b[58:])&extStateErrors != 0:
		return superblock{}, errors.New("the file system is marked as having errors")
	case le.Uint32(b[92:])&extCompatSparseSuper != 0:
		return superblock{}, errors.New("the kernel cannot grow a file system with the feature sparse_super2")
	}
	return s, nil
}

// xfsSuperblock reads xfs_dsb (XFS Algorithms & Data Structures, "Superblocks"); big-endian.
func xfsSuperblock(b []byte) (superblock, error) {
	be := binary.BigEndian
	s := superblock{kind: "xfs", blockSize: int64(be.Uint32(b[4:])), imaxPct: uint32(b[127])}
	blocks := be.Uint64(b[8:])
	if s.blockSize < 512 || s.blockSize > 64<<10 || s.blockSize&(s.blockSize-1) != 0 || blocks == 0 || blocks > 1<<62/uint64(s.blockSize) {
		return superblock{}, errors.New("XFS superblock: sizes that cannot be")
	}
	s.blocks = int64(blocks)
	s.slack = 64 * s.blockSize // XFS_MIN_AG_BLOCKS: a last allocation group smaller than this is not made
	return s, nil
}

// btrfsSuperblock reads struct btrfs_super_block (linux/btrfs_tree.h). A file system of several devices is no
// image of one disk.
func btrfsSuperblock(b []byte) (superblock, error) {
	le := binary.LittleEndian
	s := superblock{kind: "btrfs", blockSize: int64(le.Uint32(b[144:])), devID: le.Uint64(b[201:])}
	size, devices := le.Uint64(b[209:]), le.Uint64(b[136:])
	switch {
	case s.blockSize < 512 || s.blockSize > 64<<10 || size == 0 || size > 1<<62:
		return superblock{}, errors.New("btrfs superblock: sizes that cannot be")
	case devices != 1:
		return superblock{}, fmt.Errorf("the btrfs has %d devices", devices)
	}
	s.blocks = int64(size) / s.blockSize
	s.slack = s.blockSize
	return s, nil
}
