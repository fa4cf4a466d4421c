// Package deploytest makes small images for tests: a disk of which every byte is
// known, with used, zero and unused parts, fast and without file systems.
package deploytest

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"swarmboot/imagefmt"
)

// Image is an image in a directory and the disk that it was made from.
type Image struct {
	Dir      string
	Manifest *imagefmt.Manifest
	Metainfo *imagefmt.Metainfo
	Disk     []byte            // the source, table not included
	Used     []imagefmt.Extent // what the image holds: all else must stay as it was on a target
}

const mib = 1 << 20

// source is a disk in memory.
type source struct {
	*bytes.Reader
	used []imagefmt.Extent
}

func (s source) Extents() []imagefmt.Extent { return s.used }

// Make writes the image name of a GPT disk of size bytes (at least 16 MiB) to dir.
func Make(dir, name string, size int64, layout imagefmt.Layout) (*Image, error) {
	im := &Image{Dir: dir, Disk: make([]byte, size)}
	im.fill()
	f, err := os.OpenFile(filepath.Join(dir, name+imagefmt.PayloadSuffix), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	res, err := imagefmt.Write(context.Background(), f, source{bytes.NewReader(im.Disk), im.Used}, name,
		imagefmt.WriterOptions{Layout: layout, PieceLength: 64 << 10, FrameLength: 64 << 10})
	if err != nil {
		return nil, err
	}
	im.Manifest = &imagefmt.Manifest{Created: time.Unix(1e9, 0).UTC(), SectorSize: 512, Table: table(size), Boot: imagefmt.Boot{Root: 2}}
	res.Fill(im.Manifest)
	return im, im.save(name, res.Metainfo)
}

// table has an ESP from 1 to 4 MiB and a root partition that ends 2 MiB before the disk does.
func table(size int64) imagefmt.Table {
	return imagefmt.Table{
		Kind: imagefmt.TableGPT, GUID: "6A1F8D0E-3B9C-4E57-9F0D-2C4B6A8E1357", BootCode: bytes.Repeat([]byte{0xEB}, 440),
		Partitions: []imagefmt.Partition{
			{Number: 1, Start: mib, Length: 3 * mib, Type: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
				UUID: "11111111-2222-4333-8444-555555555501", Label: "esp", FileSystem: "vfat"},
			{Number: 2, Start: 4 * mib, Length: size - 6*mib, Type: "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
				UUID: "11111111-2222-4333-8444-555555555502", Label: "root"}, // and no file system at all
		},
	}
}

// fill alternates runs of random, compressible, zero and unused bytes inside the partitions.
func (im *Image) fill() {
	rnd := rand.New(rand.NewPCG(1, 2))
	end := int64(len(im.Disk)) - 2*mib
	for off, kind := int64(mib), 0; off < end; kind++ {
		n := min(end-off, int64(4096*(1+rnd.IntN(120))))
		b := im.Disk[off : off+n]
		switch kind % 4 {
		case 0:
			for i := range b {
				b[i] = byte(rnd.Uint32())
			}
		case 1:
			for i := range b {
				b[i] = "swarmboot "[i%10]
			}
		}
		if kind%4 != 3 { // kind 2 is zero but used
			im.use(off, n)
		}
		off += n
	}
}

func (im *Image) use(off, n int64) {
	if last := len(im.Used) - 1; last >= 0 && im.Used[last].End() == off {
		im.Used[last].Len += n
		return
	}
	im.Used = append(im.Used, imagefmt.Extent{Off: off, Len: n})
}

// Pattern is what a target is filled with before a run: unused bytes must keep it.
const Pattern = 0xA5

// Target makes a file of size bytes, each of them Pattern.
func Target(path string, size int64) error {
	return os.WriteFile(path, bytes.Repeat([]byte{Pattern}, int(size)), 0o644)
}

// Differs returns the offset of the first byte of got that is not what a deployment onto a Target leaves, or -1:
// used bytes as on the source, unused ones still Pattern. The first and the last MiB, where tables lie, are not looked at.
func (im *Image) Differs(got []byte) int64 {
	want := bytes.Repeat([]byte{Pattern}, len(got))
	for _, e := range im.Used {
		copy(want[e.Off:e.End()], im.Disk[e.Off:e.End()])
	}
	for i := mib; i < len(got)-mib; i++ {
		if got[i] != want[i] {
			return int64(i)
		}
	}
	return -1
}
