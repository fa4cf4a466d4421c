package deploy

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
)

// verifyMapped compares what is in the places with the raw hashes. Of a frame that has no place at all nothing can be read back; every
// other frame must be there, the copies of it too.
func verifyMapped(ctx context.Context, m *mapped, ix *imagefmt.Index, done *atomic.Int64) error {
	bufs := sync.Pool{New: func() any { return new([]byte) }} // in effect one for each core
	return eachPiece(ctx, ix, func(piece int) error {
		frames, err := ix.Frames(piece)
		if err != nil {
			return err
		}
		buf := bufs.Get().(*[]byte)
		defer bufs.Put(buf)
		for i := range frames {
			if err := verifyFrame(m, piece, &frames[i], buf); err != nil {
				return cli.WithCode(verifyCode(err), fmt.Errorf("read back: %w", err))
			}
			done.Add(frames[i].RawLen)
		}
		return nil
	})
}

// verifyFrame reads into buf, which grows as needed.
func verifyFrame(m *mapped, piece int, f *imagefmt.Frame, buf *[]byte) error {
	if n, _ := m.placed(f.Extents); n == 0 {
		return nil
	}
	h := sha256.New()
	for _, e := range f.Extents {
		*buf = slices.Grow((*buf)[:0], int(e.Len))[:e.Len]
		if _, err := m.ReadAt(*buf, e.Off); err != nil {
			return err
		}
		h.Write(*buf)
	}
	if [sha256.Size]byte(h.Sum(nil)) != f.SHA256 {
		return &imagefmt.VerifyError{Piece: piece, Extent: f.Extents[0], Err: imagefmt.ErrHash}
	}
	return nil
}
