package imagefmt

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"
)

// benchSource is the disk that benchmarks work on: the raw file that SWARMBOOT_BENCH_DISK names (its blocks that are
// not zero count as used), or else 256 MiB of made-up data.
func benchSource(b *testing.B) *testSource {
	b.Helper()
	path := os.Getenv("SWARMBOOT_BENCH_DISK")
	if path == "" {
		s := &testSource{memDisk: memDisk{b: make([]byte, 256<<20)}, extents: []Extent{{0, 256 << 20}}}
		fillRandom(rand.New(rand.NewPCG(1, 1)), s.b)
		return s
	}
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // read only
	s := new(testSource)
	if s.b, err = io.ReadAll(f); err != nil {
		b.Fatal(err)
	}
	for off := 0; off < len(s.b); off += blockSize {
		n := min(blockSize, len(s.b)-off)
		if bytes.Equal(s.b[off:off+n], zeroBlock[:n]) {
			continue
		}
		if k := len(s.extents); k > 0 && s.extents[k-1].End() == int64(off) {
			s.extents[k-1].Len += int64(n)
			continue
		}
		s.extents = append(s.extents, Extent{int64(off), int64(n)})
	}
	return s
}

// BenchmarkChoice prints the table of FORMAT.md, "Choice of lengths".
func BenchmarkChoice(b *testing.B) {
	src := benchSource(b)
	out := newOutput(1 << 30)
	for _, pl := range []int64{256 << 10, 512 << 10, 1 << 20} {
		for _, fl := range []int64{64 << 10, 128 << 10, 256 << 10} {
			b.Run(fmt.Sprintf("piece=%dK/frame=%dK", pl>>10, fl>>10), func(b *testing.B) {
				for b.Loop() {
					out.b = out.b[:cap(out.b)] // what the last payload was cut to is no size to begin with: memDisk must not grow
					res, err := Write(context.Background(), out, src, "bench", WriterOptions{PieceLength: pl, FrameLength: fl})
					if err != nil {
						b.Fatal(err)
					}
					report(b, res)
				}
			})
		}
	}
}

func report(b *testing.B, res *Result) {
	b.SetBytes(res.UsedBytes)
	b.ReportMetric(float64(res.PayloadLength)/float64(res.UsedBytes), "ratio")
	b.ReportMetric(100*float64(res.PaddingBytes)/float64(res.PayloadLength), "%padding")
	b.ReportMetric(100*float64(res.IndexLength)/float64(res.PayloadLength), "%index")
}

func BenchmarkWrite(b *testing.B) {
	src := benchSource(b)
	out := newOutput(1 << 30)
	for _, layout := range []Layout{Packed, Verbatim} {
		b.Run(string(layout), func(b *testing.B) {
			for b.Loop() {
				out.b = out.b[:cap(out.b)] // what the last payload was cut to is no size to begin with: memDisk must not grow
				res, err := Write(context.Background(), out, src, "bench", WriterOptions{Layout: layout})
				if err != nil {
					b.Fatal(err)
				}
				report(b, res)
			}
		})
	}
}

// BenchmarkRestore moves pieces on one core: to the disk with and without the raw check, back, and verify.
func BenchmarkRestore(b *testing.B) {
	src := benchSource(b)
	for _, layout := range []Layout{Packed, Verbatim} {
		im := build(b, src, WriterOptions{Layout: layout})
		disk := newOutput(src.Size())
		fast, checked := NewRestorer(im.ix, disk, false), NewRestorer(im.ix, disk, true)
		for _, c := range []struct {
			name string
			do   func(piece int) error
		}{
			{"write", func(n int) error { _, err := fast.WritePiece(n, im.piece(n)); return err }},
			{"write-checked", func(n int) error { _, err := checked.WritePiece(n, im.piece(n)); return err }},
			{"verify", fast.VerifyPiece},
			{"read", func(n int) error { _, err := fast.ReadPiece(n, nil); return err }},
		} {
			b.Run(string(layout)+"/"+c.name, func(b *testing.B) {
				b.SetBytes(im.m.UsedBytes)
				for b.Loop() {
					for n := range im.ix.Pieces() {
						if err := c.do(n); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
		b.Logf("%s: %d disk writes for %d data pieces", layout, disk.calls.Load(), im.ix.Pieces()-im.ix.IndexPieces())
	}
}

func BenchmarkParseIndex(b *testing.B) {
	im := build(b, benchSource(b), WriterOptions{})
	b.SetBytes(im.m.IndexLength)
	for b.Loop() {
		if _, err := ParseIndex(im.payload[:im.m.IndexLength], im.m); err != nil {
			b.Fatal(err)
		}
	}
}
