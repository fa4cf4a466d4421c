package extfs

import "encoding/binary"

// maxTop is how many blocks of a root directory are read: a system's has one.
const maxTop = 64

// topNames lists what is in the root directory, inode 2. It is nil where the directory is long, kept in another way than in blocks that the
// inode itself lists, or damaged.
func (s *superblock) topNames() []string {
	inodeSize := int64(128)
	if s.u32(76) > 0 {
		inodeSize = int64(s.u16(88))
	}
	desc, inode := make([]byte, s.descSize), make([]byte, 128)
	if _, err := s.r.ReadAt(desc, int64(s.descLocation(0))*s.blockSize); err != nil {
		return nil
	}
	if _, err := s.r.ReadAt(inode, int64(s.parseGroup(0, desc).inodeTable)*s.blockSize+inodeSize); err != nil {
		return nil
	}
	names, b := []string{}, make([]byte, s.blockSize)
	blocks := s.topBlocks(inode)
	if blocks == nil {
		return nil
	}
	for _, block := range blocks {
		if block == 0 || block >= s.blocks {
			return nil
		}
		if _, err := s.r.ReadAt(b, int64(block)*s.blockSize); err != nil {
			return nil
		}
		more, ok := entryNames(b)
		if !ok {
			return nil
		}
		names = append(names, more...)
	}
	return names
}

// topBlocks lists the blocks of a directory (ext4: ext4_inode, ext4_extent).
func (s *superblock) topBlocks(inode []byte) []uint64 {
	const typeMask, directory, encrypted, extents, inline = 0xF000, 0x4000, 0x800, 0x80000, 0x10000000
	u16, u32 := binary.LittleEndian.Uint16, binary.LittleEndian.Uint32
	flags, count := u32(inode[32:]), int64(u32(inode[4:]))/s.blockSize
	if u16(inode)&typeMask != directory || flags&(encrypted|inline) != 0 || count == 0 || count > maxTop {
		return nil
	}
	var list []uint64
	root := inode[40:100]
	if flags&extents == 0 {
		for i := range min(count, 12) {
			list = append(list, uint64(u32(root[4*i:])))
		}
	} else {
		const magic, most = 0xF30A, 4
		if u16(root) != magic || u16(root[2:]) > most || u16(root[6:]) != 0 { // deeper: the inode has no room for all
			return nil
		}
		for i := range u16(root[2:]) {
			e := root[12+12*i:]
			first := uint64(u16(e[6:]))<<32 | uint64(u32(e[8:]))
			for n := range min(uint64(u16(e[4:])), maxTop) {
				list = append(list, first+n)
			}
		}
	}
	if int64(len(list)) < count {
		return nil
	}
	return list[:count]
}

// entryNames reads a block of a directory (ext4_dir_entry_2); the blocks of a hash tree look like entries without an inode.
func entryNames(b []byte) (names []string, ok bool) {
	for len(b) >= 8 {
		length, n := int(binary.LittleEndian.Uint16(b[4:])), int(b[6])
		if length == 0 || length == 1<<16-1 { // 64 KiB
			length = len(b)
		}
		if length < 8 || length > len(b) || 8+n > length {
			return nil, false
		}
		if name := string(b[8 : 8+n]); binary.LittleEndian.Uint32(b) != 0 && name != "." && name != ".." {
			names = append(names, name)
		}
		b = b[length:]
	}
	return names, true
}
