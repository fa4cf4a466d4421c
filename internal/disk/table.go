package disk

import (
	"fmt"
	"strings"

	"swarmboot/imagefmt"
)

// WriteTable writes the partition table t, made for the device's size: a GPT with its backup in the
// last sectors of the device, or an MBR. Nothing is written for a bare file
// system. Everything is checked first, so that an error that is not an *IOError leaves the device as it was.
// Call CheckTable before on a regular file: it takes its sector size from there.
//
// Logical partitions of an MBR: their boot records lie outside sector 0 and travel in the payload.
func WriteTable(d *Device, t imagefmt.Table) error {
	write, err := planTable(d, t)
	if err != nil {
		return fmt.Errorf("partition table: %w", err)
	}
	if err := write(); err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	d.table = t
	return d.Sync()
}

// planTable checks t against the device and returns what writes it.
func planTable(d *Device, t imagefmt.Table) (write func() error, err error) {
	switch t.Kind {
	case imagefmt.TableGPT:
		return planGPT(d, t)
	case imagefmt.TableMBR:
		return planMBR(d, t)
	case imagefmt.TableNone:
		return func() error { return nil }, nil
	}
	return nil, fmt.Errorf("unknown kind %q", t.Kind)
}

// span is a partition in sectors: first and last.
type span struct{ first, last uint64 }

// sectors turns a partition's bytes into sectors of the device and checks them against its bounds.
func sectors(d *Device, p imagefmt.Partition) (span, error) {
	size := int64(d.sector)
	switch {
	case p.Start < 0 || p.Length <= 0 || p.Start > 1<<62 || p.Length > 1<<62:
		return span{}, fmt.Errorf("partition %d: start %d, length %d", p.Number, p.Start, p.Length)
	case p.Start%size != 0 || p.Length%size != 0:
		return span{}, fmt.Errorf("partition %d: start %d or length %d is not a multiple of the sector size %d", p.Number, p.Start, p.Length, size)
	case p.Start+p.Length > d.size:
		return span{}, &TooSmallError{Device: d.path, Size: d.size, Need: p.Start + p.Length}
	}
	return span{uint64(p.Start / size), uint64((p.Start+p.Length)/size - 1)}, nil
}

// checkSpans refuses partitions that share a number or a sector.
func checkSpans(parts []imagefmt.Partition, spans []span) error {
	for i := range parts {
		for j := range i {
			if parts[i].Number == parts[j].Number {
				return fmt.Errorf("partition %d is there twice", parts[i].Number)
			}
			if spans[i].first <= spans[j].last && spans[j].first <= spans[i].last {
				return fmt.Errorf("partitions %d and %d overlap", parts[j].Number, parts[i].Number)
			}
		}
	}
	return nil
}

// bootSector returns sector 0 with the image's boot code and the boot signature.
func bootSector(t imagefmt.Table) ([]byte, error) {
	if len(t.BootCode) > 440 {
		return nil, fmt.Errorf("boot code of %d bytes, 440 is all there is room for", len(t.BootCode))
	}
	b := make([]byte, 512)
	copy(b, t.BootCode)
	b[510], b[511] = 0x55, 0xaa
	return b, nil
}

// typeGUID says whether s is a GUID other than the one that marks an unused entry.
func typeGUID(s string) bool {
	return len(s) == 36 && strings.Trim(s, "0-") != ""
}
