package imagesrc

import (
	"bytes"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"swarmboot/internal/imagesrc/extfs"
	"swarmboot/internal/imagesrc/fat"
	"swarmboot/internal/imagesrc/swap"
	"swarmboot/internal/imagesrc/volume"
)

// sparse is a disk of size bytes that has data at its start only.
type sparse struct {
	data []byte
	size int64
}

func (s sparse) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= s.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), s.size-off))
	clear(p[:n])
	if off < int64(len(s.data)) {
		copy(p[:n], s.data[off:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// head reads the first n bytes of a file, less the zeros at their end.
func head(f *testing.F, path string, n int) []byte {
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	return bytes.TrimRight(b[:min(n, len(b))], "\x00")
}

const fuzzSize = 16 * mib

// fuzzReader checks that a reader neither panics nor returns extents outside its partition.
func fuzzReader(f *testing.F, read volume.Reader) {
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := read(sparse{data, fuzzSize}, fuzzSize)
		if err != nil || in.Opaque != "" || in.Dirty != "" {
			return
		}
		if in.Size < 0 || in.Size > fuzzSize {
			t.Fatalf("it spans %d bytes of %d", in.Size, fuzzSize)
		}
		end := int64(0)
		for _, e := range in.Extents {
			if e.Off < end || e.Len <= 0 || e.End() > in.Size {
				t.Fatalf("extent %+v after byte %d of %d", e, end, in.Size)
			}
			end = e.End()
		}
	})
}

func FuzzExt(f *testing.F) {
	for _, seed := range []string{"testdata/ext2.img", "testdata/ext4.img"} {
		f.Add(head(f, seed, fuzzSize))
	}
	fuzzReader(f, extfs.Read)
}

func FuzzFAT(f *testing.F) {
	for _, seed := range []string{"testdata/fat12.img", "testdata/fat16.img", "testdata/fat32.img"} {
		f.Add(head(f, seed, fuzzSize))
	}
	fuzzReader(f, fat.Read)
}

func FuzzSwap(f *testing.F) {
	f.Add(head(f, "testdata/swap.img", fuzzSize))
	fuzzReader(f, swap.Read)
}

// FuzzTable runs the whole scan, so that GPT, MBR and EBRs and go-diskfs behind them see hostile input.
func FuzzTable(f *testing.F) {
	for _, seed := range []string{"testdata/gpt.img", "testdata/mbr.img"} {
		f.Add(head(f, seed, fuzzSize))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := sparse{data, fuzzSize}
		d := &disk{path: "fuzz", r: r, size: r.size, sector: 512, nextData: func(off int64) (int64, error) {
			if off >= int64(len(data)) {
				return 0, unix.ENXIO
			}
			return off, nil
		}}
		if d.scan() == nil {
			checkExtents(t, &Source{size: d.size, extents: d.extents})
		}
	})
}
