package layout

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"swarmboot/imagefmt"
	"swarmboot/internal/disk"
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
	for _, step := range []func() error{b.disks, b.raids, b.complete} {
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
	return slices.Compact(list)
}

// layoutOf is the table of one disk: the partitions of the set, in the order of the set, with those that are kept.
type layoutOf struct {
	table imagefmt.Table
	kept  []int
}

// table divides a disk.
func (b *builder) table(s *DiskSet, n int, d disk.Inventory, several bool) (*layoutOf, error) {
	sector := d.LogicalSector
	old, err := keptPartitions(s, d)
	if err != nil {
		return nil, err
	}
	wants := make([]want, 0, len(s.Partitions))
	var taken []imagefmt.Extent
	for i := range s.Partitions {
		p := &s.Partitions[i]
		if o, ok := old[i]; ok {
			wants = append(wants, want{name: p.Name, pinned: true, start: o.Start, length: o.Length})
		} else {
			w, err := b.want(s, p, d.Disk)
			if err != nil {
				return nil, err
			}
			wants = append(wants, w)
		}
		if w := wants[i]; w.pinned {
			taken = append(taken, imagefmt.Extent{Off: w.start, Len: w.length})
		}
	}
	r, err := newRoom(d.Disk, sector, taken)
	if err != nil {
		return nil, err
	}
	for i := range wants {
		if percent := mustSize(s.Partitions[i].Size).percent; percent > 0 && !wants[i].pinned {
			wants[i].length = max(alignDown(percentOf(r.hi-r.lo, percent), r.align), r.align)
		}
	}
	places, err := r.place(wants)
	if err != nil {
		return nil, err
	}
	out := &layoutOf{table: imagefmt.Table{Kind: imagefmt.TableGPT, GUID: strings.ToUpper(derived("disk", identity(d.Disk)))}}
	numbers, err := number(s, old, d.Path)
	if err != nil {
		return nil, err
	}
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

func mustSize(s string) partitionSize {
	size, err := parsePartitionSize(s)
	if err != nil {
		return partitionSize{} // Check has refused it
	}
	return size
}

// want says how large a partition is to be, and whether it can only be where the image has it.
func (b *builder) want(s *DiskSet, p *Partition, d disk.Disk) (want, error) {
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

// number numbers the partitions of a set: those that are kept as they were, those that have a number, and the others in
// order with what is free.
func number(s *DiskSet, old map[int]imagefmt.Partition, path string) ([]int, error) {
	used := map[int]string{}
	numbers := make([]int, len(s.Partitions))
	claim := func(i, n int) error {
		if other, ok := used[n]; ok {
			return &RefusedError{Device: path, Reason: fmt.Sprintf("partitions %q and %q would both have the number %d", other, s.Partitions[i].Name, n)}
		}
		numbers[i], used[n] = n, s.Partitions[i].Name
		return nil
	}
	for i := range s.Partitions {
		if o, ok := old[i]; ok {
			if err := claim(i, o.Number); err != nil {
				return nil, err
			}
		}
	}
	for i := range s.Partitions {
		if n := s.Partitions[i].Number; n > 0 && numbers[i] == 0 {
			if err := claim(i, n); err != nil {
				return nil, err
			}
		}
	}
	next := 1
	for i := range s.Partitions {
		if numbers[i] != 0 {
			continue
		}
		for used[next] != "" {
			next++
		}
		numbers[i], used[next] = next, s.Partitions[i].Name
	}
	for i, n := range numbers {
		if n > maxNumber {
			return nil, &RefusedError{Device: path, Reason: fmt.Sprintf("partition %q would have the number %d: %d is the most", s.Partitions[i].Name, n, maxNumber)}
		}
	}
	return numbers, nil
}

// kindOf is the type of a partition: what the layout says, what the image has, or what the content asks for.
func (b *builder) kindOf(p *Partition) string {
	if guid, ok := typeGUID(p.Type); ok && guid != "" {
		return guid
	}
	if p.Image != "" {
		if src, err := b.source(p.Image); err == nil && src.part != nil {
			if b.im.Manifest.Table.Kind == imagefmt.TableGPT {
				return strings.ToUpper(src.part.Type)
			}
			if name, ok := mbrTypes[src.part.Type]; ok {
				return types[name]
			}
		}
	}
	for _, s := range b.k.Disks {
		if i := slices.IndexFunc(s.Partitions, func(q Partition) bool { return q.Name == p.Name }); i >= 0 && &s.Partitions[i] == p && b.k.raidOf(s.Name+"/"+p.Name) {
			return types["raid"]
		}
	}
	if p.FS == "swap" {
		return types["swap"]
	}
	return types["linux"]
}

// partition makes the entry of a new partition, without its place.
func (b *builder) partition(p *Partition, where string, n int, several bool) imagefmt.Partition {
	out := imagefmt.Partition{Type: b.kindOf(p), Label: numberIn(p.label(), n), UUID: strings.ToUpper(p.UUID)}
	src, err := b.source(p.Image)
	if err == nil && src.part != nil {
		out.FileSystem = src.part.FileSystem
		if b.im.Manifest.Table.Kind == imagefmt.TableGPT {
			out.Attributes = src.part.Attributes
			if out.UUID == "" && !several {
				out.UUID = src.part.UUID
			}
		}
		if p.Label == "" && src.part.Label != "" {
			out.Label = src.part.Label
		}
	}
	if p.FS != "" {
		out.FileSystem = p.FS
	}
	if out.UUID == "" {
		out.UUID = strings.ToUpper(derived("partition", where, p.Name))
	}
	for _, name := range p.Attributes {
		bit, _ := attribute(name)
		out.Attributes |= bit
	}
	return out
}

// distinct sees to it that a partition which is kept is the only one with its UUID.
func (b *builder) distinct(l *layoutOf, where string) {
	seen := map[string]bool{}
	for _, p := range l.table.Partitions {
		if slices.Contains(l.kept, p.Number) {
			seen[strings.ToUpper(p.UUID)] = true
		}
	}
	for i := range l.table.Partitions {
		p := &l.table.Partitions[i]
		if slices.Contains(l.kept, p.Number) {
			continue
		}
		for round := 0; seen[p.UUID]; round++ {
			p.UUID = strings.ToUpper(derived("partition", where, strconv.Itoa(i), strconv.Itoa(round)))
		}
		seen[p.UUID] = true
	}
}

func numberIn(s string, n int) string { return strings.ReplaceAll(s, "{n}", strconv.Itoa(n)) }
