package imagesrc

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"swarmboot/imagefmt"
	"swarmboot/internal/imagesrc/lvm"
	"swarmboot/internal/imagesrc/volume"
)

// lvmMember is what libblkid calls a physical volume.
const lvmMember = "LVM2_member"

// LogicalVolume is a linear logical volume of a group that is whole on the disk.
type LogicalVolume struct {
	Group, Name             string
	FileSystem, Label, UUID string    // as of a partition; "" when unknown
	Foreign                 string    // as of Source.Foreign
	Top                     []string  // as of Source.Top; nil where they are not known
	Segments                []Segment // in the order of the volume's addresses
}

// Segment is a run of bytes of a partition (number 0: of the whole disk).
type Segment struct {
	Partition int
	Off, Len  int64 // bytes from the start of the partition
}

// physical is a partition, or the whole disk, that is an LVM physical volume.
type physical struct {
	number        int
	start, length int64
	uuid          string

	used  volume.Map // bytes from the start of the partition
	end   int64      // of its last physical extent
	whole string     // why all of it is copied
}

// readLVM looks at all parts of the disk at once, since a volume group may have several of them.
func (d *disk) readLVM() error {
	var pvs []*lvm.PV
	for _, p := range d.parts() {
		pv, err := d.readPV(p.start, p.length)
		if err != nil {
			return fmt.Errorf("read %s, %s: %w", d.path, partitionName(p.number), err)
		}
		if pv == nil {
			continue
		}
		p.uuid = pv.UUID
		pvs, d.physical = append(pvs, pv), append(d.physical, p)
	}
	for _, g := range lvm.Groups(pvs) {
		if err := d.addGroup(g, pvs); err != nil {
			return err
		}
	}
	return nil
}

// parts are the partitions that can hold data, or the whole disk.
func (d *disk) parts() []*physical {
	if d.table.Kind == imagefmt.TableNone {
		return []*physical{{length: d.size}}
	}
	var list []*physical
	for _, p := range d.table.Partitions {
		if !p.Extended() {
			list = append(list, &physical{number: p.Number, start: p.Start, length: p.Length})
		}
	}
	return list
}

// readPV returns nil for what is no physical volume, or bears another signature beside.
func (d *disk) readPV(start, length int64) (*lvm.PV, error) {
	r := &ioReader{SectionReader: io.NewSectionReader(d.r, start, length)}
	if names := foreign(r, length); len(names) != 1 || names[0] != "LVM" {
		return nil, r.err
	}
	for _, fs := range readers {
		if _, err := fs.read(r, length); !errors.Is(err, volume.ErrNotRecognised) {
			return nil, r.err
		}
	}
	pv, err := lvm.Read(r, length)
	if errors.Is(err, lvm.ErrNone) {
		return nil, nil
	}
	return pv, err
}

func (d *disk) addGroup(g lvm.Group, pvs []*lvm.PV) error {
	for i, n := range g.PVs {
		p := d.physical[n]
		if p.whole = g.Whole; p.whole != "" {
			continue
		}
		// Labels, headers and the text, boot loader areas: everything in front of the first extent.
		p.used.Add(0, g.Data[i].Off)
		p.end = g.Data[i].Off + g.Data[i].Len
		for _, a := range pvs[n].Metadata {
			p.used.Add(a.Off, a.Len)
		}
	}
	for _, v := range g.Volumes {
		if err := d.addLogical(g.Name, v); err != nil {
			return err
		}
	}
	return nil
}

// addLogical adds the used bytes of a logical volume to those of the physical volumes that it lies on.
func (d *disk) addLogical(group string, v lvm.Volume) error {
	name := printable(group + "/" + v.Name)
	m := &mapped{d: d, segments: v.Segments, size: v.Size}
	in, whole := &volume.Info{}, v.Whole
	if whole != "" {
		whole = fmt.Sprintf("logical volume %s %s", name, whole)
	} else {
		d.logical = append(d.logical, LogicalVolume{Group: group, Name: v.Name, Segments: d.segments(v.Segments)})
		if v.Size == 0 {
			return nil
		}
		r := &ioReader{SectionReader: io.NewSectionReader(m, 0, v.Size)}
		var err error
		in, whole, err = d.readVolume(r, d.physical[v.Segments[0].PV].number, v.Size)
		if r.err != nil {
			return fmt.Errorf("read %s, logical volume %s: %w", d.path, name, r.err)
		}
		var dirty *DirtyError
		if errors.As(err, &dirty) {
			dirty.FileSystem = fmt.Sprintf("logical volume %s, %s", name, dirty.FileSystem)
		}
		if err != nil {
			return err
		}
		l := &d.logical[len(d.logical)-1]
		l.FileSystem, l.Label, l.UUID, l.Foreign, l.Top = in.FileSystem, printable(in.Label), in.UUID, in.Foreign, in.Top
		if whole != "" {
			whole = fmt.Sprintf("logical volume %s: %s", name, whole)
		}
	}
	if whole == "" {
		return m.addUsed(in)
	}
	d.note("%s: all of its blocks are copied but those that are zero", whole)
	for _, s := range v.Segments {
		d.physical[s.PV].used.Add(s.Off, s.Len)
	}
	return nil
}

func (d *disk) segments(list []lvm.Segment) []Segment {
	var out []Segment
	for _, s := range list {
		out = append(out, Segment{Partition: d.physical[s.PV].number, Off: s.Off, Len: s.Len})
	}
	return out
}

// mapped is a linear logical volume as one run of bytes.
type mapped struct {
	d        *disk
	segments []lvm.Segment
	size     int64
}

// each calls f for the pieces of bytes [off, off+length): where each lies in its physical volume, and on the disk.
func (m *mapped) each(off, length int64, f func(p *physical, at, n int64) error) error {
	for _, s := range m.segments {
		if length <= 0 {
			return nil
		}
		if off >= s.Len {
			off -= s.Len
			continue
		}
		n := min(length, s.Len-off)
		if err := f(m.d.physical[s.PV], s.Off+off, n); err != nil {
			return err
		}
		off, length = 0, length-n
	}
	return nil
}

func (m *mapped) ReadAt(b []byte, off int64) (int, error) {
	done := 0
	err := m.each(off, int64(len(b)), func(p *physical, at, n int64) error {
		k, err := m.d.r.ReadAt(b[done:done+int(n)], p.start+at)
		done += k
		if err == io.EOF && k == int(n) {
			err = nil
		}
		return err
	})
	if err == nil && done < len(b) {
		err = io.EOF
	}
	return done, err
}

// addUsed adds the used bytes of the volume's file system, and what is not zero behind it.
func (m *mapped) addUsed(in *volume.Info) error {
	add := func(p *physical, at, n int64) error {
		p.used.Add(at, n)
		return nil
	}
	if m.d.o.AllBlocks {
		return m.each(0, m.size, add)
	}
	for _, e := range volume.Clip(in.Extents, 0, m.size) {
		if err := m.each(e.Off, e.Len, add); err != nil {
			return err
		}
	}
	end := min(in.Size, m.size)
	return m.each(end, m.size-end, func(p *physical, at, n int64) error {
		list, err := m.d.dataIn(p.start+at, p.start+at+n)
		if err != nil {
			return err
		}
		for _, e := range list {
			p.used.Add(e.Off-p.start, e.Len)
		}
		return nil
	})
}

// lvmVolume is what readVolume returns, for a partition that is a physical volume; nil for another.
func (d *disk) lvmVolume(number int) (*volume.Info, string) {
	i := slices.IndexFunc(d.physical, func(p *physical) bool { return p.number == number })
	if i < 0 {
		return nil, ""
	}
	p := d.physical[i]
	in := &volume.Info{FileSystem: lvmMember, UUID: p.uuid, Size: p.end}
	if p.whole != "" {
		return in, "LVM: " + p.whole
	}
	in.Extents = p.used.Extents(p.length)
	return in, ""
}
