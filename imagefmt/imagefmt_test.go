package imagefmt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// memDisk is a disk or payload in memory. It counts the bytes written to every offset when told to.
type memDisk struct {
	b      []byte
	writes []uint8 // per byte, when not nil
	calls  atomic.Int64
}

func (d *memDisk) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(d.b)) {
		return 0, io.EOF
	}
	n := copy(p, d.b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (d *memDisk) WriteAt(p []byte, off int64) (int, error) {
	if need := off + int64(len(p)); need > int64(len(d.b)) {
		if d.writes != nil {
			return 0, errors.New("write beyond the end of the disk")
		}
		d.b = append(d.b, make([]byte, need-int64(len(d.b)))...)
	}
	d.calls.Add(1)
	if d.writes != nil {
		for i := range p {
			d.writes[off+int64(i)]++
		}
	}
	return copy(d.b[off:], p), nil
}

func (d *memDisk) Truncate(n int64) error {
	d.b = d.b[:n]
	return nil
}

// newOutput is a memDisk that need not grow, so that several can write to it.
func newOutput(size int64) *memDisk { return &memDisk{b: make([]byte, size)} }

type testSource struct {
	memDisk
	extents []Extent
}

func (s *testSource) Size() int64       { return int64(len(s.b)) }
func (s *testSource) Extents() []Extent { return s.extents }

// randomSource makes a disk with extents of many sizes and contents: text-like, random, constant and zero.
func randomSource(seed uint64, size int64, grain int64) *testSource {
	r := rand.New(rand.NewPCG(seed, 1))
	s := &testSource{memDisk: memDisk{b: make([]byte, size)}}
	fillRandom(r, s.b)
	for off := int64(0); off < size; {
		off += r.Int64N(8) * grain * r.Int64N(2)
		n := (1 + r.Int64N(1+r.Int64N(200))) * grain
		if off+n > size {
			break
		}
		s.extents = append(s.extents, Extent{off, n})
		off += n
	}
	return s
}

func fillRandom(r *rand.Rand, b []byte) {
	words := strings.Fields("the quick brown fox jumps over lazy dogs while seven wizards pack a box of liquor jugs")
	for len(b) > 0 {
		n := min(len(b), 512*(1+r.IntN(600)))
		part := b[:n]
		switch r.IntN(6) {
		case 0: // zero
		case 1:
			for i := range part {
				part[i] = byte(r.Uint32())
			}
		case 2:
			c := byte(r.Uint32())
			for i := range part {
				part[i] = c
			}
		default:
			for i := 0; i < len(part); {
				i += copy(part[i:], fmt.Sprintf("%s %d ", words[r.IntN(len(words))], r.IntN(1000)))
			}
		}
		b = b[n:]
	}
}

// made is an image built in memory.
type made struct {
	src     *testSource
	m       *Manifest
	mi      *Metainfo
	res     *Result
	payload []byte
	ix      *Index
}

func build(t testing.TB, src *testSource, o WriterOptions) *made {
	t.Helper()
	out := newOutput(2*src.Size() + 2*max(o.PieceLength, 1<<20))
	res, err := Write(context.Background(), out, src, "test", o)
	if err != nil {
		t.Fatal(err)
	}
	m := &Manifest{SectorSize: 512, Created: time.Unix(1700000000, 0).UTC(), Table: Table{Kind: TableNone}}
	res.Fill(m)
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if m, err = ParseManifest(b); err != nil {
		t.Fatal(err)
	}
	mi, err := ParseMetainfo(res.Metainfo)
	if err != nil {
		t.Fatal(err)
	}
	if err := mi.Check(m); err != nil {
		t.Fatal(err)
	}
	ix, err := ParseIndex(out.b[:m.IndexLength:m.IndexLength], m)
	if err != nil {
		t.Fatal(err)
	}
	return &made{src: src, m: m, mi: mi, res: res, payload: out.b, ix: ix}
}

func (im *made) piece(n int) []byte {
	off := int64(n) * im.m.PieceLength
	return im.payload[off : off+im.m.PieceSize(n)]
}

// checkRestore writes the image to a disk full of 0xA5 and looks at every byte: used ones are the source's and written
// once, all others untouched; then makes every piece again from that disk.
func (im *made) checkRestore(t testing.TB) {
	t.Helper()
	size := im.m.MinDiskSize
	disk := &memDisk{b: bytes.Repeat([]byte{0xA5}, int(size)), writes: make([]uint8, size)}
	r := NewRestorer(im.ix, disk, true)
	var raw int64
	for n := range im.ix.Pieces() {
		k, err := r.WritePiece(n, im.piece(n))
		if err != nil {
			t.Fatal(err)
		}
		raw += k
	}
	if raw != im.m.UsedBytes {
		t.Fatalf("wrote %d raw bytes, the manifest says %d", raw, im.m.UsedBytes)
	}
	for _, z := range im.ix.Zero() {
		for i := z.Off; i < z.End(); i++ {
			disk.writes[i]++
			disk.b[i] = 0
		}
	}
	im.checkBytes(t, disk)
	var buf []byte
	for n := range im.ix.Pieces() {
		got, err := r.ReadPiece(n, buf)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, im.piece(n)) {
			t.Fatalf("piece %d made again differs", n)
		}
		if err := r.VerifyPiece(n); err != nil {
			t.Fatal(err)
		}
		buf = got
	}
}

func (im *made) checkBytes(t testing.TB, disk *memDisk) {
	t.Helper()
	used := make([]bool, len(disk.b))
	for _, e := range im.src.extents {
		for i := e.Off; i < e.End(); i++ {
			used[i] = true
		}
	}
	for i, u := range used {
		want, times := byte(0xA5), uint8(0)
		if u {
			want, times = im.src.b[i], 1
		}
		if disk.b[i] != want || disk.writes[i] != times {
			t.Fatalf("disk byte %d: %#x, written %d times; want %#x, %d times", i, disk.b[i], disk.writes[i], want, times)
		}
	}
}

var testOptions = []WriterOptions{
	{},
	{Layout: Verbatim},
	{PieceLength: 16 << 10, FrameLength: 4 << 10},
	{PieceLength: 64 << 10, FrameLength: 64 << 10, Workers: 3},
	{PieceLength: 1 << 20, FrameLength: 256 << 10},
	{PieceLength: 4 << 20, FrameLength: 1 << 20},
	{Layout: Verbatim, PieceLength: 16 << 10},
	{Layout: Verbatim, PieceLength: 4 << 20},
}

func TestRoundTrip(t *testing.T) {
	for i, o := range testOptions {
		for _, grain := range []int64{512, 4096, 3} {
			t.Run(fmt.Sprintf("%s-%dK-%dK-%d", o.Layout, o.PieceLength>>10, o.FrameLength>>10, grain), func(t *testing.T) {
				size := int64(3 << 20)
				if grain == 3 {
					size = 1 << 20
				}
				im := build(t, randomSource(uint64(i)*10+uint64(grain), size, grain), o)
				im.checkRestore(t)
				checkReader(t, im)
			})
		}
	}
}

// checkReader reads random ranges through Image and verifies every piece.
func checkReader(t testing.TB, im *made) {
	t.Helper()
	image, err := Open(im.m, bytes.NewReader(im.payload))
	if err != nil {
		t.Fatal(err)
	}
	if err := image.VerifyPieces(context.Background(), im.mi, nil); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, im.m.DiskSize)
	for _, e := range im.src.extents {
		copy(want[e.Off:e.End()], im.src.b[e.Off:])
	}
	got, err := io.ReadAll(io.NewSectionReader(image, 0, im.m.DiskSize))
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("image read through differs from its source (%v)", err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		off := r.Int64N(im.m.DiskSize)
		p := make([]byte, r.Int64N(100000)+1)
		n, err := image.ReadAt(p, off)
		if err != nil && !errors.Is(err, io.EOF) || int64(n) != min(int64(len(p)), im.m.DiskSize-off) {
			t.Fatalf("ReadAt %d+%d: %d, %v", off, len(p), n, err)
		}
		if !bytes.Equal(p[:n], want[off:off+int64(n)]) {
			t.Fatalf("ReadAt %d+%d differs", off, len(p))
		}
	}
}

func TestSmallSources(t *testing.T) {
	var tiny []Extent // more than a frame, and in verbatim more than a piece's frames may hold together
	for off := int64(0); off < 1<<20; off += 16 {
		tiny = append(tiny, Extent{off, 5})
	}
	for name, extents := range map[string][]Extent{
		"tiny": tiny, "empty": nil, "one byte": {{5, 1}}, "all zero": {{1 << 20, 1 << 20}}, "neighbors": {{0, 4096}, {4096, 4096}, {8192, 100}},
	} {
		t.Run(name, func(t *testing.T) {
			src := &testSource{memDisk: memDisk{b: make([]byte, 4<<20)}, extents: extents}
			fillRandom(rand.New(rand.NewPCG(9, 9)), src.b[:1<<20])
			src.b[5] = 7
			for _, layout := range []Layout{Packed, Verbatim} {
				im := build(t, src, WriterOptions{Layout: layout})
				im.checkRestore(t)
				checkReader(t, im)
			}
		})
	}
}

func TestSameBytesOnOneCoreOrMany(t *testing.T) {
	for _, o := range testOptions {
		src := randomSource(42, 8<<20, 4096)
		var first *made
		for _, workers := range []int{1, 2, 16} {
			o.Workers = workers
			im := build(t, src, o)
			if first == nil {
				first = im
				continue
			}
			if !bytes.Equal(im.payload, first.payload) || im.m.InfoHash != first.m.InfoHash {
				t.Fatalf("%+v: another payload than with one worker", o)
			}
		}
	}
}
