package layout

import (
	"fmt"
	"slices"

	"swarmboot/internal/md"
)

const (
	mib = 1 << 20
	gib = 1 << 30

	defaultChunk = 512 << 10
	// bitmapFrom is the size of a member from which on an array has a bitmap unless the layout says otherwise, as mdadm does it.
	bitmapFrom = 100 * gib
)

// level is what a RAID level asks for.
type level struct{ members int } // at least

var levels = map[int]level{0: {2}, 1: {2}, 4: {3}, 5: {3}, 6: {4}, 10: {2}}

// raids plans the arrays.
func (b *builder) raids() error {
	for i := range b.k.Raid {
		if err := b.raid(&b.k.Raid[i]); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) raid(r *Raid) error {
	set, part := b.k.find(r.Of)
	c := b.sets[slices.IndexFunc(b.sets, func(c chosen) bool { return c.set == set })]
	a := ArrayPlan{Name: r.Name, Level: r.Level, Metadata: or(r.Metadata, "1.2"), Recreate: r.Recreate || set.Recreate}
	if r.Level != 1 {
		if a.Chunk = defaultChunk; r.Chunk != "" {
			a.Chunk, _ = parseSize(r.Chunk) // Check has read it
		}
	}
	if err := b.starts(r, part, &a); err != nil {
		return err
	}
	refs, sizes, sector := b.members(c, part)
	members := len(refs) - r.Spares
	if least := levels[r.Level].members; members < least {
		return &RefusedError{Reason: fmt.Sprintf("array %q: %d disks, %d of them spares: level %d needs %d", r.Name, len(refs), r.Spares, r.Level, least)}
	}
	a.Members, a.Spares = refs[:members:members], refs[members:]
	a.Bitmap = r.Level != 0 && slices.Min(sizes) >= bitmapFrom
	if r.Bitmap != nil {
		a.Bitmap = *r.Bitmap
	}
	g, err := md.Shape{Level: a.Level, Metadata: a.Metadata, Chunk: a.Chunk, Bitmap: a.Bitmap}.Geometry(sizes[:members], sizes[members:])
	if err != nil {
		return &RefusedError{Reason: fmt.Sprintf("array %q: %v", r.Name, err)}
	}
	a.Size = g.Size
	on := Ref{Disk: -1, Array: len(b.plan.Arrays)}
	b.plan.Arrays = append(b.plan.Arrays, a)
	return b.fill(r.Fill, site{on: on, size: a.Size, sector: sector, number: 1, identity: "array/" + r.Name + "/" + identity(c.disks[0].Disk), name: fmt.Sprintf("array %q", r.Name)})
}

// starts refuses an array of what firmware reads, unless its members look to firmware as the image's partition does.
func (b *builder) starts(r *Raid, part *Partition, a *ArrayPlan) error {
	kind, members := b.imageKind(r.Image), ""
	if part != nil {
		members, _ = typeGUID(part.Type)
	}
	switch {
	case !readByFirmware(kind):
		return nil
	case kind == types["bios"]:
		return &RefusedError{Reason: fmt.Sprintf("array %q: image: %s: the boot code looks for it at its place on a disk, and knows nothing of arrays", r.Name, r.Image)}
	case members != kind || a.Level != 1 || a.Metadata != "1.0":
		return &RefusedError{Reason: fmt.Sprintf("array %q: firmware reads image: %s only where the members are partitions with type: %s, in level 1 with metadata \"1.0\"",
			r.Name, r.Image, typeName(kind))}
	}
	return nil
}

// members returns the disks of a set, or one partition of each, with their sizes and the largest of their logical sectors.
func (b *builder) members(c chosen, part *Partition) (refs []Ref, sizes []int64, sector int) {
	for n, d := range c.disks {
		ref, size := Ref{Disk: b.first[c.set.Name] + n, Array: -1}, d.Size
		if part != nil {
			i := slices.IndexFunc(c.set.Partitions, func(p Partition) bool { return p.Name == part.Name })
			p := b.parts[ref.Disk][i]
			ref.Partition, size = p.Number, p.Length
		}
		refs, sizes, sector = append(refs, ref), append(sizes, size), max(sector, d.LogicalSector)
	}
	return refs, sizes, sector
}

func alignUp(n, unit int64) int64   { return (n + unit - 1) / unit * unit }
func alignDown(n, unit int64) int64 { return n / unit * unit }
