package imagefmt

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// madeUpSource makes its bytes when they are read: 64 KiB blocks that shrink to a half, differently each, among
// some zero and some random ones.
type madeUpSource struct {
	size    int64
	extents []Extent
	text    []byte
	noise   []byte
}

func newMadeUpSource(size int64) *madeUpSource {
	s := &madeUpSource{size: size, text: make([]byte, 1<<20), noise: make([]byte, 1<<20)}
	r := rand.New(rand.NewPCG(7, 7))
	for i := 0; i < len(s.text); i += 8 {
		binary.LittleEndian.PutUint64(s.noise[i:], r.Uint64())
		binary.LittleEndian.PutUint32(s.text[i:], uint32(r.Uint64())&0x0f0f0f0f)
	}
	for off := int64(0); off < size; off += 8 << 20 {
		s.extents = append(s.extents, Extent{off, min(8<<20-8192, size-off)})
	}
	return s
}

func (s *madeUpSource) Size() int64       { return s.size }
func (s *madeUpSource) Extents() []Extent { return s.extents }

func (s *madeUpSource) ReadAt(p []byte, off int64) (int, error) {
	for n := 0; n < len(p); {
		block := (off + int64(n)) >> 16
		in := int(off+int64(n)) & 0xffff
		end := min(len(p), n+1<<16-in)
		h := uint64(block) * 0x9e3779b97f4a7c15 >> 32
		switch h % 8 {
		case 0:
			clear(p[n:end])
		case 1, 2:
			copy(p[n:end], s.noise[h%(14<<16):])
		default:
			copy(p[n:end], s.text[h%(14<<16):])
		}
		n = end
	}
	return len(p), nil
}

// nowhere is an Output that keeps nothing. What it reads back is of no use, but of the right length.
type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (nowhere) ReadAt(p []byte, _ int64) (int, error)  { return len(p), nil }
func (nowhere) Truncate(int64) error                   { return nil }

// TestWriterMemory holds the writer to its bound, with more workers than cores and the longest pieces and frames.
func TestWriterMemory(t *testing.T) {
	size := int64(2 << 30)
	if testing.Short() {
		size = 384 << 20
	}
	for name, o := range map[string]WriterOptions{
		"defaults": {Workers: 64},
		"longest":  {Workers: 64, PieceLength: MaxPieceLength, FrameLength: MaxFrameLength},
		"verbatim": {Workers: 64, Layout: Verbatim, PieceLength: MaxPieceLength},
	} {
		t.Run(name, func(t *testing.T) {
			src := newMadeUpSource(size)
			runtime.GC()
			var start, now runtime.MemStats
			runtime.ReadMemStats(&start)
			peak, calls := uint64(0), 0
			o.Progress = func(done, total int64) {
				if calls++; calls%64 == 0 {
					runtime.ReadMemStats(&now)
					peak = max(peak, now.HeapInuse+now.StackInuse)
				}
			}
			if _, err := Write(context.Background(), nowhere{}, src, "big", o); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d MiB source: at most %d MiB in use", size>>20, peak>>20)
			if peak == 0 || peak-min(peak, start.HeapInuse) > 256<<20 {
				t.Errorf("used %d MiB, the bound is 256", (peak-start.HeapInuse)>>20)
			}
		})
	}
}

// TestPadding holds the waste to 2 % on data that packs well, badly, evenly and not at all.
func TestPadding(t *testing.T) {
	const size = 32 << 20
	r := rand.New(rand.NewPCG(3, 3))
	contents := map[string]func(b []byte){
		"mixed": func(b []byte) { fillRandom(r, b) },
		"noise": func(b []byte) {
			for i := range b {
				b[i] = byte(r.Uint32())
			}
		},
		"even": func(b []byte) {
			for i := range b {
				b[i] = "a quick brown fox"[i%17] ^ byte(r.Uint32()>>28&^7)
			}
		},
		"noise and even": func(b []byte) {
			for i := range b {
				if b[i] = byte(r.Uint32()); i>>20&1 == 0 {
					b[i] = "a quick brown fox"[i%17] ^ b[i]&^0xf7
				}
			}
		},
	}
	for name, fill := range contents {
		src := &testSource{memDisk: memDisk{b: make([]byte, size)}, extents: []Extent{{0, size}}}
		fill(src.b)
		for _, o := range []WriterOptions{{}, {FrameLength: 64 << 10}, {PieceLength: 1 << 20}, {Layout: Verbatim}} {
			im := build(t, src, o)
			index := int64(im.m.IndexPieces())*im.m.PieceLength - im.m.IndexLength
			waste := 100 * float64(im.res.PaddingBytes-index) / float64(im.m.PayloadLength)
			t.Logf("%s, %+v: payload %.3f of raw, padding %.2f %%", name, o, float64(im.m.PayloadLength)/size, waste)
			if waste > 2 || o.Layout == Verbatim && waste != 0 {
				t.Errorf("%s, %+v: %.2f %% padding", name, o, waste)
			}
		}
	}
}

type failingSource struct{ *testSource }

func (s failingSource) ReadAt(p []byte, off int64) (int, error) {
	if off > 3<<20 {
		return 0, errDisk
	}
	return s.testSource.ReadAt(p, off)
}

type failingOutput struct{ *memDisk }

func (failingOutput) WriteAt([]byte, int64) (int, error) { return 0, errDisk }

func TestWriteErrors(t *testing.T) {
	src := randomSource(1, 8<<20, 4096)
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	bad := func(e ...Extent) Source { return &testSource{memDisk: memDisk{b: make([]byte, 1000)}, extents: e} }
	for name, c := range map[string]struct {
		ctx  context.Context
		out  Output
		src  Source
		name string
		o    WriterOptions
		want error
	}{
		"source":         {src: failingSource{src}, want: errDisk},
		"output":         {out: failingOutput{newOutput(1)}, want: errDisk},
		"canceled":       {ctx: canceled, want: context.Canceled},
		"name":           {name: "a/b", want: ErrFormat},
		"layout":         {o: WriterOptions{Layout: "x"}, want: ErrFormat},
		"piece length":   {o: WriterOptions{PieceLength: 100000}, want: ErrFormat},
		"frame length":   {o: WriterOptions{FrameLength: 1 << 20}, want: ErrFormat},
		"extents beyond": {src: bad(Extent{0, 1001}), want: ErrRange},
		"extents twice":  {src: bad(Extent{0, 10}, Extent{9, 10}), want: ErrOverlap},
		"empty extent":   {src: bad(Extent{0, 0}), want: ErrRange},
		"no disk":        {src: &testSource{}, want: ErrRange},
	} {
		t.Run(name, func(t *testing.T) {
			if c.ctx == nil {
				c.ctx = context.Background()
			}
			if c.out == nil {
				c.out = newOutput(64 << 20)
			}
			if c.src == nil {
				c.src = src
			}
			if c.name == "" {
				c.name = "x"
			}
			if _, err := Write(c.ctx, c.out, c.src, c.name, c.o); !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
		})
	}
}

// TestHugeImages looks at the plan for images that no test can write.
func TestHugeImages(t *testing.T) {
	for _, used := range []int64{1 << 30, 100 << 30, 1 << 40} {
		src := &madeUpSource{size: used, extents: []Extent{{0, used}}}
		p, err := newPlan(src, WriterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if pieces := used / p.pieceLength; pieces > wantPieces && p.pieceLength < MaxPieceLength {
			t.Errorf("%d GiB: %d pieces", used>>30, pieces)
		}
		t.Logf("%d GiB: pieces of %d KiB, frames of %d KiB, room for an index of %d KiB", used>>30, p.pieceLength>>10, p.frameLength>>10, p.reserve*p.pieceLength>>10)
		if p.reserve*p.pieceLength > MaxIndexLength+p.pieceLength {
			t.Errorf("%d GiB: room for an index of %d bytes", used>>30, p.reserve*p.pieceLength)
		}
	}
}

// TestManyZeroRuns: on a disk with a great many holes only the long ones are left out, so that the index stays within what readers take.
func TestManyZeroRuns(t *testing.T) {
	const unit = minZeroRun
	for _, c := range []struct {
		before int64 // zero runs so far
		least  int64
	}{
		{0, unit}, {manyZeroRuns - 1, unit}, {manyZeroRuns, 2 * unit}, {manyZeroRuns + zeroRunStep - 1, 2 * unit},
		{manyZeroRuns + zeroRunStep, 4 * unit}, {MaxExtents, 1 << 56},
	} {
		w := &walker{zeroCount: c.before}
		if got := w.leastZeroRun(); got != c.least {
			t.Errorf("after %d runs: runs of %d bytes, want %d", c.before, got, c.least)
		}
	}
	for _, long := range []int64{unit, 2 * unit} {
		w := &walker{
			frameLength: DefaultFrameLength, buffers: &bufferPool{size: DefaultFrameLength, free: make(chan []byte, 1)},
			zeroCount: manyZeroRuns, emit: func(*job) error { return nil },
		}
		w.zero = Extent{0, long}
		if err := w.flushZero(); err != nil {
			t.Fatal(err)
		}
		if cut := w.zeroCount > manyZeroRuns; cut != (long > unit) {
			t.Errorf("a run of %d bytes after %d others: cut out %v", long, manyZeroRuns, cut)
		}
	}
}

// TestWriterExtents: the writer refuses to make what no reader takes.
func TestWriterExtents(t *testing.T) {
	src := randomSource(1, 1<<20, 4096)
	p, err := newPlan(src, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := newSink(newOutput(1), p, &bufferPool{free: make(chan []byte, 1)})
	s.work, s.extents = make(chan sinkPiece, 1), MaxExtents-1
	if err := s.place(t.Context(), []*packFrame{stored(Extent{0, 8}, Extent{16, 8})}, true); !errors.Is(err, ErrLimit) {
		t.Errorf("extents of frames: %v", err)
	}
	if checkExtents(MaxExtents-1, 1) != nil || !errors.Is(checkExtents(MaxExtents-1, 2), ErrLimit) {
		t.Error("extents of frames and zeros together")
	}
}
