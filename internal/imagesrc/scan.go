package imagesrc

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sys/unix"

	"swarmboot/imagefmt"
	"swarmboot/internal/imagesrc/volume"
)

// disk is a disk while it is being looked at.
type disk struct {
	path   string
	r      io.ReaderAt
	size   int64
	sector int  // logical; of a file it is found out, 512 where nothing tells
	device bool // a block device, whose sector size is known
	o      Options
	// nextData finds the first byte at or after an offset that is not in a hole (lseek SEEK_DATA); nil when the
	// disk has no holes.
	nextData func(off int64) (int64, error)

	searched, toSearch int64 // bytes, for Options.Progress

	table    imagefmt.Table
	reserved []imagefmt.Extent // structures that travel in the table and are not copied
	extents  []imagefmt.Extent
	physical []*physical // LVM
	logical  []LogicalVolume
	foreign  map[int]string // by partition
	top      map[int][]string
	notes    []string
}

func (d *disk) note(format string, args ...any) {
	d.notes = append(d.notes, fmt.Sprintf(format, args...))
}

// scan reads the partition table, then every partition, then what lies between them.
func (d *disk) scan() error {
	if err := d.readTable(); err != nil {
		if !d.o.AllBlocks {
			return fmt.Errorf("%s: %w", d.path, err)
		}
		d.note("the partition table is not understood (%v): the disk is copied as if it had none", err)
		d.table, d.reserved = imagefmt.Table{Kind: imagefmt.TableNone}, nil
	}
	if err := d.readLVM(); err != nil {
		return err
	}
	m := &volume.Map{}
	if d.table.Kind == imagefmt.TableNone {
		if _, err := d.addVolume(m, 0, 0, d.size); err != nil {
			return err
		}
		d.extents = m.Extents(d.size)
		return nil
	}
	taken := slices.Clone(d.reserved)
	for i := range d.table.Partitions {
		p := &d.table.Partitions[i]
		if p.Extended() {
			continue
		}
		in, err := d.addVolume(m, p.Number, p.Start, p.Length)
		if err != nil {
			return err
		}
		p.FileSystem, p.FSLabel, p.FSUUID = in.FileSystem, printable(in.Label), in.UUID
		if in.Foreign != "" {
			d.foreign[p.Number] = in.Foreign
		}
		if in.Top != nil {
			d.top[p.Number] = in.Top
		}
		p.UsedBytes = volume.Sum(in.Extents)
		if n := len(in.Extents); in.Size <= p.Length && (n == 0 || in.Extents[n-1].End() <= p.Start+in.Size) {
			p.FSLength = in.Size
		}
		taken = append(taken, imagefmt.Extent{Off: p.Start, Len: p.Length})
	}
	if err := d.addGaps(m, taken); err != nil {
		return err
	}
	d.extents = m.Extents(d.size)
	return nil
}

// quietGap is what boot loaders may keep in front of the first partition, and EBRs in front of a logical one.
const quietGap = 1 << 20

// addGaps adds what lies outside all partitions. What is more than a boot loader has often been left by the disk's last owner; and
// behind the last partition it says how large targets have to be.
func (d *disk) addGaps(m *volume.Map, taken []imagefmt.Extent) error {
	var last int64
	for _, p := range d.table.Partitions {
		last = max(last, p.Start+p.Length)
	}
	for _, gap := range volume.Invert(volume.Merge(taken, 0), 0, d.size) {
		list, err := d.dataIn(gap.Off, gap.End())
		if err != nil {
			return err
		}
		for _, e := range list {
			m.Add(e.Off, e.Len)
		}
		n := volume.Sum(list)
		switch {
		case n == 0 || d.o.AllBlocks:
		case gap.Off >= last:
			d.note("%d bytes behind the last partition, from byte %d on, are not zero and are copied: the image needs a disk of more than %d bytes",
				n, list[0].Off, list[len(list)-1].End())
		case n > quietGap:
			d.note("%d bytes outside all partitions, from byte %d on, are not zero and are copied", n, list[0].Off)
		}
	}
	return nil
}

// dataIn finds what is not zero in [start, end), a part of the disk that no file system accounts for.
func (d *disk) dataIn(start, end int64) ([]imagefmt.Extent, error) {
	m := &volume.Map{}
	if d.o.AllBlocks {
		m.Add(start, end-start)
		return m.Extents(d.size), nil
	}
	d.toSearch += end - start
	const block = 4 << 10
	buf := make([]byte, 256<<10)
	for from := start; start < end; {
		if d.o.Progress != nil {
			d.o.Progress(d.searched+start-from, d.toSearch)
		}
		if d.nextData != nil {
			next, err := d.nextData(start)
			if errors.Is(err, unix.ENXIO) { // a hole up to the end of the file
				break
			}
			if err == nil && next > start {
				start = min(next, end)
				continue
			}
		}
		n := min(int64(len(buf))-start%block, end-start)
		if _, err := d.r.ReadAt(buf[:n], start); err != nil {
			return nil, fmt.Errorf("read %s at byte %d: %w", d.path, start, err)
		}
		for p := buf[:n]; len(p) > 0; {
			cut := min(block-start%block, int64(len(p)))
			if !allZero(p[:cut]) {
				m.Add(start, cut)
			}
			start, p = start+cut, p[cut:]
		}
	}
	d.searched = d.toSearch
	return m.Extents(d.size), nil
}

var zeros [4 << 10]byte

// allZero looks at up to 4 KiB.
func allZero(p []byte) bool { return bytes.Equal(p, zeros[:len(p)]) }

// checkPartitions refuses partitions that lie outside the disk or over one another.
func (d *disk) checkPartitions(list []imagefmt.Partition) error {
	if len(list) > imagefmt.MaxPartitions {
		return fmt.Errorf("%d partitions, the limit is %d", len(list), imagefmt.MaxPartitions)
	}
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted, func(a, b imagefmt.Partition) int { return cmp.Compare(a.Start, b.Start) })
	var last *imagefmt.Partition
	for i := range sorted {
		p := &sorted[i]
		if p.Start < int64(d.sector) || p.Length <= 0 || p.Length > d.size || p.Start > d.size-p.Length {
			return fmt.Errorf("partition %d lies at bytes %d+%d, the disk has %d: the disk or file is cut short, or the table is damaged",
				p.Number, p.Start, p.Length, d.size)
		}
		if last != nil && p.Start < last.Start+last.Length {
			return fmt.Errorf("partitions %d and %d overlap", last.Number, p.Number)
		}
		last = p
	}
	return nil
}
