package deploy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/deploy/deploytest"
)

// memory is a device in memory that knows its end.
type memory struct{ b []byte }

func (m memory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.b).ReadAt(p, off)
}

func (m memory) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(m.b)) {
		return 0, io.ErrShortWrite
	}
	return copy(m.b[off:], p), nil
}

func (m memory) Zero(_ context.Context, off, n int64) error {
	_, err := m.WriteAt(make([]byte, n), off)
	return err
}

func TestMappedEveryByte(t *testing.T) {
	const size = 64 << 10
	a, b, c := memory{make([]byte, size)}, memory{make([]byte, size)}, memory{make([]byte, size)}
	m, err := newMapped(size, []segment{
		{imagefmt.Extent{Off: 4096, Len: 8192}, a, 100},
		{imagefmt.Extent{Off: 20000, Len: 10000}, b, 0},
		{imagefmt.Extent{Off: 25000, Len: 20000}, part{c, 1000, 20000}, 0}, // 25000 to 30000 twice
	})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	image := make([]byte, size)
	for i := range image {
		image[i] = byte(rng.Uint32())
	}
	for off := 0; off < size; {
		n := min(1+rng.IntN(5000), size-off)
		if got, err := m.WriteAt(image[off:off+n], int64(off)); err != nil || got != n {
			t.Fatalf("write %d+%d: %d, %v", off, n, got, err)
		}
		off += n
	}
	for _, where := range []struct {
		dev      []byte
		at, from int
		n        int
	}{{a.b, 100, 4096, 8192}, {b.b, 0, 20000, 10000}, {c.b, 1000, 25000, 20000}} {
		if !bytes.Equal(where.dev[where.at:where.at+where.n], image[where.from:where.from+where.n]) {
			t.Errorf("bytes from %d of the image are not at %d", where.from, where.at)
		}
		rest := append(bytes.Clone(where.dev[:where.at]), where.dev[where.at+where.n:]...)
		if len(bytes.Trim(rest, "\x00")) > 0 {
			t.Errorf("a device was written to outside of its segment")
		}
	}
	if want := int64(size - 8192 - 25000); m.dropped.Load() != want {
		t.Errorf("%d bytes dropped, want %d", m.dropped.Load(), want)
	}
	back := make([]byte, size)
	for range 200 {
		off := rng.IntN(size)
		n := 1 + rng.IntN(size-off)
		if got, err := m.ReadAt(back[:n], int64(off)); err != nil || got != n || !bytes.Equal(back[:n], image[off:off+n]) {
			t.Fatalf("read %d+%d: %d, %v", off, n, got, err)
		}
	}
	if err := m.Zero(t.Context(), 19000, 8000); err != nil {
		t.Fatal(err)
	}
	if len(bytes.Trim(b.b[:7000], "\x00"))+len(bytes.Trim(c.b[1000:3000], "\x00")) > 0 || b.b[7000] != image[27000] {
		t.Error("not zeroed in both places, or too much")
	}
	c.b[1000+4000] ^= 1 // byte 29000 of the image: its copies differ
	if _, err := m.ReadAt(back[:1], 29000); !errors.Is(err, errCopies) {
		t.Errorf("copies that differ: %v", err)
	}
	for _, e := range []imagefmt.Extent{{Off: -1, Len: 1}, {Off: size, Len: 1}, {Off: size - 1, Len: 2}, {Off: 0, Len: 1 << 62}} {
		if _, err := newMapped(size, []segment{{e, a, 0}}); err == nil {
			t.Errorf("segment %v: no error", e)
		}
		if err := m.walk(e.Off, e.Len, nil); err == nil {
			t.Errorf("walk %v: no error", e)
		}
	}
}

// What is outside of a part is never reached, whatever is asked for.
func TestPartBounds(t *testing.T) {
	dev := memory{bytes.Repeat([]byte{7}, 1000)}
	p := part{dev, 100, 50}
	for _, off := range []int64{-1, 1, 50, 1 << 62} {
		if _, err := p.WriteAt(make([]byte, 50), off); err == nil {
			t.Errorf("write at %d: no error", off)
		}
		if err := p.Zero(t.Context(), off, 50); err == nil {
			t.Errorf("zero at %d: no error", off)
		}
	}
	if n, err := p.ReadAt(make([]byte, 60), 10); n != 40 || err != io.EOF { //nolint:errorlint // as io.ReaderAt has it
		t.Errorf("read: %d, %v", n, err)
	}
	if len(bytes.Trim(dev.b, "\x07")) > 0 {
		t.Error("the device was written to")
	}
}

// TestMappedImage puts a whole image into a map with holes, piece by piece, and reads it back: frames of which a part has no place
// are verified with what is kept aside, also when there is no room for anything else there.
func TestMappedImage(t *testing.T) {
	for _, format := range []imagefmt.Layout{imagefmt.Packed, imagefmt.Verbatim} {
		dir := t.TempDir()
		im, err := deploytest.Make(dir, "img", diskSize, format)
		if err != nil {
			t.Fatal(err)
		}
		payload, err := os.Open(filepath.Join(dir, "img.payload"))
		if err != nil {
			t.Fatal(err)
		}
		defer payload.Close()
		opened, err := imagefmt.Open(im.Manifest, payload)
		if err != nil {
			t.Fatal(err)
		}
		ix := opened.Index()
		dev := memory{make([]byte, diskSize)}
		const odd = 12345
		m, err := newMapped(diskSize, []segment{
			{imagefmt.Extent{Off: 2*mib + odd, Len: 3 * mib}, dev, 10 * mib},
			{imagefmt.Extent{Off: 9*mib + 3*odd, Len: mib}, dev, 0},
		})
		if err != nil {
			t.Fatal(err)
		}
		m.aside.most = 0
		must, err := m.partlyPlaced(ix)
		if err != nil || len(must) == 0 {
			t.Fatalf("%d extents of frames in part, %v: the test tests nothing", len(must), err)
		}
		m.aside.must = func() []imagefmt.Extent { return must }
		r := imagefmt.NewRestorer(ix, m, true)
		err = eachPiece(t.Context(), ix, func(piece int) error {
			b := make([]byte, im.Manifest.PieceSize(piece))
			if _, err := payload.ReadAt(b, int64(piece)*im.Manifest.PieceLength); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			_, err := r.WritePiece(piece, b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		var done atomic.Int64
		if err := verifyMapped(t.Context(), m, ix, &done); err != nil || done.Load() == 0 {
			t.Errorf("%s: %d bytes read back, %v", format, done.Load(), err)
		}
		dropped := int64(0)
		for _, e := range im.Used {
			_, without := m.placed([]imagefmt.Extent{e})
			for _, x := range without {
				dropped += x.Len
			}
		}
		if got := m.dropped.Load(); got > dropped || got == 0 {
			t.Errorf("%s: %d bytes dropped, %d used bytes have no place", format, got, dropped)
		}
		if kept := len(m.aside.pages) * asidePage; int64(kept) > dropped/2 {
			t.Errorf("%s: %d bytes are kept aside", format, kept)
		}
		// One wrong byte in what has a place is found.
		for _, e := range im.Used {
			if n, _ := m.placed([]imagefmt.Extent{e}); n == e.Len && n > 0 {
				flipMapped(t, m, e.Off)
				if err := verifyMapped(t.Context(), m, ix, &done); !errors.Is(err, imagefmt.ErrHash) {
					t.Errorf("%s: byte %d was changed: %v", format, e.Off, err)
				}
				break
			}
		}
	}
}

func flipMapped(t *testing.T, m *mapped, off int64) {
	t.Helper()
	b := make([]byte, 1)
	if _, err := m.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := m.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}
