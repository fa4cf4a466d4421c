// Package imagesrc reads the disk that an image is made from: a raw file or a block device, partitioned or a bare
// file system. It tells which bytes are used, from the file systems' own maps (ext2/3/4 block bitmaps, FAT tables,
// the header of Linux swap), also in linear LVM volumes, and the partition table in the manifest's form. What it does not understand is used
// as a whole, and is named in Notes.
package imagesrc

import (
	"fmt"
	"os"

	"swarmboot/imagefmt"
)

// Options of Open.
type Options struct {
	// Force reads a disk that is in use or whose file systems are dirty. The partitions that are dirty are then
	// copied as a whole, since the journal may still claim blocks that the bitmap calls free. It also takes a file that looks like the
	// container of a disk (qcow2 and the like) for a raw disk.
	Force bool
	// AllBlocks copies everything: no file system is looked into for free blocks.
	AllBlocks bool
	// Progress, unless nil, is told of the search for data where no file system accounts for the bytes: how many were looked at of how
	// many that are known to be left to it; these become more.
	Progress func(done, total int64)
}

// Source is an open disk. It is an imagefmt.Source.
type Source struct {
	f       *os.File
	size    int64
	sector  int
	table   imagefmt.Table
	extents []imagefmt.Extent
	logical []LogicalVolume
	foreign map[int]string
	top     map[int][]string
	notes   []string
}

var _ imagefmt.Source = (*Source)(nil)

// ReadAt reads from the disk; errors name the file and the offset.
func (s *Source) ReadAt(p []byte, off int64) (int, error) { return s.f.ReadAt(p, off) }

// Size is the disk's size in bytes.
func (s *Source) Size() int64 { return s.size }

// Extents are the used bytes: sorted, disjoint, inside Size. The structures of a GPT, and sector 0 of an MBR disk,
// are not among them: they travel in Table. All else that is used is.
func (s *Source) Extents() []imagefmt.Extent { return s.extents }

// SectorSize is the logical sector size in bytes, 512 or 4096.
func (s *Source) SectorSize() int { return s.sector }

// Table is the partition table. For a bare file system its Kind is imagefmt.TableNone and it has no partitions. MBR logical partitions have numbers from 5 on and lie inside an extended one (type 0x05, 0x0f
// or 0x85), which is listed too; their EBRs are in Extents.
func (s *Source) Table() imagefmt.Table { return s.table }

// LogicalVolumes are the linear LVM volumes of the disk, for its groups that are not copied as a whole.
func (s *Source) LogicalVolumes() []LogicalVolume { return s.logical }

// Foreign names, by partition number, the formats whose free space is not known here: XFS, Btrfs, LUKS and so on.
func (s *Source) Foreign() map[int]string { return s.foreign }

// Top lists, by partition number, the names in the root directories of those file systems that could be looked into.
func (s *Source) Top() map[int][]string { return s.top }

// Notes says, a line each, what was not understood and so copied as a whole, or repaired on the fly.
func (s *Source) Notes() []string { return s.notes }

// Close closes the file.
func (s *Source) Close() error { return s.f.Close() }

// MountedError says that the disk or a part of it is in use.
type MountedError struct {
	Path string // what Open was asked for
	Use  string // who uses it: "/dev/sda1 is mounted on /boot"
}

func (e *MountedError) Error() string { return fmt.Sprintf("%s is in use: %s", e.Path, e.Use) }

// DirtyError says that a file system needs its journal replayed, a check, or an unmount elsewhere.
type DirtyError struct {
	Path       string
	Partition  int    // 0: the whole disk is the file system
	FileSystem string // ext4, vfat, ...
	Reason     string
}

func (e *DirtyError) Error() string {
	return fmt.Sprintf("%s: %s: %s is dirty: %s", e.Path, partitionName(e.Partition), e.FileSystem, e.Reason)
}

func partitionName(number int) string {
	if number == 0 {
		return "the whole disk"
	}
	return fmt.Sprintf("partition %d", number)
}
