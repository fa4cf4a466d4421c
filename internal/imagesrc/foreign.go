package imagesrc

import (
	"encoding/binary"
	"io"
)

// signature is the mark of a format whose free space is not known here. Two marks in one partition mean that one
// of them is a left-over, and then neither is believed.
type signature struct {
	name  string
	off   int64
	magic string
}

// Offsets as in libblkid's probers.
var signatures = []signature{
	{"XFS", 0, "XFSB"},
	{"LUKS", 0, "LUKS\xba\xbe"},
	{"Btrfs", 65600, "_BHRfS_M"},
	{"F2FS", 1024, "\x10\x20\xf5\xf2"},
	{"NTFS", 3, "NTFS    "},
	{"exFAT", 3, "EXFAT   "},
	{"SquashFS", 0, "hsqs"},
	{"ISO 9660", 32769, "CD001"},
	{"bcache", 4120, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"},
	{"ReiserFS", 65588, "ReIsEr"},
	{"BitLocker", 3, "-FVE-FS-"},
	{"LVM", 0, "LABELONE"},
	{"LVM", 512, "LABELONE"},
	{"LVM", 1024, "LABELONE"},
	{"LVM", 1536, "LABELONE"},
	{"Linux RAID", 0, mdMagic},
	{"Linux RAID", 4096, mdMagic},
}

const mdMagic = "\xfc\x4e\x2b\xa9"

// foreign names the formats whose signatures are there. A read error counts as absence: the caller sees it.
func foreign(r io.ReaderAt, size int64) []string {
	// RAID metadata of version 0.90 and 1.0 stands near the end (Linux, md.c: calc_dev_sboffset and super_1_load).
	all := append(signatures[:len(signatures):len(signatures)],
		signature{"Linux RAID", size&^0xFFFF - 0x10000, mdMagic},
		signature{"Linux RAID", (size/512 - 16) &^ 7 * 512, mdMagic})
	var names []string
	for _, s := range all {
		b := make([]byte, len(s.magic))
		if s.off < 0 || s.off+int64(len(b)) > size {
			continue
		}
		if _, err := r.ReadAt(b, s.off); err == nil && string(b) == s.magic {
			names = append(names, s.name)
		}
	}
	if zfs(r) {
		names = append(names, "ZFS")
	}
	return names
}

// zfs looks for an uberblock in the first label of a vdev (ZFS on-disk specification, 1.2 and 1.3.2). The last two are left over
// where others have made their file systems since.
func zfs(r io.ReaderAt) bool {
	const ring, slot, magic = 128 << 10, 1024, 0x00bab10c
	b := make([]byte, ring)
	if _, err := r.ReadAt(b, ring); err != nil {
		return false
	}
	for ; len(b) > 0; b = b[slot:] {
		if binary.LittleEndian.Uint64(b) == magic || binary.BigEndian.Uint64(b) == magic {
			return true
		}
	}
	return false
}
