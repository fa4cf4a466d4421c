// Package extfs finds the used blocks of an ext2, ext3 or ext4 file system from its block bitmaps. The layout is
// that of the Linux kernel's Documentation/filesystems/ext4.
package extfs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"swarmboot/internal/imagesrc/volume"
)

// Read is a volume.Reader. It reads a group at a time; memory does not grow with the file system but for the list
// of extents, which a volume.Map bounds.
func Read(r io.ReaderAt, size int64) (*volume.Info, error) {
	s, err := readSuperblock(r, size)
	if err != nil {
		return nil, err
	}
	in := &volume.Info{FileSystem: s.name(), Label: cString(s.raw[120:136]), UUID: uuid(s.raw[104:120])}
	if in.Opaque = s.unknown(); in.Opaque != "" {
		in.Size = size
		return in, nil
	}
	if err := s.parseGeometry(size); err != nil {
		return nil, fmt.Errorf("%s: %w", in.FileSystem, err)
	}
	in.Size = int64(s.blocks) * s.blockSize
	if in.Dirty, err = s.dirty(); err != nil || in.Dirty != "" {
		return in, err
	}
	m := &volume.Map{}
	if in.Dirty, err = s.usedBlocks(m); err != nil {
		return nil, fmt.Errorf("%s: %w", in.FileSystem, err)
	}
	in.Extents = m.Extents(in.Size)
	if in.Dirty == "" {
		in.Top = s.topNames()
	}
	return in, nil
}

// name tells ext2, ext3 and ext4 apart by features, as libblkid does.
func (s *superblock) name() string {
	switch {
	case s.incompat&incompatJournalDev != 0:
		return ""
	case s.incompat&^ext3Incompat != 0 || s.ro&^ext3RO != 0:
		return "ext4"
	case s.compat&compatHasJournal != 0:
		return "ext3"
	}
	return "ext2"
}

// unknown names features that may change the meaning of the block bitmap, "" when there are none.
func (s *superblock) unknown() string {
	if s.incompat&incompatJournalDev != 0 {
		return "it is an external journal"
	}
	if s.u32(76) > 1 {
		return fmt.Sprintf("revision %d is not known", s.u32(76))
	}
	if s.incompat&^knownIncompat != 0 || s.ro&^knownRO != 0 {
		return fmt.Sprintf("features not known: incompat %#x, ro_compat %#x", s.incompat&^knownIncompat, s.ro&^knownRO)
	}
	return ""
}

// dirty says why the bitmaps may not be the last word, "" for a file system that was unmounted cleanly.
func (s *superblock) dirty() (string, error) {
	state := s.u16(58)
	switch {
	case !s.superSum():
		return "the superblock's checksum is wrong", nil
	case s.incompat&incompatRecover != 0:
		return "the journal needs recovery", nil
	case state&stateErrors != 0:
		return "the kernel recorded errors, run e2fsck", nil
	case state&stateClean == 0:
		return "it was not unmounted cleanly", nil
	case s.ro&roOrphanPresent != 0:
		return "deleted files wait to be cleaned up", nil
	case s.incompat&incompatMMP != 0:
		return s.multiMount()
	}
	return "", nil
}

// multiMount looks at the multiple mount protection block.
func (s *superblock) multiMount() (string, error) {
	const mmpMagic, seqClean, seqFsck = 0x004D4D50, 0xFF4D4D50, 0xE24D4D50
	block := binary.LittleEndian.Uint64(s.raw[360:])
	if block <= s.firstData || block >= s.blocks {
		return fmt.Sprintf("its multiple mount protection block is number %d of %d", block, s.blocks), nil
	}
	var b [8]byte
	if _, err := s.r.ReadAt(b[:], int64(block)*s.blockSize); err != nil {
		return "", fmt.Errorf("read multiple mount protection block: %w", err)
	}
	if binary.LittleEndian.Uint32(b[:]) != mmpMagic {
		return "its multiple mount protection block is damaged", nil
	}
	switch binary.LittleEndian.Uint32(b[4:]) {
	case seqClean:
		return "", nil
	case seqFsck:
		return "e2fsck is running on it (multiple mount protection)", nil
	}
	return "another machine has it mounted (multiple mount protection)", nil
}

func cString(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return strings.ToValidUTF8(string(b), "\uFFFD")
}

// uuid formats a UUID, "" for the nil one.
func uuid(b []byte) string {
	if bytes.Equal(b, make([]byte, 16)) {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
