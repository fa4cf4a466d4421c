package imagesrc

import (
	"errors"
	"fmt"
	"io"

	"swarmboot/internal/imagesrc/extfs"
	"swarmboot/internal/imagesrc/fat"
	"swarmboot/internal/imagesrc/swap"
	"swarmboot/internal/imagesrc/volume"
)

// readers are the file systems whose free space is known. Add new ones here.
var readers = []struct {
	name string // for errors about a damaged one
	read volume.Reader
}{
	{"ext2/3/4", extfs.Read},
	{"vfat", fat.Read},
	{"swap", swap.Read},
}

// ioReader remembers the first error of the disk itself, which no reader's word on the file system may hide.
type ioReader struct {
	*io.SectionReader
	err error
}

func (r *ioReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.SectionReader.ReadAt(p, off)
	if err != nil && err != io.EOF && r.err == nil {
		r.err = err
	}
	return n, err
}

// addVolume adds the used bytes of the partition (number 0: the whole disk) at start to m. The extents of the
// result are those of the disk.
func (d *disk) addVolume(m *volume.Map, number int, start, length int64) (*volume.Info, error) {
	r := &ioReader{SectionReader: io.NewSectionReader(d.r, start, length)}
	in, whole := d.lvmVolume(number)
	var err error
	if in == nil {
		in, whole, err = d.readVolume(r, number, length)
	}
	if r.err != nil {
		return nil, fmt.Errorf("read %s, %s: %w", d.path, partitionName(number), r.err)
	}
	if err != nil {
		return nil, err
	}
	if whole != "" {
		d.note("%s: %s: all of its blocks are copied but those that are zero", partitionName(number), whole)
	}
	used := &volume.Map{}
	if whole != "" || d.o.AllBlocks {
		used.Add(start, length)
	} else {
		for _, e := range volume.Clip(in.Extents, 0, length) {
			used.Add(start+e.Off, e.Len)
		}
		// What lies behind the file system may be the metadata of something below it, such as a RAID.
		list, err := d.dataIn(start+min(in.Size, length), start+length)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			used.Add(e.Off, e.Len)
		}
		if len(list) > 0 && number != 0 && in.FileSystem != lvmMember { // LVM may keep a second copy of its metadata there
			d.note("%s: %d bytes behind its %s are not zero and are copied: no target can have it smaller", partitionName(number), volume.Sum(list), in.FileSystem)
		}
	}
	in.Extents = used.Extents(d.size)
	for _, e := range in.Extents {
		m.Add(e.Off, e.Len)
	}
	return in, nil
}

// readVolume finds the file system. The second result says why its extents cannot be used, "" when they can.
func (d *disk) readVolume(r io.ReaderAt, number int, size int64) (*volume.Info, string, error) {
	var found *volume.Info
	var names []string
	var damage *DirtyError
	for _, fs := range readers {
		in, err := fs.read(r, size)
		if errors.Is(err, volume.ErrNotRecognised) {
			continue
		}
		dirty := &DirtyError{Path: d.path, Partition: number, FileSystem: fs.name}
		if err != nil {
			dirty.Reason = err.Error()
			in, damage = &volume.Info{}, dirty
		} else if in.Dirty != "" {
			dirty.FileSystem, dirty.Reason = in.FileSystem, in.Dirty
			damage = dirty
		}
		found, names = in, append(names, fs.name)
	}
	names = append(names, foreign(r, size)...)
	switch {
	case len(names) == 0:
		return &volume.Info{}, "no known file system was found", nil
	case found == nil && len(names) == 1:
		return &volume.Info{Foreign: names[0]}, fmt.Sprintf("%s is not understood", names[0]), nil
	case found == nil:
		return &volume.Info{}, fmt.Sprintf("%s is not understood", names[0]), nil
	case len(names) > 1:
		return &volume.Info{}, fmt.Sprintf("it bears the signatures of %s and %s", names[0], names[1]), nil
	case damage != nil && !d.o.Force:
		return nil, "", damage
	case damage != nil:
		return found, fmt.Sprintf("%s is dirty (%s)", damage.FileSystem, damage.Reason), nil
	}
	return found, found.Opaque, nil
}
