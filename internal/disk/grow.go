package disk

import (
	"errors"
	"fmt"
	"strings"

	"swarmboot/imagefmt"
)

const (
	growAlign = 1 << 20 // bytes: where a grown partition ends, as sfdisk and parted would have it

	// mbrSectors is where an MBR's 32-bit numbers end: 2 TiB with sectors of 512 bytes.
	mbrSectors = 1<<32 - 1

	// gptReadOnly is attribute bit 60 of the Discoverable Partitions Specification; such a
	// partition may have a hash tree (dm-verity) somewhere that a change would break.
	gptReadOnly = 1 << 60
)

// Types of partitions that hold the parts of something else, which keeps its own size in them.
var memberTypes = map[string]string{
	"A19D880F-05FC-4D3B-A006-743F0F84911E": "RAID",
	"E6D6D379-F507-44C2-A23C-238F2A3DF928": "LVM",
	"0XFD":                                 "RAID",
	"0X8E":                                 "LVM",
}

// IsBlock says whether the device is a block device, not a file that stands for one.
func (d *Device) IsBlock() bool { return d.block }

// Space is the disk that a table goes to and the one that it comes from.
type Space struct {
	Disk   int64 // size in bytes
	Image  int64 // size in bytes of the disk that the image was made from
	Sector int   // logical, in bytes
}

// Grow returns the table with its last partition enlarged into the rest of a disk that is larger than the image's,
// to a multiple of 1 MiB and leaving room for the backup GPT, and that partition. It reads and writes
// nothing and leaves t as it is. canGrow says why what is in a partition cannot become larger, nil if it can. For a table of kind
// none the partition has the number 0 and is the whole disk.
//
// The error says why nothing was grown; the table returned beside it is t.
func Grow(t imagefmt.Table, s Space, canGrow func(imagefmt.Partition) error) (imagefmt.Table, imagefmt.Partition, error) {
	no := func(err error) (imagefmt.Table, imagefmt.Partition, error) { return t, imagefmt.Partition{}, err }
	if s.Disk <= s.Image {
		return no(errors.New("the disk is not larger than the image's"))
	}
	if t.Kind == imagefmt.TableNone {
		whole := imagefmt.Partition{Length: s.Disk}
		if err := canGrow(whole); err != nil {
			return no(err)
		}
		return t, whole, nil
	}
	last := lastPartition(t)
	if last < 0 {
		return no(errors.New("the image has no partitions"))
	}
	p := t.Partitions[last]
	if err := growable(t, p); err != nil {
		return no(fmt.Errorf("partition %d: %w", p.Number, err))
	}
	end := growEnd(t.Kind, s)
	if end <= p.Start+p.Length {
		return no(fmt.Errorf("partition %d: there is no room behind it", p.Number))
	}
	if err := canGrow(p); err != nil {
		return no(fmt.Errorf("partition %d: %w", p.Number, err))
	}
	p.Length = end - p.Start
	grown := t
	grown.Partitions = append([]imagefmt.Partition(nil), t.Partitions...)
	grown.Partitions[last] = p
	return grown, p, nil
}

// lastPartition returns the index of the partition that ends last on the disk, -1 if there is none.
func lastPartition(t imagefmt.Table) int {
	last := -1
	for i, p := range t.Partitions {
		if last < 0 || p.Start+p.Length > t.Partitions[last].Start+t.Partitions[last].Length {
			last = i
		}
	}
	return last
}

// growable returns why a partition must keep its size whatever is in it.
func growable(t imagefmt.Table, p imagefmt.Partition) error {
	if what := memberTypes[strings.ToUpper(p.Type)]; what != "" {
		return fmt.Errorf("it is a part of %s", what)
	}
	if t.Kind == imagefmt.TableMBR && (p.Number > 4 || p.Extended()) {
		return errors.New("logical partitions are not grown")
	}
	if t.Kind == imagefmt.TableGPT && p.Attributes&gptReadOnly != 0 {
		return errors.New("it is marked read-only")
	}
	return nil
}

// growEnd is where the last partition may end at most, in bytes.
func growEnd(kind string, s Space) int64 {
	_, end := Usable(kind, s.Disk, s.Sector)
	return end / growAlign * growAlign
}

// Usable returns where the first partition may begin and the last one may end on a disk of size bytes with logical sectors
// of sector bytes, for a table of a kind: between the two copies of a GPT, or what an MBR can describe. The
// end is not above the start when the disk is too small for a table.
func Usable(kind string, size int64, sector int) (first, end int64) {
	unit := int64(sector)
	end = size / unit * unit
	switch kind {
	case imagefmt.TableGPT:
		return gptArraySize + 2*unit, end - gptArraySize - unit
	case imagefmt.TableMBR:
		return unit, min(end, mbrSectors*unit)
	}
	return 0, end
}
