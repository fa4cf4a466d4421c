package disk

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode/utf16"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/google/uuid"

	"swarmboot/imagefmt"
)

// Sizes of UEFI 2.10, section 5.3: an array of 128 entries of 128 bytes.
const (
	gptEntries   = 128
	gptArraySize = gptEntries * 128
	gptNameUnits = 36 // UTF-16 code units
)

// planGPT checks t and returns what writes it. go-diskfs writes headers and arrays, backup first, each synced;
// the protective MBR is ours, since go-diskfs lets its size wrap around beyond 2 TiB.
func planGPT(d *Device, t imagefmt.Table) (func() error, error) {
	boot, table, err := makeGPT(d, t)
	if err != nil {
		return nil, err
	}
	return func() error {
		if _, err := d.WriteAt(boot, 0); err != nil {
			return err
		}
		return table.Write(&gptFile{Device: d}, d.size)
	}, nil
}

// makeGPT checks t and returns sector 0 and the table for go-diskfs.
func makeGPT(d *Device, t imagefmt.Table) (boot []byte, table *gpt.Table, err error) {
	sector := int64(d.sector)
	reserved := int64(gptArraySize) + sector // at the end: array and header
	first := uint64(1 + reserved/sector)
	spans := make([]span, len(t.Partitions))
	table = &gpt.Table{LogicalSectorSize: d.sector, PhysicalSectorSize: d.sector, GUID: t.GUID}
	for i, p := range t.Partitions {
		s, err := sectors(d, p)
		if err != nil {
			return nil, nil, err
		}
		if s.first < first {
			return nil, nil, fmt.Errorf("partition %d begins at sector %d, inside the table (first usable: %d)", p.Number, s.first, first)
		}
		if end := p.Start + p.Length; end > d.size/sector*sector-reserved {
			return nil, nil, &TooSmallError{Device: d.path, Size: d.size, Need: end + reserved}
		}
		entry, err := gptEntry(p, s)
		if err != nil {
			return nil, nil, err
		}
		spans[i], table.Partitions = s, append(table.Partitions, entry)
	}
	if d.size < 2*reserved+sector {
		return nil, nil, &TooSmallError{Device: d.path, Size: d.size, Need: 2*reserved + sector}
	}
	if err := checkSpans(t.Partitions, spans); err != nil {
		return nil, nil, err
	}
	if _, err := uuid.Parse(t.GUID); t.GUID != "" && err != nil {
		return nil, nil, fmt.Errorf("disk GUID %.40q: %w", t.GUID, err)
	}
	boot, err = protectiveMBR(t, uint64(d.size/sector))
	return boot, table, err
}

func gptEntry(p imagefmt.Partition, s span) (*gpt.Partition, error) {
	switch _, err := uuid.Parse(p.UUID); {
	case p.Number < 1 || p.Number > gptEntries:
		return nil, fmt.Errorf("partition number %d: a table of more than %d entries is not supported", p.Number, gptEntries)
	case !typeGUID(p.Type) || uuid.Validate(p.Type) != nil:
		return nil, fmt.Errorf("partition %d: type %.40q is not a GUID", p.Number, p.Type)
	case p.UUID != "" && err != nil:
		return nil, fmt.Errorf("partition %d: UUID %.40q: %w", p.Number, p.UUID, err)
	case len(utf16.Encode([]rune(p.Label))) > gptNameUnits:
		return nil, fmt.Errorf("partition %d: the label is longer than %d UTF-16 units", p.Number, gptNameUnits)
	}
	return &gpt.Partition{
		Index: p.Number, Start: s.first, End: s.last,
		Type: gpt.Type(strings.ToUpper(p.Type)), GUID: p.UUID, Name: p.Label, Attributes: p.Attributes,
	}, nil
}

// protectiveMBR returns sector 0 of a GPT disk (UEFI 2.10, 5.2.3): the image's
// boot code and one partition over the whole disk, its size cut to 32 bits.
func protectiveMBR(t imagefmt.Table, diskSectors uint64) ([]byte, error) {
	b, err := bootSector(t)
	if err != nil {
		return nil, err
	}
	e := b[446:462]
	copy(e[1:], []byte{0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff})
	binary.LittleEndian.PutUint32(e[8:], 1)
	binary.LittleEndian.PutUint32(e[12:], uint32(min(diskSectors-1, 0xffffffff)))
	return b, nil
}

// gptFile makes a Device look like the file that go-diskfs writes to. It uses WriteAt and Sync only.
type gptFile struct{ *Device }

func (f *gptFile) Stat() (fs.FileInfo, error)     { return os.Stat(f.path) }
func (f *gptFile) Read([]byte) (int, error)       { return 0, io.EOF }
func (f *gptFile) Seek(int64, int) (int64, error) { return f.size, nil }
func (f *gptFile) Close() error                   { return nil }
