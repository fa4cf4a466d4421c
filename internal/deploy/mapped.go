package deploy

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"swarmboot/imagefmt"
)

// space is what bytes of the image go to: a *disk.Device or a part of one.
type space interface {
	io.ReaderAt
	io.WriterAt
	Zero(ctx context.Context, off, n int64) error
}

// part is a run of bytes of a device as a space of its own; nothing outside it can be reached.
type part struct {
	dev      space
	off, len int64
}

func (p part) bounds(off, n int64) error {
	if off < 0 || n < 0 || n > p.len || off > p.len-n {
		return fmt.Errorf("bytes %d+%d do not lie within the %d of the part", off, n, p.len)
	}
	return nil
}

// ReadAt implements io.ReaderAt.
func (p part) ReadAt(b []byte, off int64) (int, error) {
	if off >= p.len {
		return 0, io.EOF
	}
	n := min(int64(len(b)), p.len-off)
	got, err := p.dev.ReadAt(b[:n], p.off+off)
	if err == nil && n < int64(len(b)) {
		err = io.EOF
	}
	return got, err
}

// WriteAt implements io.WriterAt.
func (p part) WriteAt(b []byte, off int64) (int, error) {
	if err := p.bounds(off, int64(len(b))); err != nil {
		return 0, err
	}
	return p.dev.WriteAt(b, p.off+off)
}

// Zero makes n bytes read as zero.
func (p part) Zero(ctx context.Context, off, n int64) error {
	if err := p.bounds(off, n); err != nil {
		return err
	}
	return p.dev.Zero(ctx, p.off+off, n)
}

// segment says where a run of the image's bytes lies.
type segment struct {
	image imagefmt.Extent // in the image's address space: bytes of the disk that it was made from
	dev   space
	off   int64 // on dev
}

// stretch is a run of the image's address space with one fate: all the places that have a copy of it.
type stretch struct {
	imagefmt.Extent
	places []place
}

// place is where a stretch begins.
type place struct {
	dev space
	off int64
}

// mapped lays the address space of an image over parts of devices. It is what the swarm fetches to and serves from, so that
// pieces, hashes, resume and read-back need not know where the bytes are. A run with several places is written to
// all of them, and read only if they agree. What has no place (the old table, gaps, partitions that the layout leaves out)
// is dropped and counted; see aside. It is fetched all the same: in the tracker's chain each node takes every piece from the one before it, so
// that a node which left some out would send those behind it, with another layout or none, to the server for them. Safe for concurrent use.
type mapped struct {
	runs    []stretch // in order, without holes and overlaps, from 0 to the image's size
	aside   *aside
	dropped atomic.Int64 // bytes written or zeroed that have no place
}

// errCopies says that the copies of a run are not the same.
var errCopies = errors.New("the copies on the disks differ")

// newMapped makes a map of size bytes of image.
func newMapped(size int64, segments []segment) (*mapped, error) {
	cuts := []int64{0, size}
	for _, s := range segments {
		if s.image.Off < 0 || s.image.Len <= 0 || s.image.Off > size-s.image.Len {
			return nil, fmt.Errorf("bytes %d+%d do not lie within the image's %d", s.image.Off, s.image.Len, size)
		}
		cuts = append(cuts, s.image.Off, s.image.End())
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	m := &mapped{aside: newAside()}
	for i := 0; i+1 < len(cuts); i++ {
		run := stretch{Extent: imagefmt.Extent{Off: cuts[i], Len: cuts[i+1] - cuts[i]}}
		for _, s := range segments {
			if s.image.Off <= run.Off && run.End() <= s.image.End() {
				run.places = append(run.places, place{s.dev, s.off + run.Off - s.image.Off})
			}
		}
		m.runs = append(m.runs, run)
	}
	return m, nil
}

// walk calls f for the runs that bytes off+n lie in, each cut to them; a run's places begin where the cut does.
func (m *mapped) walk(off, n int64, f func(e imagefmt.Extent, places []place) error) error {
	if last := m.runs[len(m.runs)-1].End(); off < 0 || n < 0 || n > last || off > last-n {
		return fmt.Errorf("bytes %d+%d do not lie within the image's %d", off, n, last)
	}
	i, _ := slices.BinarySearchFunc(m.runs, off, func(r stretch, off int64) int { return cmp.Compare(r.End()-1, off) })
	for end := off + n; off < end; i++ {
		r := m.runs[i]
		e := imagefmt.Extent{Off: off, Len: min(end, r.End()) - off}
		places := make([]place, len(r.places))
		for j, p := range r.places {
			places[j] = place{p.dev, p.off + off - r.Off}
		}
		if err := f(e, places); err != nil {
			return err
		}
		off = e.End()
	}
	return nil
}

// ReadAt implements io.ReaderAt. What was dropped reads as zero, or as it was if it is kept aside.
func (m *mapped) ReadAt(b []byte, off int64) (n int, err error) {
	err = m.walk(off, int64(len(b)), func(e imagefmt.Extent, places []place) error {
		c := b[n : n+int(e.Len)]
		if len(places) == 0 {
			m.aside.read(c, e.Off)
			n += len(c)
			return nil
		}
		if err := readFull(places[0].dev, c, places[0].off); err != nil {
			return err
		}
		for _, p := range places[1:] {
			d := make([]byte, len(c))
			if err := readFull(p.dev, d, p.off); err != nil {
				return err
			}
			if !bytes.Equal(c, d) {
				return fmt.Errorf("bytes %d+%d of the image: %w", e.Off, e.Len, errCopies)
			}
		}
		n += len(c)
		return nil
	})
	return n, err
}

func readFull(r io.ReaderAt, b []byte, off int64) error {
	if n, err := r.ReadAt(b, off); n < len(b) {
		return noEOF(err)
	}
	return nil
}

// WriteAt implements io.WriterAt.
func (m *mapped) WriteAt(b []byte, off int64) (n int, err error) {
	err = m.walk(off, int64(len(b)), func(e imagefmt.Extent, places []place) error {
		c := b[n : n+int(e.Len)]
		if len(places) == 0 {
			m.dropped.Add(e.Len)
			m.aside.write(c, e.Off)
		}
		for _, p := range places {
			if _, err := p.dev.WriteAt(c, p.off); err != nil {
				return err
			}
		}
		n += len(c)
		return nil
	})
	return n, err
}

// Zero implements swarm.Target.
func (m *mapped) Zero(ctx context.Context, off, n int64) error {
	return m.walk(off, n, func(e imagefmt.Extent, places []place) error {
		if len(places) == 0 {
			m.dropped.Add(e.Len) // aside reads as zero anyhow
		}
		for _, p := range places {
			if err := p.dev.Zero(ctx, p.off, e.Len); err != nil {
				return err
			}
		}
		return nil
	})
}

// placed returns how many of the bytes have a place, and the runs of those that have none.
func (m *mapped) placed(extents []imagefmt.Extent) (n int64, without []imagefmt.Extent) {
	for _, x := range extents {
		_ = m.walk(x.Off, x.Len, func(e imagefmt.Extent, places []place) error { // extents of an index lie in the image
			if len(places) > 0 {
				n += e.Len
			} else {
				without = append(without, e)
			}
			return nil
		})
	}
	return n, without
}
