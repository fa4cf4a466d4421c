package layout

import (
	"fmt"

	"swarmboot/imagefmt"
	"swarmboot/internal/disk"
)

// keptPartitions returns the partitions of the old table that stay, by their index in the set. One that must be kept and cannot
// be is an error: nothing is written then.
func keptPartitions(s *DiskSet, d disk.Inventory) (map[int]imagefmt.Partition, error) {
	kept := map[int]imagefmt.Partition{}
	refuse := func(p *Partition, format string, args ...any) error {
		return &RefusedError{Device: d.Path, Reason: fmt.Sprintf("partition %q is to be kept, but ", p.Name) + fmt.Sprintf(format, args...)}
	}
	for i := range s.Partitions {
		p := &s.Partitions[i]
		if p.Keep == "" {
			continue
		}
		if d.TableError != "" {
			return nil, refuse(p, "the partition table cannot be trusted: %s", d.TableError)
		}
		var found []imagefmt.Partition
		for _, old := range d.Table.Partitions {
			if p.means(old) {
				found = append(found, old)
			}
		}
		switch {
		case len(found) == 0 && p.Keep == KeepOrCreate:
			continue
		case len(found) == 0:
			return nil, refuse(p, "the disk has no partition %s; keep: or-create would make it", p.wantedOld())
		case len(found) > 1:
			return nil, refuse(p, "the disk has %d partitions %s", len(found), p.wantedOld())
		}
		if err := usable(found[0], d); err != nil {
			return nil, refuse(p, "%v", err)
		}
		for _, other := range kept {
			if other.Number == found[0].Number {
				return nil, refuse(p, "partition %d is meant by another entry too", other.Number)
			}
		}
		kept[i] = found[0]
	}
	return kept, nil
}

func (p *Partition) wantedOld() string {
	switch {
	case p.Number > 0 && p.Label == "":
		return fmt.Sprintf("with the number %d", p.Number)
	case p.Number > 0:
		return fmt.Sprintf("with the number %d and the label %q", p.Number, p.label())
	}
	return fmt.Sprintf("with the label %q", p.label())
}

// usable says why an old partition cannot stay where it is in the table that will be written.
func usable(p imagefmt.Partition, d disk.Inventory) error {
	if d.Table.Kind != imagefmt.TableGPT {
		return fmt.Errorf("the disk has a table of kind %s: only partitions of a GPT are kept", d.Table.Kind)
	}
	sector := int64(d.LogicalSector)
	if d.TableSector != 0 && d.TableSector != d.LogicalSector {
		return fmt.Errorf("the table was made for sectors of %d bytes, the disk has %d", d.TableSector, d.LogicalSector)
	}
	first, end := disk.Usable(imagefmt.TableGPT, d.Size, d.LogicalSector)
	switch {
	case p.Number < 1 || p.Number > maxNumber:
		return fmt.Errorf("it has the number %d: %d is the most", p.Number, maxNumber)
	case p.Start < first || p.Length <= 0 || p.Start > end || p.Length > end-p.Start:
		return fmt.Errorf("it lies at bytes %d to %d, and the new table leaves %d to %d", p.Start, p.Start+p.Length, first, end)
	case p.Start%sector != 0 || p.Length%sector != 0:
		return fmt.Errorf("it does not consist of whole sectors of %d bytes", sector)
	}
	for _, other := range d.Table.Partitions {
		if other.Number != p.Number && other.Start < p.Start+p.Length && p.Start < other.Start+other.Length {
			return fmt.Errorf("it overlaps partition %d in the table that is there", other.Number)
		}
	}
	return nil
}
