package layout

import (
	"cmp"
	"fmt"
	"slices"

	"swarmboot/imagefmt"
	"swarmboot/internal/disk"
)

// Check holds the plan against what must be true of every plan, however it was made: partitions are whole sectors inside
// their disk and share none, no two contents share a byte, nothing of the image is cut off, every Ref leads somewhere. A
// plan that comes from elsewhere is to be checked before it is carried out. m may be nil.
func (p *Plan) Check(m *imagefmt.Manifest) error {
	for i := range p.Disks {
		if err := p.Disks[i].check(); err != nil {
			return fmt.Errorf("plan: %s: %w", p.Disks[i].Disk.Path, err)
		}
	}
	users := map[Ref]int{}
	for _, a := range p.Arrays {
		for _, ref := range slices.Concat(a.Members, a.Spares) {
			if _, err := p.size(ref); err != nil || ref.Array >= 0 {
				return fmt.Errorf("plan: array %q: no such member: %+v", a.Name, ref)
			}
			if users[ref]++; users[ref] > 1 {
				return fmt.Errorf("plan: array %q: %+v is a member already", a.Name, ref)
			}
		}
	}
	return p.checkContents(m, users)
}

func (d *DiskPlan) check() error {
	if d.Table.Kind == imagefmt.TableNone {
		return nil
	}
	sector := int64(d.Disk.LogicalSector)
	first, end := disk.Usable(d.Table.Kind, d.Disk.Size, d.Disk.LogicalSector)
	parts := slices.Clone(d.Table.Partitions)
	slices.SortFunc(parts, func(a, b imagefmt.Partition) int { return cmp.Compare(a.Start, b.Start) })
	seen, at := map[int]bool{}, first
	for _, p := range parts {
		switch {
		case p.Number < 1 || p.Number > max(maxNumber, imagefmt.MaxPartitions) || seen[p.Number]:
			return fmt.Errorf("partition number %d", p.Number)
		case p.Start < first || p.Length <= 0 || p.Start > end || p.Length > end-p.Start:
			return fmt.Errorf("partition %d: bytes %d+%d of %d to %d", p.Number, p.Start, p.Length, first, end)
		case p.Start%sector != 0 || p.Length%sector != 0:
			return fmt.Errorf("partition %d: bytes %d+%d are not whole sectors", p.Number, p.Start, p.Length)
		}
		seen[p.Number] = true
		if p.Extended() {
			continue
		}
		if p.Start < at {
			return fmt.Errorf("partition %d begins at byte %d, and another ends at %d", p.Number, p.Start, at)
		}
		at = p.Start + p.Length
	}
	for _, n := range d.Kept {
		if !seen[n] {
			return fmt.Errorf("partition %d is kept, but not in the table", n)
		}
	}
	return nil
}

// size is how many bytes a place has.
func (p *Plan) size(ref Ref) (int64, error) {
	switch {
	case ref.Disk < 0 && ref.Array >= 0 && ref.Array < len(p.Arrays) && ref.Partition == 0:
		return p.Arrays[ref.Array].Size, nil
	case ref.Array >= 0 || ref.Disk < 0 || ref.Disk >= len(p.Disks):
	case ref.Partition == 0:
		return p.Disks[ref.Disk].Disk.Size, nil
	default:
		if part, ok := numbered(p.Disks[ref.Disk].Table, ref.Partition); ok {
			return part.Length, nil
		}
	}
	return 0, fmt.Errorf("no such place: %+v", ref)
}

// checkContents checks that contents lie in their places and share no byte, with members of arrays and partitions that are kept
// neither.
func (p *Plan) checkContents(m *imagefmt.Manifest, members map[Ref]int) error {
	spans := map[int][]imagefmt.Extent{} // by disk
	arrays := map[int]bool{}
	for ref := range members {
		spans[ref.Disk] = append(spans[ref.Disk], p.span(ref, 0, -1))
	}
	for i, d := range p.Disks {
		for _, n := range d.Kept {
			spans[i] = append(spans[i], p.span(Ref{Disk: i, Array: -1, Partition: n}, 0, -1))
		}
	}
	for _, c := range p.Contents {
		size, err := p.size(c.On)
		switch {
		case err != nil:
			return fmt.Errorf("plan: content: %w", err)
		case c.Offset < 0 || c.Source.Len < 0 || c.Offset > size || c.Source.Len > size-c.Offset:
			return fmt.Errorf("plan: %d bytes at %d do not fit into %+v of %d", c.Source.Len, c.Offset, c.On, size)
		case c.Source.Len > 0 && m != nil && (c.Source.Off < 0 || c.Source.Len > m.DiskSize || c.Source.Off > m.DiskSize-c.Source.Len):
			return fmt.Errorf("plan: bytes %d+%d are not of the image", c.Source.Off, c.Source.Len)
		case c.On.Array >= 0 && arrays[c.On.Array]:
			return fmt.Errorf("plan: array %q has two contents", p.Arrays[c.On.Array].Name)
		case c.On.Array >= 0:
			arrays[c.On.Array] = true
			continue
		}
		n := int64(-1)
		if c.On.Partition == 0 && c.Source.Len > 0 {
			n = c.Source.Len
		}
		spans[c.On.Disk] = append(spans[c.On.Disk], p.span(c.On, c.Offset, n))
	}
	for i, list := range spans {
		slices.SortFunc(list, func(a, b imagefmt.Extent) int { return cmp.Compare(a.Off, b.Off) })
		for j := 1; j < len(list); j++ {
			if list[j].Off < list[j-1].End() {
				return fmt.Errorf("plan: %s: byte %d would be used twice", p.Disks[i].Disk.Path, list[j].Off)
			}
		}
	}
	return nil
}

// span is where n bytes of a place lie on their disk; n < 0 means all of the place.
func (p *Plan) span(ref Ref, off, n int64) imagefmt.Extent {
	d := p.Disks[ref.Disk]
	start, size := int64(0), d.Disk.Size
	if part, ok := numbered(d.Table, ref.Partition); ok {
		start, size = part.Start, part.Length
	}
	if n < 0 {
		n = size - off
	}
	return imagefmt.Extent{Off: start + off, Len: n}
}
