package layout

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"swarmboot/imagefmt"
	"swarmboot/internal/disk"
	"swarmboot/internal/field"
)

// builder puts a plan together for the candidate that was taken.
type builder struct {
	k     *Candidate
	im    Image
	plan  *Plan
	first map[string]int // set → index of its first disk in the plan
	sets  []chosen
	parts map[int][]imagefmt.Partition // disk → its partitions, in the order of the set
	used  map[int]bool                 // partitions of the image that have a place
	whole bool                         // the image has a place as a whole
}

func (l *Layout) plan(inv []disk.Inventory, im Image) (*Plan, error) {
	if errs := l.Check(); len(errs) > 0 {
		return nil, fmt.Errorf("layout: %w", errs[0])
	}
	k, sets, reasons, err := l.choose(inv)
	if err != nil {
		return nil, err
	}
	b := &builder{k: k, im: im, sets: sets, first: map[string]int{}, used: map[int]bool{}, parts: map[int][]imagefmt.Partition{}, plan: &Plan{Candidate: k.Name, Reasons: reasons}}
	for _, step := range []func() error{b.shared, b.disks, b.raids, b.complete} {
		if err := step(); err != nil {
			return nil, inCandidate(k, err)
		}
	}
	if err := b.plan.Check(im.Manifest); err != nil {
		return nil, inCandidate(k, err)
	}
	return b.plan, nil
}

func inCandidate(k *Candidate, err error) error {
	var r *RefusedError
	if errors.As(err, &r) {
		r.Candidate = k.Name
		return err
	}
	return fmt.Errorf("candidate %q: %w", k.Name, err)
}

// shared refuses what Check could not see: {n} of some number, and sets that may be empty and are not.
func (b *builder) shared() (err error) {
	disks := func(s *DiskSet) int {
		return len(b.sets[slices.IndexFunc(b.sets, func(c chosen) bool { return c.set == s })].disks)
	}
	b.k.shared(disks, func(value string, path ...any) {
		err = &RefusedError{Reason: fmt.Sprintf("%s: %q: another place has this too", (&field.Error{Path: path}).Field(), value)}
	})
	return err
}

func (b *builder) disks() error {
	for _, c := range b.sets {
		b.first[c.set.Name] = len(b.plan.Disks)
		for n, d := range c.disks {
			if err := b.disk(c, n, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// disk plans the n-th disk of a set.
func (b *builder) disk(c chosen, n int, d disk.Inventory) error {
	s := c.set
	d.LogicalSector = sectorOf(d.Transport, d.LogicalSector, b.im.Manifest)
	if s.Scale != "" {
		return b.scaled(s, d)
	}
	index := len(b.plan.Disks)
	b.plan.Disks = append(b.plan.Disks, DiskPlan{Disk: d.Disk, Wipe: wipe(s), Table: imagefmt.Table{Kind: imagefmt.TableNone}, Stop: d.Arrays})
	p := &b.plan.Disks[index]
	if len(s.Partitions) == 0 {
		p.Lost = lost(d, nil)
		on := Ref{Disk: index, Array: -1}
		return b.fill(s.Fill, site{on: on, size: d.Size, sector: d.LogicalSector, kind: types["linux"], number: n + 1, several: len(c.disks) > 1,
			identity: identity(d.Disk) + "/" + s.Name, name: d.Path})
	}
	layout, err := b.table(s, n, d, len(c.disks) > 1)
	if err != nil {
		return err
	}
	b.parts[index] = slices.Clone(layout.table.Partitions)
	p.Table, p.Kept, p.Lost = layout.table, layout.kept, lost(d, layout.kept)
	for i := range s.Partitions {
		part := layout.table.Partitions[i]
		on := Ref{Disk: index, Array: -1, Partition: part.Number}
		if s.Partitions[i].Keep != "" && slices.Contains(layout.kept, part.Number) {
			b.mount(s.Partitions[i].Fill, on, n+1, part.FileSystem)
			continue
		}
		at := site{
			on: on, size: part.Length, sector: d.LogicalSector, kind: part.Type, number: n + 1, several: len(c.disks) > 1,
			identity: identity(d.Disk) + "/" + s.Name + "/" + s.Partitions[i].Name, name: fmt.Sprintf("%s, partition %q", d.Path, s.Partitions[i].Name),
		}
		if err := b.fill(s.Partitions[i].Fill, at); err != nil {
			return err
		}
	}
	slices.SortFunc(p.Table.Partitions, func(a, b imagefmt.Partition) int { return a.Number - b.Number })
	return nil
}

func wipe(s *DiskSet) disk.WipeMode {
	if s.Wipe == "" {
		return disk.WipeNone
	}
	return disk.WipeMode(s.Wipe)
}

// identity is what a disk is known by from one boot to the next.
func identity(d disk.Disk) string {
	switch {
	case d.WWN != "":
		return "wwn " + d.WWN
	case d.Serial != "":
		return "serial " + d.Model + " " + d.Serial
	}
	return fmt.Sprintf("path %s %d", d.Path, d.Size)
}

// space of names for the GUIDs that are made from what they are for: a plan that is made again is the same.
var space = uuid.MustParse("6f7d0f7a-9c5b-4a1e-8f3e-2d1a5b7c9e04")

func derived(what ...string) string {
	return uuid.NewSHA1(space, []byte(strings.Join(what, "\x00"))).String()
}

// lost lists what is on a disk and will not be.
func lost(d disk.Inventory, kept []int) []string {
	var list []string
	for _, p := range d.Table.Partitions {
		if slices.Contains(kept, p.Number) {
			continue
		}
		line := fmt.Sprintf("partition %d", p.Number)
		if p.Label != "" {
			line += fmt.Sprintf(" %q", p.Label)
		}
		line += ", " + disk.FormatSize(p.Length)
		if p.FileSystem != "" {
			line += ", " + p.FileSystem
		}
		if p.FSLabel != "" {
			line += fmt.Sprintf(" %q", p.FSLabel)
		}
		list = append(list, line)
	}
	for _, m := range d.Members {
		if !slices.Contains(kept, m.Partition) {
			list = append(list, fmt.Sprintf("array %s (level %d)", arrayName(m), m.Level))
		}
	}
	if len(list) == 0 {
		list = d.Found
	}
	return slices.Compact(slices.Clone(list))
}

// layoutOf is the table of one disk: the partitions of the set, in the order of the set, with those that are kept.
type layoutOf struct {
	table imagefmt.Table
	kept  []int
}

// table divides a disk.
func (b *builder) table(s *DiskSet, n int, d disk.Inventory, several bool) (*layoutOf, error) {
	old, err := keptPartitions(s, d)
	if err != nil {
		return nil, err
	}
	places, wants, err := b.places(s, d, old)
	if err != nil {
		return nil, err
	}
	numbers, err := number(s, old, d.Path)
	if err != nil {
		return nil, err
	}
	out := &layoutOf{table: imagefmt.Table{Kind: imagefmt.TableGPT, GUID: strings.ToUpper(derived("disk", identity(d.Disk)))}}
	for i := range s.Partitions {
		if o, ok := old[i]; ok {
			out.table.Partitions = append(out.table.Partitions, o)
			out.kept = append(out.kept, o.Number)
			continue
		}
		part := b.partition(&s.Partitions[i], identity(d.Disk)+"/"+s.Name, n+1, several)
		part.Number, part.Start, part.Length = numbers[i], places[i].Off, places[i].Len
		out.table.Partitions = append(out.table.Partitions, part)
	}
	b.distinct(out, identity(d.Disk))
	out.table.BootCode = b.bootCode(s, wants)
	return out, nil
}

// places finds room for the partitions of a set on a disk that keeps those in old.
func (b *builder) places(s *DiskSet, d disk.Inventory, old map[int]imagefmt.Partition) ([]imagefmt.Extent, []want, error) {
	var wants []want
	var taken []imagefmt.Extent
	for i := range s.Partitions {
		p := &s.Partitions[i]
		w, err := b.want(p, d.Disk)
		if o, ok := old[i]; ok {
			w, err = want{name: p.Name, pinned: true, start: o.Start, length: o.Length}, nil
		}
		if err != nil {
			return nil, nil, err
		}
		for _, other := range wants {
			if w.pinned && other.pinned && w.start < other.start+other.length && other.start < w.start+w.length {
				return nil, nil, &RefusedError{Device: d.Path, Reason: fmt.Sprintf("partitions %q and %q cannot be moved, and overlap", other.name, w.name)}
			}
		}
		if w.pinned {
			taken = append(taken, imagefmt.Extent{Off: w.start, Len: w.length})
		}
		wants = append(wants, w)
	}
	r, err := newRoom(d.Disk, d.LogicalSector, taken)
	if err != nil {
		return nil, nil, err
	}
	for i := range wants {
		if percent := mustSize(s.Partitions[i].Size).percent; percent > 0 && !wants[i].pinned {
			wants[i].length = max(alignDown(percentOf(r.hi-r.lo, percent), r.align), r.align)
		}
	}
	places, err := r.place(wants)
	return places, wants, err
}

func mustSize(s string) partitionSize {
	size, err := parsePartitionSize(s)
	if err != nil {
		return partitionSize{} // Check has refused it
	}
	return size
}

// want says how large a partition is to be, and whether it can only be where the image has it.
func (b *builder) want(p *Partition, d disk.Disk) (want, error) {
	size := mustSize(p.Size)
	w := want{name: p.Name, length: size.bytes, rest: size.rest}
	if p.Image == "" {
		return w, nil
	}
	src, err := b.source(p.Image)
	if err != nil {
		return w, err
	}
	if p.Size == "" {
		if src.Source.Len == 0 {
			return w, &RefusedError{Reason: fmt.Sprintf("partition %q is as large as the image's, which is not known here: name an image, or a size", p.Name)}
		}
		w.length = src.Source.Len
	}
	if kind := b.kindOf(p); kind == types["bios"] && src.Source.Len > 0 {
		// The boot code names the first sector of GRUB's core, and that the sectors of the rest.
		if d.LogicalSector != b.im.Manifest.SectorSize {
			return w, &RefusedError{Device: d.Path, Reason: fmt.Sprintf("it has logical sectors of %d bytes; the boot code of the image counts in sectors of %d",
				d.LogicalSector, b.im.Manifest.SectorSize)}
		}
		w = want{name: p.Name, pinned: true, start: src.Source.Off, length: src.Source.Len}
	}
	return w, nil
}

// bootCode is the image's where its BIOS boot partition is on the disk.
func (b *builder) bootCode(s *DiskSet, wants []want) []byte {
	for i := range wants {
		if wants[i].pinned && s.Partitions[i].Image != "" && b.im.Manifest != nil && b.im.Manifest.Table.Kind == imagefmt.TableGPT {
			return b.im.Manifest.Table.BootCode
		}
	}
	return nil
}
