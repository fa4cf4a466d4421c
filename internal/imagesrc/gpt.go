package imagesrc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"swarmboot/imagefmt"
	"swarmboot/internal/imagesrc/volume"
)

const (
	gptMagic     = "EFI PART"
	gptEntrySize = 128
	maxGPTEntry  = 4096 // entries in an array: 512 KiB

	gptEntries    = 128                       // in the arrays of a target: the usual ones, and the least that UEFI asks for
	gptArrayBytes = gptEntries * gptEntrySize // of a target
)

// gptHeader is the part of a GPT header (UEFI 2.10, 5.3.2) that says where things are.
type gptHeader struct {
	at, alternate, array int64 // LBA
	arrayBytes           int64
	arrayCRC             uint32
}

// findGPT returns the sector size that a GPT on the disk was made for, 0 when there is none. The copy at the end
// counts only where the first sector says that there is a GPT: left-overs are common there.
func (d *disk) findGPT(protective bool) int {
	sizes := []int{512, 4096}
	if d.sector == 4096 {
		sizes = []int{4096, 512}
	}
	for _, s := range sizes {
		if d.hasGPTMagic(int64(s)) {
			return s
		}
	}
	for _, s := range sizes {
		if protective && d.hasGPTMagic((d.size/int64(s)-1)*int64(s)) {
			return s
		}
	}
	return 0
}

func (d *disk) hasGPTMagic(off int64) bool {
	b := make([]byte, len(gptMagic))
	if off < 0 || off+int64(len(b)) > d.size {
		return false
	}
	_, err := d.r.ReadAt(b, off)
	return err == nil && string(b) == gptMagic
}

// readGPTHeader reads the header in a sector and bounds what go-diskfs would believe: it allocates and reads what
// the header asks for before it looks at the checksum of the array.
func (d *disk) readGPTHeader(lba int64) (*gptHeader, error) {
	sector := int64(d.sector)
	b := make([]byte, 92)
	if lba < 1 || lba > d.size/sector-1 {
		return nil, fmt.Errorf("LBA %d is outside the disk", lba)
	}
	if _, err := d.r.ReadAt(b, lba*sector); err != nil {
		return nil, fmt.Errorf("read LBA %d: %w", lba, err)
	}
	entries, entrySize := int64(binary.LittleEndian.Uint32(b[80:])), binary.LittleEndian.Uint32(b[84:])
	array := binary.LittleEndian.Uint64(b[72:])
	h := &gptHeader{
		at: int64(binary.LittleEndian.Uint64(b[24:])), alternate: int64(binary.LittleEndian.Uint64(b[32:])),
		array: int64(array), arrayBytes: entries * gptEntrySize, arrayCRC: binary.LittleEndian.Uint32(b[88:]),
	}
	crc := binary.LittleEndian.Uint32(b[16:])
	clear(b[16:20]) // it counts as zero
	switch {
	case string(b[:8]) != gptMagic:
		return nil, errors.New("no signature")
	case crc32.ChecksumIEEE(b) != crc:
		return nil, errors.New("its checksum is wrong")
	case h.at != lba:
		return nil, fmt.Errorf("it calls itself LBA %d but is at %d", h.at, lba)
	case entrySize != gptEntrySize:
		return nil, fmt.Errorf("entries of %d bytes are not supported", entrySize)
	case entries == 0 || entries > maxGPTEntry:
		return nil, fmt.Errorf("an array of %d entries", entries)
	case array < 2 || array > uint64(d.size/sector) || h.array*sector > d.size-h.arrayBytes:
		return nil, fmt.Errorf("its array at LBA %d is outside the disk", array)
	}
	return h, nil
}

// readGPT reads the table with go-diskfs: the first copy, or the one at the end of the disk when that is damaged.
func (d *disk) readGPT(boot []byte, sector int) error {
	if d.device && d.sector != sector {
		d.note("the partition table was made for sectors of %d bytes, the device has %d", sector, d.sector)
	}
	d.sector = sector
	file := &gptFile{SectionReader: io.NewSectionReader(d.r, 0, d.size)}
	last := d.size/int64(sector) - 1
	primary, primaryErr := d.readGPTHeader(1)
	if primaryErr != nil {
		// go-diskfs must not follow this header, so it is shown as blank, which makes it turn to the backup.
		file.hideFrom, file.hideTo = int64(sector), 2*int64(sector)
		if _, err := d.readGPTHeader(last); err != nil {
			return fmt.Errorf("GPT: the header at LBA 1: %w; the backup at LBA %d: %w", primaryErr, last, err)
		}
	} else if _, err := d.readGPTHeader(last); err != nil {
		// A damaged or misplaced backup must not be followed either.
		file.blankFrom = last * int64(sector)
	}
	t, err := gpt.Read(file, sector, sector)
	if err != nil {
		return fmt.Errorf("GPT: %w", err)
	}
	d.table = imagefmt.Table{Kind: imagefmt.TableGPT, GUID: t.GUID, BootCode: bootCode(boot)}
	d.reserve(0, 2)
	if t.RecoveredFromBackup {
		d.note("the GPT at the start of the disk is damaged: the backup at its end was read")
		d.reserveBackup(last)
	} else {
		d.reserve(primary.array, (primary.arrayBytes+int64(sector)-1)/int64(sector))
		if !d.reserveBackup(primary.alternate) || primary.alternate != last {
			d.note("the backup GPT is damaged or not at the end of the disk; a target gets a new one")
		}
	}
	return d.gptPartitions(t)
}

func (d *disk) reserve(lba, sectors int64) {
	off, end := max(lba, 0)*int64(d.sector), min((lba+sectors)*int64(d.sector), d.size)
	if off < end {
		d.reserved = append(d.reserved, imagefmt.Extent{Off: off, Len: end - off})
	}
}

// reserveBackup keeps the backup GPT, which has its array right in front of the header, out of the data, if it is whole: of a header
// that is a left-over nothing says that what it calls its array is one.
func (d *disk) reserveBackup(lba int64) bool {
	h, err := d.readGPTHeader(lba)
	if err != nil || h.alternate != 1 {
		return false
	}
	sectors := (h.arrayBytes + int64(d.sector) - 1) / int64(d.sector)
	array := make([]byte, h.arrayBytes)
	if _, err := d.r.ReadAt(array, h.array*int64(d.sector)); err != nil || h.array+sectors != lba || crc32.ChecksumIEEE(array) != h.arrayCRC {
		return false
	}
	d.reserve(h.array, sectors+1)
	return true
}

func (d *disk) gptPartitions(t *gpt.Table) error {
	sector := uint64(d.sector)
	limit := uint64(d.size) / sector
	for _, p := range t.Partitions {
		if p.Start > p.End || p.End >= limit {
			return fmt.Errorf("partition %d lies at LBA %d to %d, the disk has %d: the disk or file is cut short, or the table is damaged",
				p.Index, p.Start, p.End, limit)
		}
		label := printable(p.Name)
		if label != p.Name {
			d.note("partition %d: its label has characters that cannot be kept", p.Index)
		}
		d.table.Partitions = append(d.table.Partitions, imagefmt.Partition{
			Number: p.Index, Start: int64(p.Start * sector), Length: int64((p.End - p.Start + 1) * sector),
			Type: string(p.Type), UUID: p.GUID, Label: label, Attributes: p.Attributes,
		})
	}
	if err := d.checkPartitions(d.table.Partitions); err != nil {
		return err
	}
	for _, p := range d.table.Partitions {
		if len(volume.Clip(volume.Merge(d.reserved, 0), p.Start, p.Start+p.Length)) > 0 {
			return fmt.Errorf("partition %d overlaps the GPT itself", p.Number)
		}
	}
	return d.reserveTarget()
}

// reserveTarget keeps free what the GPT of a target takes, whose arrays have 128 entries whatever those of this disk have. It refuses
// partitions for which that leaves no entry or no place.
func (d *disk) reserveTarget() error {
	sector, array := int64(d.sector), int64(gptArrayBytes/d.sector)
	first, end := 2+array, d.size/sector-1-array
	for _, p := range d.table.Partitions {
		switch {
		case p.Number > gptEntries:
			return fmt.Errorf("partition number %d: a target gets a GPT of %d entries", p.Number, gptEntries)
		case p.Start < first*sector || p.Start+p.Length > end*sector:
			return fmt.Errorf("partition %d lies at LBA %d to %d: on a target the GPT leaves %d to %d of as many, its arrays have %d entries",
				p.Number, p.Start/sector, (p.Start+p.Length)/sector-1, first, end-1, gptEntries)
		}
	}
	d.reserve(0, first)
	d.reserve(end, array+2) // and what is no whole sector
	return nil
}

// gptFile makes a disk look like the file that go-diskfs wants, with a damaged header made blank.
type gptFile struct {
	*io.SectionReader
	hideFrom, hideTo int64
	blankFrom        int64 // 0: nothing
}

func (f *gptFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.SectionReader.ReadAt(p, off)
	blank := func(from, to int64) {
		if from, to = max(from-off, 0), min(to-off, int64(n)); from < to {
			clear(p[from:to])
		}
	}
	blank(f.hideFrom, f.hideTo)
	if f.blankFrom > 0 {
		blank(f.blankFrom, f.Size())
	}
	return n, err
}

func (f *gptFile) Stat() (fs.FileInfo, error) { return nil, errors.ErrUnsupported }
func (f *gptFile) Close() error               { return nil }
