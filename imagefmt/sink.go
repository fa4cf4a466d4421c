package imagefmt

import (
	"context"
	"crypto/sha1" //nolint:gosec // BEP 3
	"crypto/sha256"
	"fmt"
	"io"
	"sync"
)

// Output is the payload file.
type Output interface {
	io.WriterAt
	io.ReaderAt // pieces at the end move into room that the index did not need
	Truncate(size int64) error
}

// sink lays frames into pieces, hashes and writes them, and keeps their index records.
type sink struct {
	dst         Output
	pieceLength int64
	reserve     int64 // pieces
	buffers     *bufferPool
	work        chan sinkPiece
	free        chan []byte // piece buffers

	mu      sync.Mutex
	sums    [][sha1.Size]byte
	records [][]byte
	recordN int64 // bytes in records
	used    int64
	extents int64 // of all frames
	padding int64
	last    int64 // length of the last piece
}

type sinkPiece struct {
	n int
	b []byte
}

func newSink(dst Output, p *plan, buffers *bufferPool) *sink {
	s := &sink{dst: dst, pieceLength: p.pieceLength, reserve: p.reserve, buffers: buffers}
	s.work = make(chan sinkPiece)
	s.free = make(chan []byte, p.sinks+1)
	for range cap(s.free) {
		s.free <- nil // made when first used
	}
	return s
}

// place lays out one piece and hands it on.
func (s *sink) place(ctx context.Context, frames []*packFrame, last bool) error {
	var b []byte
	select {
	case b = <-s.free:
	case <-ctx.Done():
		return ctx.Err()
	}
	b = resize(b, int(s.pieceLength))
	n := 0
	for _, f := range frames {
		n += copy(b[n:], f.data)
		s.used += int64(f.rawLen)
		s.extents += int64(len(f.extents))
	}
	record := appendRecord(nil, frames)
	for _, f := range frames {
		s.buffers.put(f.data)
	}
	clear(b[n:])
	if last {
		b = b[:n]
	}
	s.padding += int64(len(b) - n)
	s.last = int64(len(b))
	s.recordN += int64(len(record))
	if s.recordN > MaxIndexLength || s.reserve+int64(len(s.records)) >= MaxPieces {
		return fmt.Errorf("index of %d bytes for %d pieces: choose longer frames or pieces: %w", s.recordN, len(s.records), ErrLimit)
	}
	if err := checkExtents(s.extents, 0); err != nil {
		return err
	}
	s.mu.Lock()
	s.records = append(s.records, record)
	s.sums = append(s.sums, [sha1.Size]byte{})
	s.mu.Unlock()
	select {
	case s.work <- sinkPiece{len(s.records) - 1, b}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// checkExtents holds what is written to the limit that readers have.
func checkExtents(frames, zero int64) error {
	if frames+zero > MaxExtents {
		return fmt.Errorf("index of %d extents: %w", frames+zero, ErrLimit)
	}
	return nil
}

// run hashes and writes pieces until work is closed.
func (s *sink) run() error {
	for p := range s.work {
		sum := sha1.Sum(p.b)
		if err := writeFull(s.dst, p.b, (s.reserve+int64(p.n))*s.pieceLength); err != nil {
			return fmt.Errorf("payload: %w", err)
		}
		s.mu.Lock()
		s.sums[p.n] = sum
		s.mu.Unlock()
		s.free <- p.b
	}
	return nil
}

func writeFull(w io.WriterAt, b []byte, off int64) error {
	n, err := w.WriteAt(b, off)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("write %d bytes at %d: %w", len(b), off, err)
	}
	return nil
}

// close moves data pieces into the reserved pieces that the index does not need, writes the index (head, then the
// records) and cuts the payload to its length. It fills the result but for the metainfo.
func (s *sink) close(head []byte, res *Result) error {
	res.IndexLength = int64(len(head)) + s.recordN
	if res.IndexLength > MaxIndexLength || ceilDiv(res.IndexLength, s.pieceLength) > s.reserve {
		return fmt.Errorf("index of %d bytes: choose longer frames: %w", res.IndexLength, ErrLimit)
	}
	index := ceilDiv(res.IndexLength, s.pieceLength)
	if err := s.compact(index); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	if err := s.writeIndex(head, index, res); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	res.PayloadLength = index * s.pieceLength
	if n := int64(len(s.records)); n > 0 {
		res.PayloadLength += (n-1)*s.pieceLength + s.last
	}
	for i := range s.sums {
		res.Pieces = append(res.Pieces, s.sums[i][:]...)
	}
	res.UsedBytes = s.used
	res.PaddingBytes = s.padding + index*s.pieceLength - res.IndexLength
	if err := s.dst.Truncate(res.PayloadLength); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	return nil
}

// compact closes the gap between the index and the data. Whole pieces from the end fill it, the last piece, which may
// be short, stays last; only when there are fewer pieces than room do all of them move.
func (s *sink) compact(index int64) error {
	n, gap := int64(len(s.records)), s.reserve-index
	if gap == 0 || n == 0 {
		return nil
	}
	moved := min(gap, n-1) // pieces that go to the front
	first := n - 1 - moved
	buf := make([]byte, s.pieceLength)
	for i := range moved {
		if err := s.move(first+i, index+i, buf[:s.pieceLength]); err != nil {
			return err
		}
	}
	// The last piece goes behind the pieces that stay, or, when none stays, behind those that moved.
	to := index + n - 1
	if err := s.move(n-1, to, buf[:s.last]); err != nil {
		return err
	}
	s.records = rotate(s.records, int(first))
	s.sums = rotate(s.sums, int(first))
	return nil
}

// rotate puts v[first:len-1] before v[:first]; the last element stays.
func rotate[T any](v []T, first int) []T {
	out := make([]T, 0, len(v))
	out = append(out, v[first:len(v)-1]...)
	out = append(out, v[:first]...)
	return append(out, v[len(v)-1])
}

// move copies data piece n to the payload's piece slot.
func (s *sink) move(n, slot int64, buf []byte) error {
	if s.reserve+n == slot {
		return nil
	}
	if err := readFull(s.dst, buf, (s.reserve+n)*s.pieceLength); err != nil {
		return err
	}
	return writeFull(s.dst, buf, slot*s.pieceLength)
}

// writeIndex writes the index pieces and puts their hashes in front of res.Pieces.
func (s *sink) writeIndex(head []byte, pieces int64, res *Result) error {
	h := sha256.New()
	buf := make([]byte, 0, s.pieceLength)
	done := int64(0)
	emit := func() error {
		clear(buf[len(buf):cap(buf)])
		b := buf[:cap(buf)]
		sum := sha1.Sum(b)
		res.Pieces = append(res.Pieces, sum[:]...)
		buf = buf[:0]
		done++
		return writeFull(s.dst, b, (done-1)*s.pieceLength)
	}
	add := func(b []byte) error {
		h.Write(b)
		for len(b) > 0 {
			n := min(len(b), cap(buf)-len(buf))
			buf = append(buf, b[:n]...)
			b = b[n:]
			if len(buf) == cap(buf) {
				if err := emit(); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := add(head); err != nil {
		return err
	}
	for _, r := range s.records {
		if err := add(r); err != nil {
			return err
		}
	}
	h.Sum(res.IndexSHA256[:0])
	if len(buf) > 0 {
		return emit()
	}
	if done != pieces {
		return fmt.Errorf("index took %d pieces, planned %d", done, pieces)
	}
	return nil
}
