package md

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"regexp"
	"time"
)

// Device is a member that is open for writing. *disk.Device is one.
type Device interface {
	io.ReaderAt
	io.WriterAt
	Path() string
	Size() int64     // bytes
	SectorSize() int // logical, bytes
	Sync() error
}

var names = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,30}$`)

// check looks at everything that can be known without the disks, and fills in what was left open.
func (s *Spec) check() error {
	if !names.MatchString(s.Name) {
		return fmt.Errorf("array name %.60q: want up to 31 letters, digits, '-', '_', '.'", s.Name)
	}
	if s.Homehost == "" {
		s.Homehost = "any"
	}
	for _, r := range s.Homehost {
		if r <= ' ' || r >= 0x7f || r == ':' || r == '/' {
			return fmt.Errorf("array %s: home host %.60q: want a host name", s.Name, s.Homehost)
		}
	}
	if err := s.Shape.check(len(s.Members), len(s.Spares)); err != nil {
		return fmt.Errorf("array %s: %w", s.Name, err)
	}
	return nil
}

// fullName is the name in the superblock. One that is too long goes without the host, as with mdadm.
func (s *Spec) fullName() string {
	if len(s.Homehost)+1+len(s.Name) < nameSize {
		return s.Homehost + ":" + s.Name
	}
	return s.Name
}

// geometry is that of spec on these devices, members first.
func (s *Spec) geometry(devices []Device) (Geometry, error) {
	var sizes []int64
	for _, d := range devices {
		if n := d.SectorSize(); n > 4*kib || n < sector {
			return Geometry{}, fmt.Errorf("array %s: %s has sectors of %d bytes; md's superblock needs 512 to 4096", s.Name, d.Path(), n)
		}
		sizes = append(sizes, d.Size())
	}
	g, err := s.Shape.Geometry(sizes[:len(s.Members)], sizes[len(s.Members):])
	if err != nil {
		return g, fmt.Errorf("array %s: %w", s.Name, err)
	}
	return g, nil
}

// Format writes the superblocks of a new array, and its bitmap, to devices: the members of spec in their order, then the
// spares. All is calculated before the first write. Old md superblocks are cleared first, so that a
// Format that was interrupted leaves members without one or with the new one.
func Format(ctx context.Context, spec Spec, devices []Device) (Geometry, error) {
	if err := spec.check(); err != nil {
		return Geometry{}, err
	}
	if n := len(spec.Members) + len(spec.Spares); n != len(devices) {
		return Geometry{}, fmt.Errorf("array %s: %d devices are open, %d were named", spec.Name, len(devices), n)
	}
	g, err := spec.geometry(devices)
	if err != nil {
		return g, err
	}
	if spec.UUID == (UUID{}) {
		spec.UUID = randomUUID()
	}
	for _, d := range devices {
		if ctx.Err() != nil {
			return g, context.Cause(ctx)
		}
		if err := clearSuperblocks(d); err != nil {
			return g, err
		}
	}
	now := time.Now()
	for i, d := range devices {
		if ctx.Err() != nil {
			return g, context.Cause(ctx)
		}
		if err := spec.writeMember(g, i, d, now); err != nil {
			return g, err
		}
	}
	return g, nil
}

func randomUUID() UUID {
	var u UUID
	_, _ = rand.Read(u[:]) // it does not fail
	return u
}

// writeMember writes the bitmap before the superblock that points to it.
func (s *Spec) writeMember(g Geometry, i int, d Device, now time.Time) error {
	sb := s.superblock(g, i, d.Size(), now)
	if !g.bitmap.none() {
		if _, err := d.WriteAt(g.bitmap.marshal(s.UUID), sb.SuperOffset+sb.BitmapOffset); err != nil {
			return fmt.Errorf("write bitmap of array %s: %w", s.Name, err)
		}
	}
	b := make([]byte, maxSuper)
	copy(b, sb.marshal())
	if _, err := d.WriteAt(b, sb.SuperOffset); err != nil {
		return fmt.Errorf("write superblock of array %s: %w", s.Name, err)
	}
	if err := d.Sync(); err != nil {
		return fmt.Errorf("write superblock of array %s: %w", s.Name, err)
	}
	return nil
}

// superblock is that of device i, which has size bytes.
func (s *Spec) superblock(g Geometry, i int, size int64, now time.Time) *Superblock {
	sb := &Superblock{
		Minor: 2, UUID: s.UUID, Name: s.fullName(), Created: now.Truncate(time.Second), Updated: now.Truncate(time.Second),
		Level: s.Level, Layout: levelRules[s.Level].layout, Chunk: g.Chunk, Disks: g.disks, Used: g.Used,
		DataOffset: g.DataOffset, Device: i, DeviceUUID: randomUUID(), BadLogSize: pastSuper,
	}
	if s.Level == 0 {
		sb.Used, sb.Resync = 0, inSync
	}
	sb.Roles = roles(g.disks, len(g.sizes)-g.disks)
	bitmap := bitmapRoom(sb.Used)
	if !g.bitmap.none() {
		sb.Features |= featureBitmap
		bitmap = g.bitmap.size()
		sb.BitmapOffset = pastSuper
	}
	if s.Metadata == "1.0" {
		sb.Minor = 0
	}
	sb.SuperOffset = superOffset(sb.Minor, size)
	if sb.Minor == 0 { // data, bitmap, list of bad blocks, superblock
		room := min(bitmap+pastSuper, sb.SuperOffset-sb.Used)
		sb.DataSize = sb.SuperOffset - room
		sb.BadLogOffset = -pastSuper
		if sb.BitmapOffset != 0 {
			sb.BitmapOffset = -g.bitmap.size() - pastSuper
		}
	} else { // superblock, bitmap, list of bad blocks, data
		sb.DataSize = size/sector*sector - sb.DataOffset
		sb.BadLogOffset = pastSuper + bitmap
	}
	if s.Level == 0 {
		sb.DataSize = g.dataSize
	}
	return sb
}

// roles has a member's number in the place of its device number; unused places say spare, as those of spares do.
func roles(disks, spares int) []uint16 {
	n := (roundUp(int64(headSize+2*(disks+spares)), sector) - headSize) / 2
	r := make([]uint16, n)
	for i := range r {
		r[i] = RoleSpare
		if i < disks {
			r[i] = uint16(i)
		}
	}
	return r
}
