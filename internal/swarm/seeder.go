package swarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"github.com/anacrolix/torrent"
	"github.com/anacrolix/torrent/metainfo"
	pp "github.com/anacrolix/torrent/peer_protocol"
	"github.com/anacrolix/torrent/storage"

	"swarmboot/imagefmt"
)

// Seeder serves the payloads of many images to the swarm.
type Seeder struct {
	client *client

	mu       sync.Mutex
	images   map[[20]byte]*seeded
	removals sync.WaitGroup // that wait for reads under way
}

type seeded struct {
	torrent *torrent.Torrent
	payload *gatedReader
}

// NewSeeder starts to listen; there is nothing to serve until Add.
func NewSeeder(o SeederOptions) (*Seeder, error) { return newSeeder(o, SeederPeerIDPrefix) }

func newSeeder(o SeederOptions, prefix string) (*Seeder, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	c, err := newClient(o.Listen, prefix, o.UploadRate, torrent.Callbacks{}, connEvents{}, o.Logger)
	if err != nil {
		return nil, err
	}
	return &Seeder{client: c, images: make(map[[20]byte]*seeded)}, nil
}

// Add starts to serve the payload that metainfo (BEP 3) describes. The catalog has verified it:
// it is not hashed again. The caller keeps payload open until Remove or Close has returned.
func (s *Seeder) Add(metainfo []byte, payload io.ReaderAt) error {
	mi, err := imagefmt.ParseMetainfo(metainfo)
	if err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.images[mi.InfoHash] != nil {
		return fmt.Errorf("seed %s: info-hash %x is served already", mi.Name, mi.InfoHash)
	}
	r := &gatedReader{r: payload}
	t, _ := s.client.AddTorrentOpt(torrent.AddTorrentOpts{
		InfoHash:                 mi.InfoHash,
		InfoBytes:                mi.InfoBytes,
		Storage:                  payloadStorage{r},
		ChunkSize:                pp.Integer(chunkSize(false, mi.PieceLength)), // what nodes ask for comes from the library's pool of buffers
		DisableInitialPieceCheck: true,
	})
	if t.Info() == nil {
		t.Drop()
		return fmt.Errorf("seed %s: the info dictionary does not match info-hash %x", mi.Name, mi.InfoHash)
	}
	s.images[mi.InfoHash] = &seeded{t, r}
	return nil
}

// Remove stops serving a payload and returns when it is no longer read.
func (s *Seeder) Remove(infoHash [20]byte) {
	s.mu.Lock()
	im := s.images[infoHash]
	if im != nil {
		im.torrent.Drop() // before the image can be added again: the library would return this torrent
		delete(s.images, infoHash)
		s.removals.Add(1)
	}
	s.mu.Unlock()
	// A disk or file server that does not answer holds a read for long. The other images do not wait for it.
	if im != nil {
		im.payload.close()
		s.removals.Done()
	}
}

// Port is the TCP port that peers connect to.
func (s *Seeder) Port() int { return s.client.port }

// Uploaded is how many payload bytes of an image were sent.
func (s *Seeder) Uploaded(infoHash [20]byte) int64 {
	s.mu.Lock()
	im := s.images[infoHash]
	s.mu.Unlock()
	if im == nil {
		return 0
	}
	st := im.torrent.Stats()
	return st.BytesWrittenData.Int64()
}

// Close ends all connections.
func (s *Seeder) Close() error {
	err := s.client.close()
	s.mu.Lock()
	images := s.images
	s.images = make(map[[20]byte]*seeded)
	s.mu.Unlock()
	for _, im := range images {
		im.payload.close()
	}
	s.removals.Wait()
	return err
}

// gate lets the owner of a file wait until the library's goroutines, which outlive the torrent
// they serve, no longer use it.
type gate struct {
	mu     sync.RWMutex
	closed bool
}

// enter is followed by leave if it returned true.
func (g *gate) enter() bool {
	g.mu.RLock()
	if g.closed {
		g.mu.RUnlock()
		return false
	}
	return true
}

func (g *gate) leave() { g.mu.RUnlock() }

func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
}

type gatedReader struct {
	gate
	r io.ReaderAt
}

func (g *gatedReader) ReadAt(b []byte, off int64) (int, error) {
	if !g.enter() {
		return 0, os.ErrClosed
	}
	defer g.leave()
	return g.r.ReadAt(b, off)
}

var errReadOnly = errors.New("read only")

// payloadStorage is a payload that is whole: read only.
type payloadStorage struct{ r io.ReaderAt }

func (p payloadStorage) OpenTorrent(context.Context, *metainfo.Info, metainfo.Hash) (storage.TorrentImpl, error) {
	return storage.TorrentImpl{
		Piece:     func(mp metainfo.Piece) storage.PieceImpl { return wholePiece{p.r, mp.Offset()} },
		NewReader: func() storage.TorrentReader { return nopCloser{p.r} },
		Close:     func() error { return nil },
	}, nil
}

type nopCloser struct{ io.ReaderAt }

func (nopCloser) Close() error { return nil }

type wholePiece struct {
	r   io.ReaderAt
	off int64
}

func (p wholePiece) ReadAt(b []byte, off int64) (int, error) { return p.r.ReadAt(b, p.off+off) }

func (p wholePiece) WriteAt([]byte, int64) (int, error) {
	return 0, fmt.Errorf("write to a payload that is served: %w", errReadOnly)
}

func (p wholePiece) MarkComplete() error    { return nil }
func (p wholePiece) MarkNotComplete() error { return errReadOnly }
func (p wholePiece) Completion() storage.Completion {
	return storage.Completion{Ok: true, Complete: true}
}
