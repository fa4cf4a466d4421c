package swarm

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"

	"swarmboot/imagefmt"
)

// resume looks which data pieces are on the target already, by the raw SHA-256 of their frames, and
// asks the swarm for the others while it goes on looking. What is found is served like what is fetched.
func (s *Session) resume(ix *imagefmt.Index) {
	var next atomic.Int64
	next.Store(int64(ix.IndexPieces()))
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for s.ctx.Err() == nil {
				piece := int(next.Add(1)) - 1
				if piece >= ix.Pieces() {
					return
				}
				s.resumePiece(ix, piece)
			}
		})
	}
	wg.Wait()
	if s.ctx.Err() == nil {
		s.log.Info("looked for the image on the disk", "pieces", s.kept.Load(), "of", ix.Pieces()-ix.IndexPieces())
	}
}

func (s *Session) resumePiece(ix *imagefmt.Index, piece int) {
	raw, first, err := s.store.adopt(piece)
	if err != nil {
		var ve *imagefmt.VerifyError
		if !errors.As(err, &ve) {
			// What cannot be read may still be written: disks replace bad sectors then.
			s.log.Warn("a piece on the disk cannot be checked, it is fetched", "piece", piece, "err", err)
		}
		s.want(piece, piece+1)
		return
	}
	s.torrentMu.Lock()
	s.torrent.Load().Piece(piece).UpdateCompletion()
	s.torrentMu.Unlock()
	if first {
		s.kept.Add(1)
		s.gotPiece(piece, raw)
	}
}

// adopt takes a piece that is on the target as written, if its frames are what the index says. It says whether the piece was
// not done before.
func (s *store) adopt(piece int) (raw int64, first bool, err error) {
	if !s.gate.enter() {
		return 0, false, errClosed
	}
	defer s.gate.leave()
	s.mu.Lock()
	r, ix := s.restore, s.index
	s.mu.Unlock()
	if err := r.VerifyPiece(piece); err != nil {
		return 0, false, err
	}
	frames, err := ix.Frames(piece)
	if err != nil {
		return 0, false, err
	}
	for _, f := range frames {
		raw += f.RawLen
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return raw, s.setDone(piece), nil
}
