package imagefmt

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // BEP 3
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Image reads a payload: any raw range of the disk, or every piece to verify it. Safe for concurrent use.
type Image struct {
	m       *Manifest
	ix      *Index
	payload io.ReaderAt

	once sync.Once
	runs []diskRun
	err  error

	mu    sync.Mutex
	cache []cachedFrame // last used first
}

// diskRun is an extent of a frame, for the search by disk offset.
type diskRun struct {
	off    int64
	len    int32
	piece  int32
	frame  int32
	rawOff int32 // of the extent in the frame's raw bytes
}

type cachedFrame struct {
	piece, frame int32
	raw          []byte
}

// cachedFrames bounds the unpacked frames that an Image keeps (at most 1 MiB each).
const cachedFrames = 8

// Open reads and checks the index at the front of a payload.
func Open(m *Manifest, payload io.ReaderAt) (*Image, error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	b := make([]byte, m.IndexLength)
	if err := readFull(payload, b, 0); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	ix, err := ParseIndex(b, m)
	if err != nil {
		return nil, err
	}
	return &Image{m: m, ix: ix, payload: payload}, nil
}

// Index is the image's index.
func (im *Image) Index() *Index { return im.ix }

// Manifest is the image's manifest.
func (im *Image) Manifest() *Manifest { return im.m }

// Size is the size of the source disk in bytes.
func (im *Image) Size() int64 { return im.m.DiskSize }

// ReadPiece reads a piece from the payload into buf (when large enough), not checked.
func (im *Image) ReadPiece(piece int, buf []byte) ([]byte, error) {
	if piece < 0 || piece >= im.ix.Pieces() {
		return nil, fmt.Errorf("piece %d of %d: %w", piece, im.ix.Pieces(), ErrRange)
	}
	buf = resize(buf, int(im.ix.PieceSize(piece)))
	if err := readFull(im.payload, buf, int64(piece)*im.m.PieceLength); err != nil {
		return nil, fmt.Errorf("payload: piece %d: %w", piece, err)
	}
	return buf, nil
}

// ReadAt reads raw bytes of the source disk; each frame's SHA-256 is checked. Bytes that the image does not hold
// (unused, zero, or of the partition table) read as zero. The first call decodes the whole index (24 bytes an extent).
func (im *Image) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= im.m.DiskSize {
		return 0, io.EOF
	}
	im.once.Do(func() { im.runs, im.err = im.loadRuns() })
	if im.err != nil {
		return 0, im.err
	}
	short := int64(len(p)) > im.m.DiskSize-off
	if short {
		p = p[:im.m.DiskSize-off]
	}
	clear(p)
	end := off + int64(len(p))
	i, _ := slices.BinarySearchFunc(im.runs, off, func(r diskRun, off int64) int {
		if r.off+int64(r.len) <= off {
			return -1
		}
		return 1
	})
	for ; i < len(im.runs) && im.runs[i].off < end; i++ {
		if err := im.copyRun(p, off, &im.runs[i]); err != nil {
			return 0, err
		}
	}
	if short {
		return len(p), io.EOF
	}
	return len(p), nil
}

// copyRun copies what p (the disk at off) and the run have in common.
func (im *Image) copyRun(p []byte, off int64, r *diskRun) error {
	raw, err := im.frame(r.piece, r.frame)
	if err != nil {
		return err
	}
	raw = raw[r.rawOff : r.rawOff+r.len]
	if r.off < off {
		copy(p, raw[off-r.off:])
		return nil
	}
	copy(p[r.off-off:], raw)
	return nil
}

func (im *Image) loadRuns() ([]diskRun, error) {
	var runs []diskRun
	for piece := im.ix.IndexPieces(); piece < im.ix.Pieces(); piece++ {
		frames, err := im.ix.Frames(piece)
		if err != nil {
			return nil, err
		}
		for i := range frames {
			rawOff := int32(0)
			for _, e := range frames[i].Extents {
				runs = append(runs, diskRun{off: e.Off, len: int32(e.Len), piece: int32(piece), frame: int32(i), rawOff: rawOff})
				rawOff += int32(e.Len)
			}
		}
	}
	slices.SortFunc(runs, func(a, b diskRun) int {
		if a.off < b.off {
			return -1
		}
		return 1 // the index holds no byte twice: offsets differ
	})
	return runs, nil
}

// frame returns the raw bytes of a frame, from the cache or unpacked and checked.
func (im *Image) frame(piece, frame int32) ([]byte, error) {
	im.mu.Lock()
	defer im.mu.Unlock()
	for i, c := range im.cache {
		if c.piece == piece && c.frame == frame {
			copy(im.cache[1:i+1], im.cache[:i])
			im.cache[0] = c
			return c.raw, nil
		}
	}
	frames, err := im.ix.Frames(int(piece))
	if err != nil {
		return nil, err
	}
	f := frames[frame]
	data := make([]byte, f.Len)
	if err := readFull(im.payload, data, int64(piece)*im.m.PieceLength+f.Off); err != nil {
		return nil, fmt.Errorf("payload: piece %d: %w", piece, err)
	}
	f.Off = 0
	s := scratch{}
	raw, err := unpackFrame(s.decoderFor(&f), &f, data, make([]byte, f.RawLen), true)
	if err != nil {
		return nil, &VerifyError{Piece: int(piece), Extent: f.Extents[0], Err: err}
	}
	im.cache = slices.Insert(im.cache[:min(len(im.cache), cachedFrames-1)], 0, cachedFrame{piece, frame, raw})
	return raw, nil
}

// VerifyPieces checks every piece of the payload: its SHA-1 against the metainfo and the SHA-256 of every frame's raw
// bytes. It works on all processors; progress is called with the number of pieces done, one call at a time.
func (im *Image) VerifyPieces(ctx context.Context, mi *Metainfo, progress func(done, total int)) error {
	if err := mi.Check(im.m); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	var mu sync.Mutex
	next, done, total := 0, 0, im.ix.Pieces()
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next - 1, next <= total && ctx.Err() == nil
	}
	for range min(runtime.GOMAXPROCS(0), 8) {
		g.Go(func() error {
			v := verifier{im: im, mi: mi}
			for piece, ok := take(); ok; piece, ok = take() {
				if err := v.verify(piece); err != nil {
					return err
				}
				mu.Lock()
				done++
				if progress != nil {
					progress(done, total)
				}
				mu.Unlock()
			}
			return ctx.Err()
		})
	}
	return g.Wait()
}

// verifier checks pieces one after the other with its own buffers.
type verifier struct {
	im  *Image
	mi  *Metainfo
	s   scratch
	buf []byte
	raw []byte
}

func (v *verifier) verify(piece int) (err error) {
	if v.buf, err = v.im.ReadPiece(piece, v.buf); err != nil {
		return err
	}
	if want, _ := v.mi.PieceSHA1(piece); sha1.Sum(v.buf) != want {
		return &VerifyError{Piece: piece, Err: fmt.Errorf("SHA-1 of the piece: %w", ErrHash)}
	}
	if piece < v.im.ix.IndexPieces() {
		v.raw = v.im.ix.indexPiece(piece, v.raw)
		if !bytes.Equal(v.buf, v.raw) {
			return &VerifyError{Piece: piece, Err: fmt.Errorf("bytes after the index that are not zero: %w", ErrFormat)}
		}
		return nil
	}
	frames, err := v.im.ix.Frames(piece)
	if err != nil {
		return err
	}
	for i := range frames {
		f := &frames[i]
		v.raw = resize(v.raw, int(f.RawLen))
		if _, err := unpackFrame(v.s.decoderFor(f), f, v.buf, v.raw, true); err != nil {
			return &VerifyError{Piece: piece, Extent: f.Extents[0], Err: err}
		}
	}
	// A node that makes the piece again from its disk puts zeros there: its SHA-1 would never be right.
	if last := frames[len(frames)-1]; !allZero(v.buf[last.Off+last.Len:]) {
		return &VerifyError{Piece: piece, Err: fmt.Errorf("bytes after the last frame that are not zero: %w", ErrFormat)}
	}
	return nil
}
