package imagefmt

import (
	"crypto/sha256"
	"fmt"
	"slices"
)

// FrameKind says how a frame's bytes are kept in its piece.
type FrameKind uint8

const (
	// Stored frames hold the raw bytes themselves.
	Stored FrameKind = 0
	// Zstd frames hold one zstd frame (RFC 8878) that unpacks to the raw bytes.
	Zstd FrameKind = 1
)

// Frame is one frame of a data piece.
type Frame struct {
	Kind    FrameKind
	Off     int64 // in the piece
	Len     int64 // in the piece
	RawLen  int64 // bytes on the disk: the sum of the extents
	Extents []Extent
	SHA256  [sha256.Size]byte // of the raw bytes, extents one after the other
}

// Index says for every data piece which frames it holds and where their bytes lie on the disk. It keeps the encoded
// form and decodes a piece at a time. Safe for concurrent use.
type Index struct {
	b           []byte
	pieceOff    []uint32 // of every data piece's record in b
	zeroOff     int
	zeroCount   int
	indexPieces int
	pieceLength int64
	payload     int64
	frameLength int64
	verbatim    bool
	diskEnd     int64 // no extent goes beyond
	used, zero  int64
}

// ParseIndex reads the index of m. It keeps b, which must not change any more. Besides b it allocates 4 bytes a piece,
// and 16 bytes for each run of the disk while it looks for bytes described twice (64 MiB at the limit of
// MaxExtents, 144 MiB while the list of them grows).
// No extent of an Index lies outside m.MinDiskSize, and no two have a byte in common.
func ParseIndex(b []byte, m *Manifest) (*Index, error) {
	want, err := m.IndexSHA256Bytes()
	if err != nil {
		return nil, err
	}
	if int64(len(b)) != m.IndexLength || len(b) > MaxIndexLength {
		return nil, fmt.Errorf("index: %d bytes, the manifest says %d: %w", len(b), m.IndexLength, ErrMismatch)
	}
	if sha256.Sum256(b) != want {
		return nil, fmt.Errorf("index: SHA-256: %w", ErrHash)
	}
	ix := &Index{
		b: b, indexPieces: m.IndexPieces(), pieceLength: m.PieceLength, payload: m.PayloadLength,
		frameLength: m.FrameLength, verbatim: m.Layout == Verbatim, diskEnd: m.MinDiskSize, used: m.UsedBytes, zero: m.ZeroBytes,
	}
	if err := ix.scan(); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	return ix, nil
}

const indexMagic = "SBIX\x01"

// indexScan is what one pass over the whole index gathers.
type indexScan struct {
	runs    []Extent // merged where one extent begins at the end of the one before
	extents int
	used    int64 // raw bytes in frames
	zero    int64 // bytes in zero extents
}

func (s *indexScan) add(extents []Extent) error {
	s.extents += len(extents)
	if s.extents > MaxExtents {
		return fmt.Errorf("more than %d extents: %w", MaxExtents, ErrLimit)
	}
	for _, e := range extents {
		if n := len(s.runs); n > 0 && s.runs[n-1].End() == e.Off {
			s.runs[n-1].Len += e.Len
			continue
		}
		s.runs = append(s.runs, e)
	}
	return nil
}

func (ix *Index) scan() error {
	var s indexScan
	if err := ix.gather(&s); err != nil {
		return err
	}
	if s.used != ix.used || s.zero != ix.zero {
		return fmt.Errorf("%d bytes in frames and %d zero, the manifest says %d and %d: %w", s.used, s.zero, ix.used, ix.zero, ErrMismatch)
	}
	return nil
}

// gather decodes and checks all that the index alone can tell.
func (ix *Index) gather(s *indexScan) error {
	if len(ix.b) < len(indexMagic) || string(ix.b[:len(indexMagic)]) != indexMagic {
		return fmt.Errorf("begins with % x: %w", ix.b[:min(len(ix.b), len(indexMagic))], ErrFormat)
	}
	c := cursor{b: ix.b, off: len(indexMagic)}
	pieces, zeros := c.count(MaxPieces), c.count(MaxExtents)
	if c.bad {
		return fmt.Errorf("numbers of pieces and zero extents: %w", ErrFormat)
	}
	if want := ix.Pieces() - ix.indexPieces; pieces != want {
		return fmt.Errorf("%d data pieces, a payload of %d bytes has %d: %w", pieces, ix.payload, want, ErrMismatch)
	}
	ix.zeroOff, ix.zeroCount = c.off, zeros
	if err := ix.scanZero(&c, s); err != nil {
		return fmt.Errorf("zero extents: %w", err)
	}
	if err := ix.scanPieces(&c, s, pieces); err != nil {
		return err
	}
	if c.off != len(ix.b) {
		return fmt.Errorf("%d bytes after the last piece: %w", len(ix.b)-c.off, ErrFormat)
	}
	if e, ok := firstOverlap(s.runs); ok {
		return fmt.Errorf("disk byte %d: %w", e.Off, ErrOverlap)
	}
	return nil
}

func (ix *Index) scanZero(c *cursor, s *indexScan) error {
	var end int64
	one := make([]Extent, 1)
	for range ix.zeroCount {
		one[0] = c.extent(end, false)
		if err := ix.checkExtent(c, one[0]); err != nil {
			return err
		}
		end = one[0].End()
		s.zero += one[0].Len
		if err := s.add(one); err != nil {
			return err
		}
	}
	return nil
}

func (ix *Index) scanPieces(c *cursor, s *indexScan, pieces int) error {
	// A record takes at least 36 bytes, so that a hostile count cannot make the slice larger than the index.
	ix.pieceOff = make([]uint32, 0, min(pieces, len(ix.b)/36+1))
	var f Frame
	for i := range pieces {
		ix.pieceOff = append(ix.pieceOff, uint32(c.off))
		err := ix.scanPiece(c, ix.indexPieces+i, &f, func(f *Frame) error {
			s.used += f.RawLen
			return s.add(f.Extents)
		})
		if err != nil {
			return fmt.Errorf("piece %d: %w", ix.indexPieces+i, err)
		}
	}
	return nil
}

// scanPiece decodes one record into f, frame after frame, and holds it against every limit.
func (ix *Index) scanPiece(c *cursor, piece int, f *Frame, visit func(*Frame) error) error {
	frames := c.count(MaxPieceFrames)
	if c.bad || frames == 0 {
		return fmt.Errorf("number of frames: %w", ErrFormat)
	}
	size := ix.PieceSize(piece)
	var off, raw, end int64
	var extents int
	for range frames {
		if err := ix.scanFrame(c, f, end); err != nil {
			return err
		}
		f.Off = off
		off += f.Len
		raw += f.RawLen
		extents += len(f.Extents)
		end = f.Extents[len(f.Extents)-1].End()
		switch {
		case off > size:
			return fmt.Errorf("frames hold %d bytes, the piece %d: %w", off, size, ErrFormat)
		case raw > MaxPieceRaw || extents > MaxPieceExtents:
			return fmt.Errorf("%d raw bytes in %d extents: %w", raw, extents, ErrLimit)
		}
		if err := visit(f); err != nil {
			return err
		}
	}
	if off != size && (ix.verbatim || piece == ix.Pieces()-1) {
		return fmt.Errorf("frames hold %d bytes, the piece %d: %w", off, size, ErrFormat)
	}
	return nil
}

func (ix *Index) scanFrame(c *cursor, f *Frame, end int64) error {
	head := c.uvarint()
	f.Kind, f.Len, f.RawLen = FrameKind(head&1), int64(head>>1), 0
	n := c.count(MaxFrameExtents)
	if c.bad || n == 0 || f.Len <= 0 || f.Len > ix.pieceLength {
		return fmt.Errorf("frame of %d bytes, %d extents: %w", f.Len, n, ErrFormat)
	}
	f.Extents = slices.Grow(f.Extents[:0], min(n, c.left()/2))
	for range n {
		e := c.extent(end, true)
		if err := ix.checkExtent(c, e); err != nil {
			return err
		}
		f.Extents = append(f.Extents, e)
		f.RawLen += e.Len
		end = e.End()
		if f.RawLen > ix.frameLength {
			return fmt.Errorf("frame of %d raw bytes, the manifest allows %d: %w", f.RawLen, ix.frameLength, ErrLimit)
		}
	}
	if f.Kind == Stored && f.Len != f.RawLen || f.Kind == Zstd && (ix.verbatim || f.Len >= f.RawLen) {
		return fmt.Errorf("frame of kind %d, %d bytes for %d raw ones: %w", f.Kind, f.Len, f.RawLen, ErrFormat)
	}
	copy(f.SHA256[:], c.take(sha256.Size))
	if c.bad {
		return fmt.Errorf("frame cut short: %w", ErrFormat)
	}
	return nil
}

func (ix *Index) checkExtent(c *cursor, e Extent) error {
	switch {
	case c.bad || e.Len <= 0:
		return fmt.Errorf("extent: %w", ErrFormat)
	case e.Off < 0 || e.Off > ix.diskEnd || e.Len > ix.diskEnd-e.Off:
		return fmt.Errorf("disk bytes %d+%d of %d: %w", e.Off, e.Len, ix.diskEnd, ErrRange)
	}
	return nil
}

// Pieces is the number of all pieces of the payload.
func (ix *Index) Pieces() int { return int(ceilDiv(ix.payload, ix.pieceLength)) }

// IndexPieces is the number of pieces at the front that hold the index itself; data pieces follow.
func (ix *Index) IndexPieces() int { return ix.indexPieces }

// PieceLength is the length in bytes of every piece but the last.
func (ix *Index) PieceLength() int64 { return ix.pieceLength }

// PieceSize is the length in bytes of a piece.
func (ix *Index) PieceSize(piece int) int64 {
	return max(0, min(ix.pieceLength, ix.payload-int64(piece)*ix.pieceLength))
}

// UsedBytes is the number of raw bytes in all frames.
func (ix *Index) UsedBytes() int64 { return ix.used }

// Frames decodes the frames of a data piece.
func (ix *Index) Frames(piece int) ([]Frame, error) {
	i := piece - ix.indexPieces
	if i < 0 || i >= len(ix.pieceOff) {
		return nil, fmt.Errorf("piece %d is not a data piece (%d to %d): %w", piece, ix.indexPieces, ix.Pieces()-1, ErrRange)
	}
	c := cursor{b: ix.b, off: int(ix.pieceOff[i])}
	var frames []Frame
	err := ix.scanPiece(&c, piece, new(Frame), func(f *Frame) error {
		g := *f
		g.Extents = slices.Clone(f.Extents)
		frames = append(frames, g)
		return nil
	})
	return frames, err
}

// Zero decodes the extents that must read as zero on the target and travel in no piece, in disk order.
func (ix *Index) Zero() []Extent {
	c := cursor{b: ix.b, off: ix.zeroOff}
	z := make([]Extent, ix.zeroCount)
	var end int64
	for i := range z {
		z[i] = c.extent(end, false)
		end = z[i].End()
	}
	return z
}

// indexPiece returns a copy of an index piece, zero padded.
func (ix *Index) indexPiece(piece int, buf []byte) []byte {
	buf = resize(buf, int(ix.pieceLength))
	from := min(int64(len(ix.b)), int64(piece)*ix.pieceLength)
	clear(buf[copy(buf, ix.b[from:]):])
	return buf
}

// firstOverlap sorts e by offset and returns the first extent that shares bytes with the one before.
func firstOverlap(e []Extent) (Extent, bool) {
	byOff := func(a, b Extent) int {
		if a.Off < b.Off {
			return -1
		}
		if a.Off > b.Off {
			return 1
		}
		return 0
	}
	if !slices.IsSortedFunc(e, byOff) {
		slices.SortFunc(e, byOff)
	}
	for i := 1; i < len(e); i++ {
		if e[i].Off < e[i-1].End() {
			return e[i], true
		}
	}
	return Extent{}, false
}
