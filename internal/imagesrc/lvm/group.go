package lvm

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Limits on numbers of the text, so that no product overflows.
const (
	maxSectors = 1 << 53
	maxExtents = 1 << 32
)

// builder turns the text of a group into volumes.
type builder struct {
	pvs    []*PV
	vg     *node
	extent int64 // bytes
	byName map[string]*placed
}

// placed is a physical volume of the group, by its name in the text.
type placed struct {
	index int
	start int64 // byte of its first physical extent
	count int64 // physical extents
}

// build fills in g. An error says why nothing less than all bytes of its physical volumes will do; g.PVs is right then too.
func (b *builder) build(g *Group) ([]Area, error) {
	err := b.findPVs(g)
	if err == nil {
		err = b.checkCopies(g)
	}
	if err == nil {
		err = b.checkGroup()
	}
	if err == nil {
		err = b.placePVs()
	}
	if err == nil {
		g.Volumes, err = b.volumes()
	}
	if err != nil {
		return nil, err
	}
	data := make([]Area, len(g.PVs))
	for _, p := range b.byName {
		data[slices.Index(g.PVs, p.index)] = Area{p.start, p.count * b.extent}
	}
	return data, nil
}

// findPVs finds the group's physical volumes among those of the disk. It goes on after an error: what is found belongs
// to the group.
func (b *builder) findPVs(g *Group) (err error) {
	list := b.vg.child("physical_volumes")
	if list == nil || len(list.children) > maxPVs {
		return fmt.Errorf("the text of its group %s lists no physical volumes, or more than %d", quote(g.Name), maxPVs)
	}
	for _, n := range list.children {
		if b.byName[n.name] != nil && err == nil {
			err = fmt.Errorf("two physical volumes of its group %s have one name", quote(g.Name))
		}
		found := 0
		for i, pv := range b.pvs {
			if pv.UUID == "" || pv.UUID != n.text("id") || slices.Contains(g.PVs, i) {
				continue
			}
			g.PVs = append(g.PVs, i)
			b.byName[n.name] = &placed{index: i}
			found++
			if pv.bad != "" && err == nil {
				err = errors.New(pv.bad)
			}
		}
		if found != 1 && err == nil {
			err = fmt.Errorf("its group %s has %d physical volumes, and %.60q was found %d times on this disk",
				quote(g.Name), len(list.children), n.text("id"), found)
		}
	}
	return err
}

// checkCopies wants every metadata area of the group to tell the same.
func (b *builder) checkCopies(g *Group) error {
	for _, i := range g.PVs {
		for _, text := range b.pvs[i].texts {
			if !reflect.DeepEqual(text, b.vg) {
				return fmt.Errorf("the copies of the metadata of its group %s differ", quote(g.Name))
			}
		}
	}
	return nil
}

func (b *builder) checkGroup() error {
	name := quote(b.vg.name)
	// WRITE_LOCKED stands for WRITE in a group with a system ID or a lock type, so that old programs do not write.
	if word := b.unknown(b.vg, "status", "RESIZEABLE", "READ", "WRITE", "WRITE_LOCKED"); word != "" {
		return fmt.Errorf("its group %s is %s", name, word)
	}
	if word := b.unknown(b.vg, "flags", "WRITE_LOCKED"); word != "" {
		return fmt.Errorf("its group %s is %s", name, word)
	}
	if lock := b.vg.text("lock_type"); lock != "" && lock != "none" {
		return fmt.Errorf("its group %s is shared by lock type %s", name, quote(lock))
	}
	if format := b.vg.text("format"); format != "" && format != "lvm2" {
		return fmt.Errorf("its group %s has format %s", name, quote(format))
	}
	sectors := b.vg.number("extent_size")
	if sectors < 1 || sectors > maxSectors/maxExtents {
		return fmt.Errorf("its group %s has extents of %d sectors", name, sectors)
	}
	b.extent = sectors * sector
	return nil
}

// unknown returns the first word of a list that is not among those known.
func (b *builder) unknown(n *node, field string, known ...string) string {
	c := n.child(field)
	if c == nil {
		return ""
	}
	for _, v := range c.values {
		if !slices.Contains(known, v.text) {
			return strings.ToLower(quote(v.text))
		}
	}
	return ""
}

func (b *builder) placePVs() error {
	for _, n := range b.vg.child("physical_volumes").children {
		p := b.byName[n.name]
		for _, field := range []string{"status", "flags"} {
			if word := b.unknown(n, field, "ALLOCATABLE"); word != "" {
				return fmt.Errorf("physical volume %s is %s", quote(n.name), word)
			}
		}
		start, count := n.number("pe_start"), n.number("pe_count")
		size := b.pvs[p.index].Size
		if start < 1 || start > size/sector || count < 0 || count > (size-start*sector)/b.extent {
			return fmt.Errorf("physical volume %s: %d extents of %d bytes from sector %d on do not fit into %d bytes",
				quote(n.name), count, b.extent, start, size)
		}
		p.start, p.count = start*sector, count
	}
	return nil
}

// volumes reads the logical volumes and checks that no two share an extent, as they do while one is moved.
func (b *builder) volumes() ([]Volume, error) {
	list := b.vg.child("logical_volumes")
	if list == nil {
		return nil, nil
	}
	refers := map[string]string{} // names that segments of other kinds mention, and by whom
	var all []Volume
	for _, n := range list.children {
		v, err := b.volume(n, refers)
		if err != nil {
			return nil, fmt.Errorf("logical volume %s: %w", quote(n.name), err)
		}
		all = append(all, v)
	}
	for i := range all {
		if by := refers[all[i].Name]; by != "" && all[i].Whole == "" {
			all[i].Whole = "is a part of " + quote(by)
		}
	}
	return all, checkOverlap(all)
}

func checkOverlap(all []Volume) error {
	var segments []Segment
	for _, v := range all {
		segments = append(segments, v.Segments...)
	}
	slices.SortFunc(segments, func(a, b Segment) int { return cmp.Or(cmp.Compare(a.PV, b.PV), cmp.Compare(a.Off, b.Off)) })
	for i := 1; i < len(segments); i++ {
		if a, b := segments[i-1], segments[i]; a.PV == b.PV && b.Off < a.Off+a.Len {
			return fmt.Errorf("two of its logical volumes share the byte %d of a physical volume", b.Off)
		}
	}
	return nil
}

func (b *builder) volume(n *node, refers map[string]string) (Volume, error) {
	v := Volume{Name: n.name}
	if word := b.unknown(n, "status", "READ", "WRITE", "WRITE_LOCKED", "VISIBLE", "FIXED_MINOR"); word != "" {
		v.Whole = "is " + word
	}
	if word := b.unknown(n, "flags", "ACTIVATION_SKIP", "WRITE_LOCKED"); word != "" && v.Whole == "" {
		v.Whole = "is " + word
	}
	var segments []*node
	for _, c := range n.children {
		if c.section && strings.HasPrefix(c.name, "segment") {
			segments = append(segments, c)
		}
	}
	slices.SortStableFunc(segments, func(a, b *node) int { return cmp.Compare(a.number("start_extent"), b.number("start_extent")) })
	next := int64(0)
	for _, s := range segments {
		start, count := s.number("start_extent"), s.number("extent_count")
		if start != next || count < 1 || count > maxExtents || next+count > maxExtents {
			return v, fmt.Errorf("segment of extents %d+%d behind extent %d", start, count, next)
		}
		next += count
		if err := b.segment(&v, s, count, refers); err != nil {
			return v, err
		}
	}
	if int64(len(segments)) != n.number("segment_count") {
		return v, fmt.Errorf("%d segments, not %d", len(segments), n.number("segment_count"))
	}
	v.Size = next * b.extent
	return v, nil
}

// segment adds a segment to v. One that is not linear makes v opaque, and so it makes what it mentions.
func (b *builder) segment(v *Volume, s *node, count int64, refers map[string]string) error {
	kind := s.text("type")
	if kind != "striped" && kind != "linear" {
		return b.opaque(v, s, kind, refers)
	}
	stripes := s.child("stripes")
	if stripes == nil || len(stripes.values) == 0 || len(stripes.values)%2 != 0 || count%int64(len(stripes.values)/2) != 0 {
		return errors.New("a segment whose stripes are not understood")
	}
	n := int64(len(stripes.values) / 2)
	for i := 0; i < len(stripes.values); i += 2 {
		if b.byName[stripes.values[i].text] == nil { // it lies on another logical volume
			return b.opaque(v, s, "stacked", refers)
		}
	}
	if n > 1 && v.Whole == "" {
		v.Whole = fmt.Sprintf("is striped over %d areas", n)
	}
	for i := 0; i < len(stripes.values); i += 2 {
		p, first := b.byName[stripes.values[i].text], stripes.values[i+1]
		if first.isText || first.number < 0 || first.number > p.count || count/n > p.count-first.number {
			return fmt.Errorf("a segment at extents %d+%d of a physical volume with %d", first.number, count/n, p.count)
		}
		v.Segments = append(v.Segments, Segment{PV: p.index, Off: p.start + first.number*b.extent, Len: count / n * b.extent})
	}
	return nil
}

func (b *builder) opaque(v *Volume, s *node, kind string, refers map[string]string) error {
	if v.Whole == "" {
		v.Whole = "is of type " + quote(kind)
	}
	return b.mentions(s, v.Name, refers)
}

// mentions notes every name in a section. A physical volume's is an error: how much of it is used is not known.
func (b *builder) mentions(n *node, by string, refers map[string]string) error {
	for _, val := range n.values {
		if b.byName[val.text] != nil && val.isText {
			return errors.New("a segment that is not linear lies on physical volumes")
		}
		refers[val.text] = by
	}
	for _, c := range n.children {
		if err := b.mentions(c, by, refers); err != nil {
			return err
		}
	}
	return nil
}

// quote makes a name from the disk fit for messages.
func quote(s string) string {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return clean[:min(len(clean), 128)]
}
