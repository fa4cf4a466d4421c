package layout

import (
	"fmt"
	"strings"

	"swarmboot/imagefmt"
)

// convertible says why a partition of the image cannot be used on a disk with logical sectors of another size. FAT can: its files
// are put into a new one. ext2/3/4 of blocks of 4096 bytes, btrfs and swap do not know about sectors; XFS has the
// size in its superblock, and works on smaller ones.
func convertible(m *imagefmt.Manifest, p imagefmt.Partition, sector int) error {
	if sector == m.SectorSize {
		return nil
	}
	from := fmt.Sprintf("the image was made from a disk with sectors of %d bytes, here they have %d: ", m.SectorSize, sector)
	switch {
	case strings.EqualFold(p.Type, types["bios"]):
		return fmt.Errorf("%sthe boot code counts in sectors", from)
	case p.UsedBytes == 0 && p.FileSystem == "":
		return nil
	case sector < m.SectorSize && p.FileSystem != "":
		return nil
	}
	switch p.FileSystem {
	case "ext2", "ext3", "ext4", "btrfs", "swap", "vfat":
		return nil
	case "":
		return fmt.Errorf("%sit is not known whether what is in partition %d depends on that", from, p.Number)
	}
	return fmt.Errorf("%sthe %s in partition %d depends on that", from, p.FileSystem, p.Number)
}

// sectorOf is the logical sector size that a disk will have: a regular file has none of its own and takes the image's.
func sectorOf(transport string, sector int, m *imagefmt.Manifest) int {
	if transport == "file" && m != nil {
		return m.SectorSize
	}
	return sector
}
