package extfs

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"

	"swarmboot/internal/imagesrc/volume"
)

const (
	superblockOff  = 1024
	superblockSize = 1024
	magic          = 0xEF53
)

// Feature bits (Linux kernel, Documentation/filesystems/ext4/super.rst).
const (
	compatHasJournal   = 0x4
	compatSparseSuper2 = 0x200

	incompatRecover    = 0x4
	incompatJournalDev = 0x8
	incompatMetaBG     = 0x10
	incompat64Bit      = 0x80
	incompatMMP        = 0x100
	incompatCsumSeed   = 0x2000

	roSparseSuper   = 0x1
	roGDTChecksum   = 0x10
	roBigalloc      = 0x200
	roMetadataCsum  = 0x400
	roOrphanPresent = 0x10000

	// What this package knows. A bit that is not here may change what the block bitmap means.
	knownIncompat = 0x2 | incompatRecover | incompatMetaBG | 0x40 /* extents */ | incompat64Bit | incompatMMP |
		0x200 /* flex_bg */ | 0x400 /* ea_inode */ | 0x1000 /* dirdata */ | incompatCsumSeed | 0x4000 /* largedir */ |
		0x8000 /* inline_data */ | 0x10000 /* encrypt */ | 0x20000 /* casefold */
	knownRO = roSparseSuper | 0x2 /* large_file */ | 0x4 /* btree_dir */ | 0x8 /* huge_file */ | roGDTChecksum |
		0x20 /* dir_nlink */ | 0x40 /* extra_isize */ | 0x100 /* quota */ | roBigalloc | roMetadataCsum |
		0x1000 /* readonly */ | 0x2000 /* project */ | 0x4000 /* shared_blocks */ | 0x8000 /* verity */ | roOrphanPresent

	// Beyond these a file system is ext4 (the same rule as libblkid).
	ext3Incompat = 0x2 | incompatRecover | incompatMetaBG
	ext3RO       = roSparseSuper | 0x2 | 0x4
)

// Bits of s_state.
const (
	stateClean  = 1
	stateErrors = 2
)

// superblock holds the fields that the block map depends on. Block numbers count file system blocks.
type superblock struct {
	raw       []byte
	r         io.ReaderAt
	blockSize int64
	blocks    uint64 // in the whole file system
	firstData uint64 // first_data_block: 1 with 1 KiB blocks, 0 otherwise and always with bigalloc
	perGroup  uint64 // blocks in a group
	ratio     uint64 // blocks in a cluster: 1 without bigalloc
	groups    uint64
	descSize  int64
	itable    uint64 // blocks of one group's inode table

	compat, incompat, ro uint32
	reservedGDT          uint64
	firstMetaBG          uint64
	backupGroups         [2]uint64 // sparse_super2
	seed                 uint32    // of metadata checksums
}

func (s *superblock) u16(off int) uint16 { return binary.LittleEndian.Uint16(s.raw[off:]) }
func (s *superblock) u32(off int) uint32 { return binary.LittleEndian.Uint32(s.raw[off:]) }

// readSuperblock reads and checks the primary superblock of a file system in size bytes.
func readSuperblock(r io.ReaderAt, size int64) (*superblock, error) {
	if size < superblockOff+superblockSize {
		return nil, volume.ErrNotRecognised
	}
	s := &superblock{raw: make([]byte, superblockSize), r: r}
	if _, err := r.ReadAt(s.raw, superblockOff); err != nil {
		return nil, fmt.Errorf("read superblock: %w", err)
	}
	if s.u16(56) != magic {
		return nil, volume.ErrNotRecognised
	}
	if s.u32(76) > 0 { // dynamic revision: only there do features mean anything
		s.compat, s.incompat, s.ro = s.u32(92), s.u32(96), s.u32(100)
	}
	return s, nil
}

// parseGeometry fills in the geometry; every value is bounded by size before anything depends on it.
func (s *superblock) parseGeometry(size int64) error {
	logBlock := s.u32(24)
	if logBlock > 6 {
		return fmt.Errorf("superblock: block size 2^%d KiB", logBlock)
	}
	s.blockSize = 1024 << logBlock
	s.blocks = uint64(s.u32(4))
	if s.incompat&incompat64Bit != 0 {
		s.blocks |= uint64(s.u32(336)) << 32
	}
	if limit := uint64(size / s.blockSize); s.blocks > limit {
		return fmt.Errorf("superblock: %d blocks of %d bytes, but only %d fit: the disk or file is cut short",
			s.blocks, s.blockSize, limit)
	}
	s.firstData = uint64(s.u32(20))
	if s.firstData > 1 || s.firstData >= s.blocks || (s.firstData == 1) && s.blockSize != 1024 {
		return fmt.Errorf("superblock: first data block %d of %d", s.firstData, s.blocks)
	}
	if err := s.parseGroups(); err != nil {
		return err
	}
	if err := s.parseDescriptors(); err != nil {
		return err
	}
	return s.parseInodeTable()
}

func (s *superblock) parseGroups() error {
	s.ratio = 1
	s.perGroup = uint64(s.u32(32))
	clusters := s.perGroup
	if s.ro&roBigalloc != 0 {
		logCluster := s.u32(28)
		if logCluster < s.u32(24) || logCluster > 20 {
			return fmt.Errorf("superblock: cluster size 2^%d KiB", logCluster)
		}
		s.ratio = 1 << (logCluster - s.u32(24))
		clusters = uint64(s.u32(36))
	}
	if clusters < 8 || clusters%8 != 0 || clusters > uint64(s.blockSize)*8 || s.perGroup != clusters*s.ratio {
		return fmt.Errorf("superblock: groups of %d blocks, %d clusters", s.perGroup, clusters)
	}
	s.groups = (s.blocks - s.firstData + s.perGroup - 1) / s.perGroup
	return nil
}

func (s *superblock) parseDescriptors() error {
	s.descSize = 32
	if s.incompat&incompat64Bit != 0 {
		s.descSize = int64(s.u16(254))
		if s.descSize < 64 || s.descSize > 1024 || bits.OnesCount64(uint64(s.descSize)) != 1 {
			return fmt.Errorf("superblock: group descriptors of %d bytes", s.descSize)
		}
	}
	s.reservedGDT = uint64(s.u16(206))
	s.firstMetaBG = uint64(s.u32(260))
	s.backupGroups = [2]uint64{uint64(s.u32(588)), uint64(s.u32(592))}
	if blocks := s.descBlocks(); blocks >= s.blocks || s.metaBG() && s.firstMetaBG > blocks {
		return fmt.Errorf("superblock: %d groups need %d descriptor blocks, first meta group %d", s.groups, blocks, s.firstMetaBG)
	}
	return nil
}

func (s *superblock) parseInodeTable() error {
	inodeSize := uint64(128)
	if s.u32(76) > 0 {
		inodeSize = uint64(s.u16(88))
	}
	if inodeSize < 128 || inodeSize > uint64(s.blockSize) || bits.OnesCount64(inodeSize) != 1 {
		return fmt.Errorf("superblock: inodes of %d bytes", inodeSize)
	}
	inodes := uint64(s.u32(40))
	if inodes == 0 || inodes > uint64(s.blockSize)*8 {
		return fmt.Errorf("superblock: %d inodes in a group", inodes)
	}
	s.itable = (inodes*inodeSize + uint64(s.blockSize) - 1) / uint64(s.blockSize)
	return nil
}

func (s *superblock) metaBG() bool      { return s.incompat&incompatMetaBG != 0 }
func (s *superblock) hasGroupSum() bool { return s.ro&(roGDTChecksum|roMetadataCsum) != 0 }

// descPerBlock is how many group descriptors one block holds.
func (s *superblock) descPerBlock() uint64 { return uint64(s.blockSize / s.descSize) }

// descBlocks is how many blocks all group descriptors take.
func (s *superblock) descBlocks() uint64 {
	return (s.groups + s.descPerBlock() - 1) / s.descPerBlock()
}

// groupStart is the first block of a group.
func (s *superblock) groupStart(group uint64) uint64 { return group*s.perGroup + s.firstData }

// groupEnd is the block after the last one of a group.
func (s *superblock) groupEnd(group uint64) uint64 {
	return min(s.groupStart(group)+s.perGroup, s.blocks)
}

// hasSuper says whether a group starts with a copy of the superblock and the descriptors.
func (s *superblock) hasSuper(group uint64) bool {
	if group == 0 {
		return true
	}
	if s.compat&compatSparseSuper2 != 0 {
		return group == s.backupGroups[0] || group == s.backupGroups[1]
	}
	if group == 1 || s.ro&roSparseSuper == 0 {
		return true
	}
	return isPower(group, 3) || isPower(group, 5) || isPower(group, 7)
}

func isPower(n, base uint64) bool {
	for n%base == 0 {
		n /= base
	}
	return n == 1
}

// descLocation is the block that holds block number n of the group descriptors (kernel: descriptor_loc).
func (s *superblock) descLocation(n uint64) uint64 {
	superBlock := uint64(superblockOff / s.blockSize) // 1 with 1 KiB blocks, else 0
	if !s.metaBG() || n < s.firstMetaBG {
		return superBlock + 1 + n
	}
	group := n * s.descPerBlock()
	loc := s.groupStart(group)
	if s.hasSuper(group) {
		loc++
	}
	if s.blockSize == 1024 && n == 0 && s.firstData == 0 { // bigalloc: block 0 is the boot block here
		loc++
	}
	return loc
}

// baseBlocks is how many blocks at the start of a group hold superblock and descriptors, the reserve for growth
// included (kernel: ext4_num_base_meta_blocks).
func (s *superblock) baseBlocks(group uint64) uint64 {
	perBlock := s.descPerBlock()
	var super uint64
	if s.hasSuper(group) {
		super = 1
	}
	if !s.metaBG() || group < s.firstMetaBG*perBlock {
		if super == 0 {
			return 0
		}
		if s.metaBG() {
			return super + s.firstMetaBG + s.reservedGDT
		}
		return super + s.descBlocks() + s.reservedGDT
	}
	if at := group % perBlock; at == 0 || at == 1 || at == perBlock-1 {
		return super + 1
	}
	return super
}
