package imagefmt

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"
)

// Target is the disk that an image is written to or read back from.
type Target interface {
	io.ReaderAt
	io.WriterAt
}

// Restorer moves pieces between a payload and a target. Safe for concurrent use; callers beyond its number of
// scratch buffers (4 MiB each, one for each processor, at least 2 and at most 4) wait.
type Restorer struct {
	ix      *Index
	t       Target
	check   bool
	scratch chan *scratch
}

// scratch is what one call needs; it is made when first used.
type scratch struct {
	enc  *zstd.Encoder
	dec  *zstd.Decoder
	raw  []byte // unpacked bytes that wait to be written; at most writeBuffer
	segs []segment
}

// writeBuffer is how many unpacked bytes gather before they are written: room to merge a few frames.
const writeBuffer = 2 * MaxFrameLength

// segment is a run of disk bytes to write, found at lo..hi of the piece or of the scratch buffer.
type segment struct {
	off    int64
	lo, hi int
	piece  bool
}

// NewRestorer makes a Restorer. With checkRaw, WritePiece compares the SHA-256 of every frame before it writes it.
func NewRestorer(ix *Index, t Target, checkRaw bool) *Restorer {
	r := &Restorer{ix: ix, t: t, check: checkRaw, scratch: make(chan *scratch, max(2, min(4, runtime.GOMAXPROCS(0))))}
	for range cap(r.scratch) {
		r.scratch <- new(scratch)
	}
	return r
}

func (s *scratch) encoder() *zstd.Encoder {
	if s.enc == nil {
		s.enc = newEncoder()
	}
	return s.enc
}

func (s *scratch) decoder() *zstd.Decoder {
	if s.dec == nil {
		s.dec = newDecoder()
	}
	return s.dec
}

func (s *scratch) grow() {
	if s.raw == nil {
		s.raw = make([]byte, 0, writeBuffer)
	}
	s.raw, s.segs = s.raw[:0], s.segs[:0]
}

// WritePiece unpacks a piece and writes its frames to the target, neighbors in one call. data must be the whole
// piece; it is kept by nobody. It returns the number of raw bytes written. An index piece is compared with the index
// and writes nothing. A *VerifyError means that the data are wrong; other errors come from the target.
func (r *Restorer) WritePiece(piece int, data []byte) (raw int64, err error) {
	if err := r.checkSize(piece, data); err != nil {
		return 0, err
	}
	if piece < r.ix.indexPieces {
		return 0, r.checkIndexPiece(piece, data)
	}
	frames, err := r.ix.Frames(piece)
	if err != nil {
		return 0, err
	}
	s := <-r.scratch
	defer func() { r.scratch <- s }()
	s.grow()
	for i := range frames {
		f := &frames[i]
		if f.Kind == Zstd && len(s.raw)+int(f.RawLen) > cap(s.raw) {
			if err := r.flush(s, data); err != nil {
				return raw, err
			}
		}
		if err := s.unpack(f, data, r.check); err != nil {
			return raw, &VerifyError{Piece: piece, Extent: f.Extents[0], Err: err}
		}
		raw += f.RawLen
	}
	return raw, r.flush(s, data)
}

func (r *Restorer) checkSize(piece int, data []byte) error {
	if piece < 0 || piece >= r.ix.Pieces() {
		return fmt.Errorf("piece %d of %d: %w", piece, r.ix.Pieces(), ErrRange)
	}
	if want := r.ix.PieceSize(piece); int64(len(data)) != want {
		return fmt.Errorf("piece %d: %d bytes, want %d: %w", piece, len(data), want, ErrMismatch)
	}
	return nil
}

func (r *Restorer) checkIndexPiece(piece int, data []byte) error {
	if sha256.Sum256(data) != sha256.Sum256(r.ix.indexPiece(piece, nil)) {
		return &VerifyError{Piece: piece, Err: ErrHash}
	}
	return nil
}

// unpack decodes a frame (a stored one stays where it is) and queues its extents.
func (s *scratch) unpack(f *Frame, data []byte, check bool) error {
	lo := int(f.Off)
	var dst []byte
	if f.Kind == Zstd {
		lo = len(s.raw)
		s.raw = s.raw[:lo+int(f.RawLen)]
		dst = s.raw[lo:]
	}
	if _, err := unpackFrame(s.decoderFor(f), f, data, dst, check); err != nil {
		return err
	}
	for _, e := range f.Extents {
		hi := lo + int(e.Len)
		s.queue(segment{off: e.Off, lo: lo, hi: hi, piece: f.Kind == Stored})
		lo = hi
	}
	return nil
}

func (s *scratch) decoderFor(f *Frame) *zstd.Decoder {
	if f.Kind != Zstd {
		return nil
	}
	return s.decoder()
}

func (s *scratch) queue(g segment) {
	if n := len(s.segs); n > 0 {
		if p := &s.segs[n-1]; p.piece == g.piece && p.hi == g.lo && p.off+int64(p.hi-p.lo) == g.off {
			p.hi = g.hi
			return
		}
	}
	s.segs = append(s.segs, g)
}

func (r *Restorer) flush(s *scratch, data []byte) error {
	for _, g := range s.segs {
		b := s.raw[:cap(s.raw)]
		if g.piece {
			b = data
		}
		b = b[g.lo:g.hi]
		n, err := r.t.WriteAt(b, g.off)
		if err == nil && n < len(b) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return fmt.Errorf("write %d bytes at %d: %w", len(b), g.off, err)
		}
	}
	s.raw, s.segs = s.raw[:0], s.segs[:0]
	return nil
}

// ReadPiece makes a piece again from the target: reads the raw bytes, compares their SHA-256 (a *VerifyError when they
// changed) and encodes them. The result uses buf when it is large enough. It is the writer's piece bit for bit if the
// zstd library is the same; who serves it compares its SHA-1 first. Index pieces come from the index.
func (r *Restorer) ReadPiece(piece int, buf []byte) ([]byte, error) {
	if piece >= 0 && piece < r.ix.indexPieces {
		return r.ix.indexPiece(piece, buf), nil
	}
	size := int(r.ix.PieceSize(piece))
	out := resize(buf, size)
	n := 0
	err := r.readFrames(piece, func(s *scratch, f *Frame, raw []byte) error {
		if f.Kind == Stored {
			n += copy(out[n:], raw)
			return nil
		}
		data := s.encoder().EncodeAll(raw, s.raw[len(raw):len(raw)])
		if int64(len(data)) != f.Len {
			return fmt.Errorf("encoded again: %d bytes, the index says %d: %w", len(data), f.Len, ErrMismatch)
		}
		n += copy(out[n:], data)
		return nil
	})
	if err != nil {
		return nil, err
	}
	clear(out[n:])
	return out, nil
}

// VerifyPiece reads a piece's raw bytes back from the target and compares their SHA-256. A *VerifyError names the
// first frame that differs; other errors come from the target. Index pieces need no check.
func (r *Restorer) VerifyPiece(piece int) error {
	if piece >= 0 && piece < r.ix.indexPieces {
		return nil
	}
	return r.readFrames(piece, func(*scratch, *Frame, []byte) error { return nil })
}

// readFrames reads the frames of a piece from the target, each checked; raw is valid during the call.
func (r *Restorer) readFrames(piece int, visit func(s *scratch, f *Frame, raw []byte) error) error {
	frames, err := r.ix.Frames(piece)
	if err != nil {
		return err
	}
	s := <-r.scratch
	defer func() { r.scratch <- s }()
	s.grow()
	for i := range frames {
		f := &frames[i]
		raw := s.raw[:f.RawLen]
		if err := readExtents(r.t, f.Extents, raw); err != nil {
			return err
		}
		err := checkRaw(f, raw)
		if err == nil {
			err = visit(s, f, raw)
		}
		if err != nil {
			return &VerifyError{Piece: piece, Extent: f.Extents[0], Err: err}
		}
	}
	return nil
}

// readExtents fills raw with the extents' bytes; neighbors are read in one call.
func readExtents(t io.ReaderAt, extents []Extent, raw []byte) error {
	for i := 0; i < len(extents); {
		e := extents[i]
		for i++; i < len(extents) && extents[i].Off == e.End(); i++ {
			e.Len += extents[i].Len
		}
		if err := readFull(t, raw[:e.Len], e.Off); err != nil {
			return err
		}
		raw = raw[e.Len:]
	}
	return nil
}

// readFull reads len(b) bytes; io.EOF beside the last byte is no error.
func readFull(t io.ReaderAt, b []byte, off int64) error {
	n, err := t.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at %d: %w", len(b), off, err)
}
