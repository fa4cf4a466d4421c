package imagefmt

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // BEP 3
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"testing"
)

// badDisk fails, or writes short, at one byte.
type badDisk struct {
	*memDisk
	at    int64
	short bool
}

var errDisk = errors.New("medium error")

func (d *badDisk) WriteAt(p []byte, off int64) (int, error) {
	if off <= d.at && d.at < off+int64(len(p)) {
		n, _ := d.memDisk.WriteAt(p[:d.at-off], off)
		if d.short {
			return n, nil
		}
		return n, errDisk
	}
	return d.memDisk.WriteAt(p, off)
}

func TestDiskErrorsAreReported(t *testing.T) {
	for _, layout := range []Layout{Packed, Verbatim} {
		im := build(t, randomSource(3, 2<<20, 4096), WriterOptions{Layout: layout})
		frames, err := im.ix.Frames(im.ix.IndexPieces())
		if err != nil {
			t.Fatal(err)
		}
		at := frames[0].Extents[0].End() - 1
		for _, short := range []bool{false, true} {
			d := &badDisk{memDisk: newOutput(im.m.DiskSize), at: at, short: short}
			_, err := NewRestorer(im.ix, d, true).WritePiece(im.ix.IndexPieces(), im.piece(im.ix.IndexPieces()))
			var verify *VerifyError
			if err == nil || errors.As(err, &verify) || !short && !errors.Is(err, errDisk) || !strings.Contains(err.Error(), " at ") {
				t.Errorf("%s, short %v: %v", layout, short, err)
			}
		}
	}
}

func TestCorruptPieceIsNotWritten(t *testing.T) {
	for _, layout := range []Layout{Packed, Verbatim} {
		im := build(t, randomSource(4, 4<<20, 4096), WriterOptions{Layout: layout, FrameLength: 64 << 10})
		piece := im.ix.IndexPieces()
		frames, err := im.ix.Frames(piece)
		if err != nil {
			t.Fatal(err)
		}
		for i := range frames {
			f := &frames[i]
			data := bytes.Clone(im.piece(piece))
			data[f.Off+f.Len/2] ^= 0x10
			disk := &memDisk{b: make([]byte, im.m.MinDiskSize), writes: make([]uint8, im.m.MinDiskSize)}
			_, err := NewRestorer(im.ix, disk, true).WritePiece(piece, data)
			var verify *VerifyError
			if !errors.As(err, &verify) || verify.Piece != piece || verify.Extent != f.Extents[0] {
				t.Fatalf("%s, frame %d: %v", layout, i, err)
			}
			for _, e := range f.Extents {
				if !allZero(disk.b[e.Off:e.End()]) {
					t.Fatalf("%s, frame %d was written", layout, i)
				}
			}
		}
	}
}

func TestChangedDiskIsSeen(t *testing.T) {
	im := build(t, randomSource(6, 2<<20, 4096), WriterOptions{})
	piece := im.ix.Pieces() - 1
	disk := newOutput(im.m.DiskSize)
	r := NewRestorer(im.ix, disk, false)
	if _, err := r.WritePiece(piece, im.piece(piece)); err != nil {
		t.Fatal(err)
	}
	frames, _ := im.ix.Frames(piece)
	f := frames[len(frames)-1]
	disk.b[f.Extents[len(f.Extents)-1].Off] ^= 1
	var verify *VerifyError
	if err := r.VerifyPiece(piece); !errors.As(err, &verify) || verify.Extent != f.Extents[0] || !errors.Is(err, ErrHash) {
		t.Errorf("VerifyPiece: %v", err)
	}
	if _, err := r.ReadPiece(piece, nil); !errors.Is(err, ErrHash) {
		t.Errorf("ReadPiece: %v", err)
	}
	short := NewRestorer(im.ix, &memDisk{b: disk.b[:f.Extents[0].Off+1]}, false)
	if err := short.VerifyPiece(piece); err == nil || errors.As(err, &verify) && errors.Is(err, ErrHash) {
		t.Errorf("short disk: %v", err)
	}
}

func TestWrongPieces(t *testing.T) {
	im := build(t, randomSource(7, 2<<20, 4096), WriterOptions{})
	disk := newOutput(im.m.DiskSize)
	r := NewRestorer(im.ix, disk, true)
	for name, c := range map[string]struct {
		piece int
		data  []byte
		want  error
	}{
		"negative": {-1, nil, ErrRange}, "beyond": {im.ix.Pieces(), nil, ErrRange},
		"short":       {1, im.piece(1)[1:], ErrMismatch},
		"other index": {0, make([]byte, len(im.piece(0))), ErrHash},
	} {
		if _, err := r.WritePiece(c.piece, c.data); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for _, piece := range []int{-1, im.ix.Pieces()} {
		if _, err := r.ReadPiece(piece, nil); !errors.Is(err, ErrRange) {
			t.Errorf("ReadPiece %d: %v", piece, err)
		}
		if err := r.VerifyPiece(piece); !errors.Is(err, ErrRange) {
			t.Errorf("VerifyPiece %d: %v", piece, err)
		}
	}
	if disk.calls.Load() != 0 {
		t.Error("something was written")
	}
}

// TestNeighborsAreWrittenTogether: a disk used from end to end takes few writes a piece.
func TestNeighborsAreWrittenTogether(t *testing.T) {
	src := randomSource(8, 4<<20, 4096)
	src.extents = []Extent{{0, 4 << 20}}
	for _, layout := range []Layout{Packed, Verbatim} {
		im := build(t, src, WriterOptions{Layout: layout, FrameLength: 16 << 10, PieceLength: 1 << 20})
		disk := newOutput(im.m.DiskSize)
		r := NewRestorer(im.ix, disk, false)
		frames := 0
		for n := im.ix.IndexPieces(); n < im.ix.Pieces(); n++ {
			f, _ := im.ix.Frames(n)
			frames += len(f)
			if _, err := r.WritePiece(n, im.piece(n)); err != nil {
				t.Fatal(err)
			}
		}
		if calls := int(disk.calls.Load()); layout == Packed && calls > frames/3 {
			t.Errorf("%s: %d writes for %d frames", layout, calls, frames)
		}
	}
}

func TestRestoreAtOnce(t *testing.T) {
	im := build(t, randomSource(10, 6<<20, 4096), WriterOptions{PieceLength: 64 << 10, FrameLength: 64 << 10})
	disk := newOutput(im.m.DiskSize)
	r := NewRestorer(im.ix, disk, true)
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for n := g; n < im.ix.Pieces(); n += 16 {
				if _, err := r.WritePiece(n, im.piece(n)); err != nil {
					t.Error(err)
					return
				}
				if got, err := r.ReadPiece(n, nil); err != nil || !bytes.Equal(got, im.piece(n)) {
					t.Errorf("piece %d: %v", n, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestVerifyPiecesFindsCorruption(t *testing.T) {
	im := build(t, randomSource(11, 4<<20, 4096), WriterOptions{})
	for _, at := range []int{0, len(im.payload) / 2, len(im.payload) - 1} {
		payload := bytes.Clone(im.payload)
		image, err := Open(im.m, bytes.NewReader(payload))
		if err != nil {
			t.Fatal(err)
		}
		payload[at] ^= 1
		var verify *VerifyError
		err = image.VerifyPieces(context.Background(), im.mi, nil)
		if want := at / int(im.m.PieceLength); !errors.As(err, &verify) || verify.Piece != want {
			t.Errorf("byte %d: %v, want piece %d", at, err, want)
		}
	}
	image, _ := Open(im.m, bytes.NewReader(im.payload))
	calls := 0
	if err := image.VerifyPieces(context.Background(), im.mi, func(done, total int) {
		calls++
		if done != calls || total != im.ix.Pieces() {
			t.Errorf("progress %d of %d at call %d", done, total, calls)
		}
	}); err != nil || calls != im.ix.Pieces() {
		t.Errorf("%d calls, %v", calls, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := image.VerifyPieces(ctx, im.mi, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// resum gives the first frame another SHA-256 in the index, and all that depends on it: what a writer with bad memory makes.
func (im *made) resum(t *testing.T) {
	t.Helper()
	frames, err := im.ix.Frames(im.ix.IndexPieces())
	if err != nil {
		t.Fatal(err)
	}
	im.payload = bytes.Clone(im.payload)
	at := bytes.Index(im.payload, frames[0].SHA256[:])
	im.payload[at] ^= 1
	index := im.payload[:im.m.IndexLength:im.m.IndexLength]
	im.mi.IndexSHA256 = sha256.Sum256(index)
	sum := sha1.Sum(im.piece(0))
	im.mi.Pieces = append(sum[:], im.mi.Pieces[len(sum):]...)
	im.mi.encodeInfo()
	im.m.IndexSHA256, im.m.InfoHash = hexString(im.mi.IndexSHA256[:]), hexString(im.mi.InfoHash[:])
	if im.ix, err = ParseIndex(index, im.m); err != nil {
		t.Fatal(err)
	}
}

// Every SHA-1 is right and one SHA-256 of raw bytes is not: the raw ones are looked at too.
func TestRawHashesAreVerified(t *testing.T) {
	for _, layout := range []Layout{Packed, Verbatim} {
		im := build(t, randomSource(12, 4<<20, 4096), WriterOptions{Layout: layout})
		im.resum(t)
		image, err := Open(im.m, bytes.NewReader(im.payload))
		if err != nil {
			t.Fatal(err)
		}
		piece := im.ix.IndexPieces()
		frames, _ := im.ix.Frames(piece)
		at := frames[0].Extents[0]
		_, werr := NewRestorer(im.ix, newOutput(im.m.DiskSize), true).WritePiece(piece, im.piece(piece))
		_, rerr := image.ReadAt(make([]byte, 1), at.Off)
		for what, err := range map[string]error{
			"VerifyPieces": image.VerifyPieces(context.Background(), im.mi, nil), "WritePiece": werr, "ReadAt": rerr,
		} {
			var verify *VerifyError
			if !errors.As(err, &verify) || verify.Piece != piece || verify.Extent != at || !errors.Is(err, ErrHash) {
				t.Errorf("%s, %s: %v", layout, what, err)
			}
		}
	}
}

// TestPaddingIsVerified: every hash is right, but what must be zero is not: no node could make such a piece again.
func TestPaddingIsVerified(t *testing.T) {
	for _, where := range []string{"index", "data"} {
		im := build(t, randomSource(12, 4<<20, 4096), WriterOptions{})
		piece, end := im.ix.IndexPieces()-1, im.m.IndexLength%im.m.PieceLength
		for where == "data" {
			piece++
			frames, err := im.ix.Frames(piece)
			if err != nil {
				t.Fatal(err)
			}
			last := frames[len(frames)-1]
			if end = last.Off + last.Len; end < im.ix.PieceSize(piece) {
				break
			}
		}
		im.payload = bytes.Clone(im.payload)
		for _, at := range []int64{end, im.ix.PieceSize(piece) - 1} {
			b := im.piece(piece)
			b[at] ^= 1
			sum := sha1.Sum(b)
			copy(im.mi.Pieces[piece*len(sum):], sum[:])
			im.mi.encodeInfo()
			im.m.InfoHash = hexString(im.mi.InfoHash[:])
			image, err := Open(im.m, bytes.NewReader(im.payload))
			if err != nil {
				t.Fatal(err)
			}
			var verify *VerifyError
			if err := image.VerifyPieces(t.Context(), im.mi, nil); !errors.As(err, &verify) || verify.Piece != piece || !errors.Is(err, ErrFormat) {
				t.Errorf("%s, byte %d of piece %d: %v", where, at, piece, err)
			}
			b[at] ^= 1
		}
	}
}
