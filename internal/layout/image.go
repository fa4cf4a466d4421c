package layout

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"swarmboot/imagefmt"
	"swarmboot/internal/disk"
)

// defaultPlan is the image's own table on one disk.
func defaultPlan(d disk.Inventory, im Image, how Scale) (*Plan, error) {
	if err := (&disk.Inventory{Disk: d.Disk}).Check(); err != nil {
		return nil, &RefusedError{Reason: err.Error()}
	}
	s := &scaler{d: d.Disk, im: im, m: im.Manifest}
	table, err := s.table(how)
	if err != nil {
		return nil, err
	}
	p := &Plan{Notes: s.notes, Contents: s.contents(table, 0), Disks: []DiskPlan{{Disk: s.d, Wipe: disk.WipeNone, Table: table, Lost: lost(d, nil)}}}
	return p, p.Check(im.Manifest)
}

// scaled plans the disk of a set with Scale.
func (b *builder) scaled(set *DiskSet, d disk.Inventory) error {
	if b.im.Manifest == nil {
		return &RefusedError{Reason: fmt.Sprintf("scale: %s needs an image", set.Scale)}
	}
	s := &scaler{d: d.Disk, im: b.im, m: b.im.Manifest}
	table, err := s.table(Scale(set.Scale))
	if err != nil {
		return err
	}
	b.plan.Contents = append(b.plan.Contents, s.contents(table, len(b.plan.Disks))...)
	b.plan.Disks = append(b.plan.Disks, DiskPlan{Disk: s.d, Wipe: wipe(set), Table: table, Stop: d.Arrays, Lost: lost(d, nil)})
	b.plan.Notes = append(b.plan.Notes, s.notes...)
	b.whole = true
	return nil
}

// scaler puts the image's own table on a disk.
type scaler struct {
	d     disk.Disk
	im    Image
	m     *imagefmt.Manifest
	notes []string
	// grown are the partitions that became larger, by number (0: the bare file system), with what will be Content.Back.
	grown map[int]int64
}

// table returns the image's table for the disk.
func (s *scaler) table(how Scale) (imagefmt.Table, error) {
	if s.m == nil {
		return imagefmt.Table{}, &RefusedError{Reason: "there is no image"}
	}
	s.d.LogicalSector = sectorOf(s.d.Transport, s.d.LogicalSector, s.m)
	s.grown = map[int]int64{}
	t, err := s.convert()
	if err != nil {
		return t, err
	}
	if s.d.Size < s.m.MinDiskSize {
		if how == ScaleExact {
			return s.cut(t)
		}
		return t, &disk.TooSmallError{Device: s.d.Path, Size: s.d.Size, Need: s.m.MinDiskSize}
	}
	if t.Kind != imagefmt.TableNone {
		if _, end := disk.Usable(t.Kind, s.d.Size, s.d.LogicalSector); lastEnd(t) > end && t.Kind == imagefmt.TableGPT {
			return t, &disk.TooSmallError{Device: s.d.Path, Size: s.d.Size, Need: lastEnd(t) + s.d.Size - end}
		}
	}
	if t.Kind == imagefmt.TableMBR && s.d.Size > mbrEnd*int64(s.d.LogicalSector) {
		s.notes = append(s.notes, fmt.Sprintf("%s: the image has an MBR, which cannot describe what lies behind %s", s.d.Path, disk.FormatSize(mbrEnd*int64(s.d.LogicalSector))))
	}
	switch how {
	case ScaleLast:
		return s.growLast(t), nil
	case ScaleProportional:
		return s.proportional(t)
	}
	return t, nil
}

// mbrEnd is how many sectors the 32-bit numbers of an MBR can count.
const mbrEnd = 1 << 32

func lastEnd(t imagefmt.Table) (end int64) {
	for _, p := range t.Partitions {
		end = max(end, p.Start+p.Length)
	}
	return end
}

// convert returns a copy of the image's table for the logical sectors of the disk.
func (s *scaler) convert() (imagefmt.Table, error) {
	t := s.m.Table
	t.Partitions = slices.Clone(t.Partitions)
	if s.d.LogicalSector == s.m.SectorSize {
		return t, nil
	}
	refuse := func(format string, args ...any) (imagefmt.Table, error) {
		return t, &RefusedError{Device: s.d.Path, Reason: fmt.Sprintf(format, args...)}
	}
	if t.Kind == imagefmt.TableMBR {
		return refuse("the image has an MBR, made for sectors of %d bytes: boot code and logical partitions count in them, and this disk has sectors of %d",
			s.m.SectorSize, s.d.LogicalSector)
	}
	if t.Kind == imagefmt.TableNone {
		// A bare file system is not described in the manifest.
		return refuse("the image is a bare file system made on sectors of %d bytes, this disk has %d: it is not known whether it depends on that",
			s.m.SectorSize, s.d.LogicalSector)
	}
	sector := int64(s.d.LogicalSector)
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if err := convertible(s.m, *p, s.d.LogicalSector); err != nil {
			return refuse("%v", err)
		}
		if p.Start%sector != 0 {
			return refuse("partition %d of the image begins at byte %d, which is no multiple of this disk's sectors of %d", p.Number, p.Start, sector)
		}
		p.Length = alignUp(p.Length, sector)
	}
	for i, p := range t.Partitions {
		for _, q := range t.Partitions[:i] {
			if p.Start < q.Start+q.Length && q.Start < p.Start+p.Length {
				return refuse("partitions %d and %d of the image would overlap on sectors of %d bytes", q.Number, p.Number, sector)
			}
		}
	}
	return t, nil
}

// growable says whether the content of a partition can become larger, as far as the manifest tells: what it does not
// know is looked at when it is there.
func growable(fileSystem string) bool {
	switch fileSystem {
	case "", "ext2", "ext3", "ext4", "xfs", "btrfs":
		return true
	}
	return false
}

// stretchable says whether a partition may be made larger for the sake of its content.
func stretchable(t imagefmt.Table, p imagefmt.Partition) bool {
	kind := strings.ToUpper(p.Type)
	for _, fixed := range []string{"bios", "esp", "prep", "swap", "raid", "lvm"} {
		if kind == types[fixed] {
			return false
		}
	}
	const readOnly = 1 << 60
	if t.Kind == imagefmt.TableMBR {
		return growable(p.FileSystem) && !slices.Contains([]string{"0XFD", "0X8E", "0X82", "0XEF"}, kind)
	}
	return growable(p.FileSystem) && p.Attributes&readOnly == 0
}

func (s *scaler) growLast(t imagefmt.Table) imagefmt.Table {
	grown, p, err := disk.Grow(t, disk.Space{Disk: s.d.Size, Image: s.m.DiskSize, Sector: s.d.LogicalSector}, func(p imagefmt.Partition) error {
		if !growable(p.FileSystem) {
			return fmt.Errorf("%s does not grow", p.FileSystem)
		}
		return nil
	})
	if err != nil {
		if s.d.Size > s.m.DiskSize {
			s.notes = append(s.notes, fmt.Sprintf("%s: not grown: %v", s.d.Path, err))
		}
		return t
	}
	s.grown[p.Number] = s.m.DiskSize
	if was, ok := numbered(t, p.Number); ok {
		s.grown[p.Number] = was.Length
	}
	return grown
}

// proportional enlarges every partition that can grow by the same factor, as Clonezilla's -k1 does, and moves those behind
// it. The others keep their size.
func (s *scaler) proportional(t imagefmt.Table) (imagefmt.Table, error) {
	if t.Kind == imagefmt.TableNone {
		return s.growLast(t), nil
	}
	slices.SortFunc(t.Partitions, func(a, b imagefmt.Partition) int { return cmp.Compare(a.Start, b.Start) })
	for _, p := range t.Partitions {
		if p.Extended() || t.Kind == imagefmt.TableMBR && p.Number > 4 {
			return t, &RefusedError{Device: s.d.Path, Reason: "scale: proportional cannot move logical partitions; scale: last can use this image"}
		}
	}
	align := alignment(s.d)
	_, end := disk.Usable(t.Kind, s.d.Size, s.d.LogicalSector)
	var total, need int64 // of the image's lengths that can grow, and of all once they are aligned
	at := int64(0)
	for i, p := range t.Partitions {
		if i == 0 {
			at = p.Start
		}
		if stretchable(t, p) {
			total += p.Length
		}
		at = alignUp(at+p.Length, align)
	}
	if need = at; total == 0 || need > alignDown(end, align) {
		s.notes = append(s.notes, fmt.Sprintf("%s: not scaled: %s", s.d.Path, map[bool]string{true: "nothing in the image can grow", false: "there is no room"}[total == 0]))
		return t, nil
	}
	s.stretch(t, alignDown(end, align)-need, total, align)
	for i, p := range t.Partitions {
		if old, _ := numbered(s.m.Table, p.Number); strings.EqualFold(p.Type, types["bios"]) && old.Start != p.Start {
			return t, &RefusedError{Device: s.d.Path, Reason: fmt.Sprintf("scale: proportional would move partition %d, where the boot code looks for GRUB", p.Number)}
		}
		if i > 0 && p.Start < t.Partitions[i-1].Start+t.Partitions[i-1].Length {
			return t, &RefusedError{Device: s.d.Path, Reason: "scale: proportional: partitions would overlap"}
		}
	}
	slices.SortFunc(t.Partitions, func(a, b imagefmt.Partition) int { return cmp.Compare(a.Number, b.Number) })
	return t, nil
}

// stretch shares out extra bytes among the partitions that can grow, in proportion to their lengths, and moves each behind the
// one before it.
func (s *scaler) stretch(t imagefmt.Table, extra, total, align int64) {
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if i > 0 {
			p.Start = alignUp(t.Partitions[i-1].Start+t.Partitions[i-1].Length, align)
		}
		if !stretchable(t, *p) {
			continue
		}
		hi, lo := bits.Mul64(uint64(extra), uint64(p.Length))
		share, _ := bits.Div64(hi, lo, uint64(total)) // hi < total, since p.Length <= total
		if more := alignDown(int64(share), align); more > 0 {
			p.Length = alignUp(p.Start+p.Length, align) + more - p.Start
			s.grown[p.Number] = 0
		}
	}
}

// cut shortens the last partition to a disk that is too small for the image's table, if nothing that is used lies there.
func (s *scaler) cut(t imagefmt.Table) (imagefmt.Table, error) {
	tooSmall := func(need int64, format string, args ...any) (imagefmt.Table, error) {
		return t, fmt.Errorf("scale: exact: "+format+": %w", append(args, &disk.TooSmallError{Device: s.d.Path, Size: s.d.Size, Need: need})...)
	}
	_, end := disk.Usable(t.Kind, s.d.Size, s.d.LogicalSector)
	used, err := s.used()
	if err != nil {
		return t, err
	}
	for _, e := range used {
		if e.End() > end {
			return tooSmall(e.End()+s.d.Size-end, "bytes are used up to %d", e.End())
		}
	}
	if t.Kind == imagefmt.TableNone {
		return tooSmall(s.m.MinDiskSize, "the length of the image's file system is not known")
	}
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if p.Start+p.Length <= end {
			continue
		}
		if p.Extended() || t.Kind == imagefmt.TableMBR && p.Number > 4 {
			return tooSmall(s.m.MinDiskSize, "logical partitions are not cut")
		}
		if p.Start >= end {
			return tooSmall(s.m.MinDiskSize, "partition %d lies behind the end of the disk", p.Number)
		}
		if err := cuttable(*p, end, used); err != nil {
			return tooSmall(s.m.MinDiskSize, "partition %d: %v", p.Number, err)
		}
		p.Length = alignDown(end-p.Start, int64(s.d.LogicalSector))
		s.notes = append(s.notes, fmt.Sprintf("partition %d of the image is cut to %s: nothing that is used lies behind", p.Number, disk.FormatSize(p.Length)))
	}
	return t, nil
}

// used asks for the used extents, where they are known.
func (s *scaler) used() ([]imagefmt.Extent, error) {
	if s.im.Used == nil {
		return nil, nil
	}
	used, err := s.im.Used()
	if err != nil {
		return nil, fmt.Errorf("scale: exact: which bytes of the image are used: %w", err)
	}
	return used, nil
}

// cuttable says why a partition cannot end at end: its file system may reach behind that.
func cuttable(p imagefmt.Partition, end int64, used []imagefmt.Extent) error {
	what := or(p.FileSystem, "content")
	holds := p.UsedBytes > 0 || slices.ContainsFunc(used, func(e imagefmt.Extent) bool { return e.Off < p.Start+p.Length && p.Start < e.End() })
	switch {
	case p.FSLength > end-p.Start:
		return fmt.Errorf("its %s has %d bytes, and there is room for %d", what, p.FSLength, end-p.Start)
	case p.FSLength > 0, !holds && p.FileSystem == "":
		return nil
	}
	return fmt.Errorf("it is not known how long its %s is", what)
}

// contents lays the image's bytes on the disk with this index: each partition at its new place, and what lies outside of
// partitions where it was, as far as nothing else is there now.
func (s *scaler) contents(t imagefmt.Table, index int) []Content {
	on := Ref{Disk: index, Array: -1}
	if t.Kind == imagefmt.TableNone {
		n := min(s.m.DiskSize, s.d.Size)
		back, grown := s.grown[0]
		return []Content{{On: on, Source: imagefmt.Extent{Len: n}, Grow: grown, Back: back}}
	}
	var list []Content
	var old, taken []imagefmt.Extent // in the image, on the disk
	for _, p := range t.Partitions {
		was, _ := numbered(s.m.Table, p.Number)
		if p.Extended() {
			continue
		}
		back, grown := s.grown[p.Number]
		old, taken = append(old, imagefmt.Extent{Off: was.Start, Len: was.Length}), append(taken, imagefmt.Extent{Off: p.Start, Len: p.Length})
		list = append(list, Content{
			On: Ref{Disk: index, Array: -1, Partition: p.Number}, Image: p.Number,
			Source: imagefmt.Extent{Off: was.Start, Len: min(was.Length, p.Length)}, Grow: grown, Back: back,
		})
	}
	first, end := disk.Usable(t.Kind, s.d.Size, s.d.LogicalSector)
	taken = append(taken, imagefmt.Extent{Len: first}, imagefmt.Extent{Off: end, Len: s.d.Size - end}) // the table itself
	for _, gap := range disk.Gaps(min(s.m.DiskSize, s.d.Size), append(old, taken...)) {
		list = append(list, Content{On: on, Offset: gap.Off, Source: gap})
	}
	return list
}
