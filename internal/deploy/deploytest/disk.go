package deploytest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"swarmboot/imagefmt"
)

// fileSource is a disk in a sparse file: what is no hole is used.
type fileSource struct {
	*os.File
	size int64
	used []imagefmt.Extent
}

func (s *fileSource) Size() int64                { return s.size }
func (s *fileSource) Extents() []imagefmt.Extent { return s.used }

// FromDisk writes the image name of the disk in a sparse file to dir: every byte outside its tables that is no hole. Disk
// and Used of the result stay empty.
func FromDisk(dir, name, disk string, t imagefmt.Table) (*Image, error) {
	src, err := openSparse(disk, t)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	f, err := os.OpenFile(filepath.Join(dir, name+imagefmt.PayloadSuffix), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	res, err := imagefmt.Write(context.Background(), f, src, name, imagefmt.WriterOptions{Layout: imagefmt.Packed, PieceLength: 256 << 10, FrameLength: 256 << 10})
	if err != nil {
		return nil, err
	}
	im := &Image{Dir: dir, Manifest: &imagefmt.Manifest{Created: time.Unix(1e9, 0).UTC(), SectorSize: 512, Table: t}}
	if len(t.Partitions) > 0 {
		im.Manifest.Boot.Root = t.Partitions[len(t.Partitions)-1].Number
	}
	res.Fill(im.Manifest)
	return im, im.save(name, res.Metainfo)
}

// save writes manifest and metainfo beside the payload.
func (im *Image) save(name string, metainfo []byte) (err error) {
	if im.Metainfo, err = imagefmt.ParseMetainfo(metainfo); err != nil {
		return err
	}
	manifest, err := im.Manifest.Marshal()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(im.Dir, name+".torrent"), metainfo, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(im.Dir, name+".json"), manifest, 0o644)
}

// openSparse lists the data of a sparse file; of a disk with a table only what lies in its partitions.
func openSparse(path string, t imagefmt.Table) (*fileSource, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s := &fileSource{File: f, size: fi.Size()}
	spans := []imagefmt.Extent{{Off: 0, Len: s.size}}
	if t.Kind != imagefmt.TableNone {
		spans = nil
		for _, p := range t.Partitions {
			spans = append(spans, imagefmt.Extent{Off: p.Start, Len: p.Length})
		}
	}
	for _, span := range spans {
		if err := s.scan(span); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return s, nil
}

func (s *fileSource) scan(span imagefmt.Extent) error {
	for off := span.Off; off < span.End(); {
		data, err := s.Seek(off, unix.SEEK_DATA)
		if errors.Is(err, syscall.ENXIO) || (err == nil && data >= span.End()) {
			return nil
		}
		if err != nil {
			return err
		}
		hole, err := s.Seek(data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		hole = min(hole, span.End())
		s.used = append(s.used, imagefmt.Extent{Off: data, Len: hole - data})
		off = hole
	}
	return nil
}

// Place copies the data of a sparse file into another one, at an offset, and leaves holes holes.
func Place(src, dst string, offset int64) error {
	s, err := openSparse(src, imagefmt.Table{Kind: imagefmt.TableNone})
	if err != nil {
		return err
	}
	defer s.Close()
	d, err := os.OpenFile(dst, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	zeros := make([]byte, 4096)
	for _, e := range s.used {
		b := make([]byte, e.Len)
		if _, err := s.ReadAt(b, e.Off); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for i := 0; i < len(b); i += len(zeros) {
			chunk := b[i:min(i+len(zeros), len(b))]
			if bytes.Equal(chunk, zeros[:len(chunk)]) {
				continue
			}
			if _, err := d.WriteAt(chunk, offset+e.Off+int64(i)); err != nil {
				return err
			}
		}
	}
	return nil
}
