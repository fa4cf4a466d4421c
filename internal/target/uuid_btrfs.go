package target

import (
	"encoding/binary"
	"fmt"
)

// Of the btrfs superblock, little-endian (kernel, include/uapi/linux/btrfs_tree.h, struct btrfs_super_block). The checksum covers all
// of its 4096 bytes behind the 32 that are kept for it.
const (
	btrfsSuperSize   = 4096
	btrfsFSIDOff     = 32
	btrfsFlagsOff    = 56
	btrfsLogRootOff  = 96
	btrfsDevicesOff  = 136
	btrfsIncompatOff = 188
	btrfsSumTypeOff  = 196
	btrfsMetaUUIDOff = 571
	btrfsMetaUUID    = 1 << 10                               // incompat: metadata bear the UUID of before
	btrfsOddFlags    = 1<<32 | 1<<33 | 1<<34 | 1<<35 | 1<<36 // a seed, a dump, or in the middle of such a change
)

// btrfsCopies are where superblocks stand, as far as the file system reaches.
var btrfsCopies = []int64{64 << 10, 64 << 20, 256 << 30}

// changeBtrfs does what btrfstune -M does: the superblocks get the new UUID and remember the old one, which all other metadata bear
// (feature metadata_uuid, Linux 5.0). The first superblock comes last.
func changeBtrfs(d device, id [16]byte) (Identifier, error) {
	kept := func(format string, args ...any) (Identifier, error) {
		return Identifier{}, &KeptError{"btrfs", fmt.Sprintf(format, args...)}
	}
	le := binary.LittleEndian
	first := make([]byte, btrfsSuperSize)
	if err := readFull(d, first, btrfsCopies[0]); err != nil {
		return Identifier{}, err
	}
	ch := Identifier{"btrfs", formatUUID(first[btrfsFSIDOff:][:16]), FormatUUID(id)}
	switch {
	case ch.Old == ch.New:
		return ch, nil
	case le.Uint16(first[btrfsSumTypeOff:]) != 0:
		return kept("its checksums are not CRC-32C")
	case le.Uint32(first) != ^crc32c(^uint32(0), first[32:]):
		return kept("the checksum of its superblock is wrong")
	case le.Uint64(first[btrfsDevicesOff:]) != 1:
		return kept("it consists of several devices")
	case le.Uint64(first[btrfsFlagsOff:])&btrfsOddFlags != 0:
		return kept("it is the seed of others, or not whole (flags %#x)", le.Uint64(first[btrfsFlagsOff:]))
	case le.Uint64(first[btrfsLogRootOff:]) != 0:
		return kept("its log is to be replayed first: it was not unmounted")
	}
	size := int64(le.Uint64(first[112:]))
	for i := len(btrfsCopies) - 1; i >= 0; i-- {
		at, b := btrfsCopies[i], make([]byte, btrfsSuperSize)
		if at > size-btrfsSuperSize {
			continue
		}
		if err := readFull(d, b, at); err != nil {
			return ch, err
		}
		if string(b[64:72]) != "_BHRfS_M" || [16]byte(b[btrfsFSIDOff:]) != [16]byte(first[btrfsFSIDOff:]) || int64(le.Uint64(b[48:])) != at {
			continue // not one of this file system
		}
		if flags := le.Uint64(b[btrfsIncompatOff:]); flags&btrfsMetaUUID == 0 {
			le.PutUint64(b[btrfsIncompatOff:], flags|btrfsMetaUUID)
			copy(b[btrfsMetaUUIDOff:], first[btrfsFSIDOff:][:16])
		}
		copy(b[btrfsFSIDOff:], id[:])
		le.PutUint32(b, ^crc32c(^uint32(0), b[32:]))
		if _, err := d.WriteAt(b, at); err != nil {
			return ch, err
		}
	}
	return ch, nil
}
