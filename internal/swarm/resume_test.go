package swarm

import (
	"sync"
	"testing"
	"time"

	"github.com/anacrolix/torrent"

	"swarmboot/imagefmt"
)

// TestResume: pieces that are on the target are not fetched again, one that is damaged is, and what was kept
// is served to others.
func TestResume(t *testing.T) {
	t.Parallel()
	for _, layout := range layouts {
		t.Run(string(layout), func(t *testing.T) {
			im := makeImage(t, 16<<20, 256<<10, layout)
			r := newRig(t, im, SeederOptions{})
			target := im.blank()
			s := r.join(1, target, nil)
			mustWait(t, s)
			frames, err := s.Index().Frames(im.manifest.IndexPieces() + 2)
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
			target.b[frames[0].Extents[0].Off]++

			s = r.join(1, target, func(o *NodeOptions) { o.Resume = true })
			mustWait(t, s)
			im.check(t, target)
			st := s.Stats()
			if kept := st.PiecesTotal - im.manifest.IndexPieces() - 1; st.PiecesKept != kept || st.PiecesDone != st.PiecesTotal || st.BytesDone != st.BytesTotal {
				t.Errorf("stats: %+v, want %d pieces kept", st, kept)
			}
			if most := int64(im.manifest.IndexPieces()+1) * im.manifest.PieceLength; st.FromServer > most {
				t.Errorf("%d bytes were fetched, %d would do", st.FromServer, most)
			}

			r.seeder.Remove(im.meta.InfoHash)
			r.tracker.SetSeeder(0)
			other := im.blank()
			s2 := r.join(2, other, nil)
			mustWait(t, s2)
			im.check(t, other)
		})
	}
}

// TestResumeOnAStrangeDisk: nothing of another content is believed.
func TestResumeOnAStrangeDisk(t *testing.T) {
	t.Parallel()
	im := makeImage(t, 4<<20, 256<<10, imagefmt.Packed)
	r := newRig(t, im, SeederOptions{})
	target := im.blank()
	s := r.join(1, target, func(o *NodeOptions) { o.Resume = true })
	mustWait(t, s)
	im.check(t, target)
	if st := s.Stats(); st.PiecesKept != 0 || st.FromServer != im.manifest.PayloadLength {
		t.Errorf("stats: %+v", st)
	}
}

// TestUploadRate: the seeder's limit holds for all images together.
func TestUploadRate(t *testing.T) {
	t.Parallel()
	const rate = 4 << 20
	im := makeImage(t, 12<<20, 256<<10, imagefmt.Verbatim)
	r := newRig(t, im, SeederOptions{UploadRate: rate})
	begin := nowSeconds()
	s := r.join(1, im.blank(), nil)
	mustWait(t, s)
	took := nowSeconds() - begin
	// The bucket begins full, with burstBytes.
	if least := float64(im.manifest.PayloadLength-burstBytes) / rate; took < 0.9*least {
		t.Errorf("%d bytes in %.2f s: more than %d a second", im.manifest.PayloadLength, took, rate)
	}
}

// TestPiecesCountOnce: a piece that is both fetched and found on the disk counts once, whichever comes first.
func TestPiecesCountOnce(t *testing.T) {
	t.Parallel()
	im := makeImage(t, 4<<20, 256<<10, imagefmt.Packed)
	r := newRig(t, im, SeederOptions{})
	s := r.join(1, im.blank(), nil)
	mustWait(t, s)
	want := s.Stats()
	piece := im.manifest.IndexPieces() + 1
	s.resumePiece(s.Index(), piece)
	if got := s.Stats(); got != want {
		t.Errorf("found after it was fetched: %+v, was %+v", got, want)
	}
	sp := storePiece{s.store, piece, 0}
	if _, err := sp.WriteAt(im.payload.b[int64(piece)*im.manifest.PieceLength:][:im.manifest.PieceSize(piece)], 0); err != nil {
		t.Fatal(err)
	}
	if _, err := sp.SelfHash(); err != nil {
		t.Fatal(err)
	}
	for s.writing() {
		time.Sleep(time.Millisecond)
	}
	if got := s.Stats(); got != want {
		t.Errorf("fetched after it was found: %+v, was %+v", got, want)
	}
}

// heldReads is a disk that answers no read until hold is closed.
type heldReads struct {
	*memFile
	asked, hold chan struct{}
}

func (f heldReads) ReadAt(p []byte, off int64) (int, error) {
	select {
	case f.asked <- struct{}{}:
	default:
	}
	<-f.hold
	return f.memFile.ReadAt(p, off)
}

// TestResumeTakesSmallChunks: joining the swarm anew while the disk is looked through asks for nothing that was not looked at yet,
// and the library learns what is found later.
func TestResumeTakesSmallChunks(t *testing.T) {
	t.Parallel()
	im := makeImage(t, 8<<20, 256<<10, imagefmt.Packed)
	r := newRig(t, im, SeederOptions{})
	target := im.blank()
	s := r.join(1, target, nil)
	mustWait(t, s)
	data := im.manifest.IndexPieces()
	frames, err := s.Index().Frames(data + 2)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	target.b[frames[0].Extents[0].Off]++

	held := heldReads{target, make(chan struct{}, 1), make(chan struct{})}
	release := sync.OnceFunc(func() { close(held.hold) })
	s = r.join(1, held, func(o *NodeOptions) { o.Resume = true })
	t.Cleanup(release) // or the session would never end
	<-held.asked
	if err := s.takeSmallChunks(); err != nil {
		t.Fatal(err)
	}
	for piece := data; piece < im.manifest.Pieces(); piece++ {
		if s.torrent.Load().Piece(piece).State().Priority != torrent.PiecePriorityNone {
			t.Errorf("piece %d is asked for before the disk was looked at", piece)
		}
	}
	release()
	mustWait(t, s)
	im.check(t, target)
	st := s.Stats()
	if kept := st.PiecesTotal - data - 1; st.PiecesKept != kept || st.PiecesDone != st.PiecesTotal {
		t.Errorf("stats: %+v, want %d pieces kept", st, kept)
	}
	for piece := range im.manifest.Pieces() {
		if !s.torrent.Load().Piece(piece).State().Complete && piece != data+2 { // of what was fetched the library tells itself
			t.Errorf("the library lacks piece %d", piece)
		}
	}
}
