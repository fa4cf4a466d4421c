package swarm

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/anacrolix/torrent/metainfo"
	"github.com/anacrolix/torrent/storage"

	"swarmboot/imagefmt"
)

const (
	// maxWaiting bounds the bytes of whole pieces that wait for the disk. Beyond it the peers'
	// connections are not read, and TCP slows the senders down.
	maxWaiting = 16 << 20
	// busyWaiting is from when on the tracker is told: until it has found another place for a slow disk some more comes.
	busyWaiting = maxWaiting / 4 * 3
	// The encoded pieces that are kept to be served after they were written take a share of the memory that is
	// available at the start, within bounds. A follower is seldom more than a few pieces behind.
	cacheShare = 16
	cacheLeast = 8 << 20
	cacheMost  = 32 << 20
	// rebuilders is how many pieces are re-encoded from the target at once, writers how many are written to it.
	rebuilders = 2
	writers    = 2
)

var (
	errNotServed = errors.New("the piece cannot be served")
	errClosed    = errors.New("the session is closed")
)

// storeEvents is what a store tells its session. The calls come from many goroutines.
type storeEvents struct {
	index func(*imagefmt.Index)      // the index pieces have arrived and are good
	piece func(piece int, raw int64) // on the target for the first time, raw bytes were written
	bad   func(piece int)            // whole, but its SHA-1 is wrong
	fail  func(error)                // the image cannot be completed
	odd   func(piece int, err error) // a piece that was written cannot be served
}

// notedTarget calls wrote for each write that ended well: a packed piece may be many of them.
type notedTarget struct {
	Target
	gauge *diskGauge
	wrote func()
}

func (t notedTarget) WriteAt(b []byte, off int64) (int, error) {
	t.gauge.begin()
	n, err := t.Target.WriteAt(b, off)
	t.gauge.end(n)
	if err == nil {
		t.wrote()
	}
	return n, err
}

// store is the library's view of the target: chunks are gathered in memory, a whole piece whose
// SHA-1 is right goes to the target at its extents, and pieces are served from memory while they wait
// for that, then from a cache of what was written last or encoded again from the target. So what a disk
// takes unevenly no node behind this one waits for, as long as there is room.
type store struct {
	manifest *imagefmt.Manifest
	hashes   []byte // SHA-1 of each piece
	target   imagefmt.Target
	checkRaw bool
	on       storeEvents
	gate     gate

	mu      sync.Mutex
	changed sync.Cond          // a write has ended, or closed
	open    map[int]*assembly  // pieces that are not yet written
	waiting int64              // bytes of whole pieces among them
	active  int                // pieces being hashed, waiting for their write, or being written
	queue   []*assembly        // good ones that nobody writes yet
	writers int                // that run
	written sync.WaitGroup     // ends when they have ended
	done    []bool             // pieces that may be served
	have    int                // how many
	lost    map[int]bool       // written, but cannot be encoded to what they were
	region  []byte             // the index pieces
	missing int                // index pieces that have not arrived
	index   *imagefmt.Index    // nil until then
	restore *imagefmt.Restorer // nil until then
	cache   *cache
	rebuild map[int]chan struct{} // closed when the rebuilding has ended
	slots   chan struct{}
	closed  bool
	// generation counts how often the library opened the payload: what it does for an earlier opening is void.
	generation int
}

// assembly is a piece whose chunks arrive. Different chunks are copied without a lock: the library
// gives every chunk once, and hashes only after the last one is in.
type assembly struct {
	piece int
	buf   *buffer
	got   int64
	good  bool // whole, and its SHA-1 is right: it may be served
	first bool // it was not done before
}

func newStore(o NodeOptions, on storeEvents) *store {
	m := o.Manifest
	s := &store{
		manifest: m,
		hashes:   o.Metainfo.Pieces,
		target:   o.Target,
		checkRaw: o.CheckRaw,
		on:       on,
		open:     make(map[int]*assembly),
		done:     make([]bool, m.Pieces()),
		lost:     make(map[int]bool),
		region:   make([]byte, min(int64(m.IndexPieces())*m.PieceLength, m.PayloadLength)),
		missing:  m.IndexPieces(),
		cache:    newCache(m.PieceLength, cacheSize(availableMemory())),
		rebuild:  make(map[int]chan struct{}),
		slots:    make(chan struct{}, rebuilders),
	}
	s.changed.L = &s.mu
	return s
}

// OpenTorrent implements storage.ClientImpl.
func (s *store) OpenTorrent(context.Context, *metainfo.Info, metainfo.Hash) (storage.TorrentImpl, error) {
	s.mu.Lock()
	gen := s.generation
	s.mu.Unlock()
	return storage.TorrentImpl{
		Piece:     func(p metainfo.Piece) storage.PieceImpl { return storePiece{s, p.Index(), gen} },
		NewReader: func() storage.TorrentReader { return nopCloser{s} },
		Close:     func() error { return nil },
	}, nil
}

// lacks says whether a piece that a peer has is not done.
func (s *store) lacks(has func(piece uint32) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for piece, done := range s.done {
		if !done && has(uint32(piece)) {
			return true
		}
	}
	return false
}

// served is how many pieces may be served. Some of them may still wait for the disk.
func (s *store) served() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.have
}

// received says whether every piece may be served.
func (s *store) received() bool { return s.served() == len(s.done) }

// shut makes calls from the library fail and forgets what waits for the disk; close waits for what is under way.
func (s *store) shut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.active -= len(s.queue)
	s.queue = nil
	s.changed.Broadcast()
}

// close is called after shut. The target is not used after it returned.
func (s *store) close() {
	s.written.Wait()
	s.gate.close()
}

// renew drops what was received of pieces that are not whole, before the library opens the payload again.
func (s *store) renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	s.changed.Broadcast()
	for s.active > 0 {
		s.changed.Wait()
	}
	clear(s.open)
	s.waiting = 0
}

// storePiece is one piece. It implements storage.SelfHashing: what the library would read back is still in memory.
type storePiece struct {
	s     *store
	piece int
	gen   int
}

func (p storePiece) WriteAt(b []byte, off int64) (int, error) { return p.writeChunk(b, off) }
func (p storePiece) SelfHash() (metainfo.Hash, error)         { return p.s.finish(p.piece, p.gen) }
func (p storePiece) MarkComplete() error                      { return nil }
func (p storePiece) MarkNotComplete() error                   { return nil }

func (p storePiece) ReadAt(b []byte, off int64) (int, error) {
	return p.s.ReadAt(b, int64(p.piece)*p.s.manifest.PieceLength+off)
}

func (p storePiece) Completion() storage.Completion {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	return storage.Completion{Ok: true, Complete: p.s.done[p.piece]}
}

func (p storePiece) writeChunk(b []byte, off int64) (int, error) {
	s, piece := p.s, p.piece
	s.mu.Lock()
	a := s.open[piece]
	// Waiting only while a write is under way: it ends, so this does too, even when the chunk
	// that would finish a piece comes after this one in the library's batch.
	for a == nil && s.waiting >= maxWaiting && s.active > 0 && !s.closed && p.gen == s.generation {
		s.changed.Wait()
		a = s.open[piece]
	}
	if s.closed || p.gen != s.generation {
		s.mu.Unlock()
		return 0, errClosed
	}
	if a != nil && a.good {
		s.mu.Unlock()
		return len(b), nil // it may be on its way to the target and to peers
	}
	size := s.manifest.PieceSize(piece)
	if a == nil {
		a = &assembly{piece: piece, buf: s.cache.buffer(size)}
		s.open[piece] = a
	}
	a.got += int64(len(b))
	if a.got == size {
		s.waiting += size
	}
	s.mu.Unlock()
	return copy(a.buf.data[off:], b), nil
}

// finish hashes a piece that is whole and has it written, later. An error means that nothing is wrong with
// what the peers sent.
func (s *store) finish(piece, gen int) (sum metainfo.Hash, err error) {
	if !s.gate.enter() {
		return sum, errClosed
	}
	defer s.gate.leave()
	a, err := s.begin(piece, gen)
	if err != nil {
		return sum, err
	}
	sum = sha1.Sum(a.buf.data)
	switch {
	case !bytes.Equal(sum[:], s.hashes[piece*sha1.Size:][:sha1.Size]):
		s.end(a, false)
		s.on.bad(piece)
		return sum, nil
	case piece >= s.manifest.IndexPieces():
		return sum, s.enqueue(a)
	}
	first, err := s.acceptIndex(a)
	s.end(a, false)
	if err != nil {
		s.on.fail(err)
		return metainfo.Hash{}, err
	}
	if first {
		s.on.piece(piece, 0)
	}
	return sum, nil
}

func (s *store) begin(piece, gen int) (*assembly, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if gen != s.generation {
		return nil, errClosed
	}
	a := s.open[piece]
	if a == nil || a.got != s.manifest.PieceSize(piece) {
		return nil, fmt.Errorf("piece %d is not in memory", piece)
	}
	s.active++
	return a, nil
}

// end takes a piece out of the memory of what is under way, into the cache if it was written.
func (s *store) end(a *assembly, written bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if written {
		s.cache.add(a.piece, a.buf)
	}
	delete(s.open, a.piece)
	s.waiting -= a.got
	s.active--
	s.cache.release(a.buf)
	s.changed.Broadcast()
}

// setDone notes that a piece may be served. It says whether that is new: a piece that is both fetched and found on the target counts
// once, or the run would end with others missing. The caller holds s.mu.
func (s *store) setDone(piece int) (first bool) {
	if s.done[piece] {
		return false
	}
	s.done[piece] = true
	s.have++
	return true
}

// enqueue leaves a good piece to a writer. It may be served at once.
func (s *store) enqueue(a *assembly) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.active--
		return errClosed
	}
	a.good, a.first = true, s.setDone(a.piece)
	s.queue = append(s.queue, a)
	if s.writers < writers {
		s.writers++
		s.written.Go(s.write)
	}
	return nil
}

// write puts pieces on the target until none waits.
func (s *store) write() {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 {
			s.writers--
			s.mu.Unlock()
			return
		}
		a := s.queue[0]
		s.queue = s.queue[1:]
		s.mu.Unlock()
		raw, err := s.writePiece(a)
		s.end(a, err == nil)
		if err != nil { // the piece is served no more: what is read from the target then has another SHA-1
			s.on.fail(err)
		} else if a.first {
			s.on.piece(a.piece, raw)
		}
	}
}

func (s *store) writePiece(a *assembly) (raw int64, err error) {
	s.mu.Lock()
	r := s.restore
	s.mu.Unlock()
	if r == nil {
		return 0, fmt.Errorf("piece %d came before the index", a.piece)
	}
	raw, err = r.WritePiece(a.piece, a.buf.data)
	var ve *imagefmt.VerifyError
	if errors.As(err, &ve) {
		return 0, &CorruptError{Piece: a.piece, From: "a peer, with the right SHA-1", Err: err}
	}
	if err != nil {
		return 0, fmt.Errorf("write piece %d: %w", a.piece, err)
	}
	return raw, nil
}

// acceptIndex puts a good piece of the index to memory.
func (s *store) acceptIndex(a *assembly) (first bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	copy(s.region[int64(a.piece)*s.manifest.PieceLength:], a.buf.data)
	if s.missing--; s.missing == 0 {
		ix, err := imagefmt.ParseIndex(s.region[:s.manifest.IndexLength], s.manifest)
		if err != nil {
			return false, &CorruptError{Piece: a.piece, From: "the swarm (index)", Err: err}
		}
		s.index, s.restore = ix, imagefmt.NewRestorer(ix, s.target, s.checkRaw)
		s.on.index(ix)
	}
	return s.setDone(a.piece), nil
}

// ReadAt reads payload bytes of pieces that are done, for a peer. The library asks for at most
// one chunk, which lies in one piece.
func (s *store) ReadAt(b []byte, off int64) (int, error) {
	if !s.gate.enter() {
		return 0, errClosed
	}
	defer s.gate.leave()
	n := 0
	for n < len(b) {
		piece := int((off + int64(n)) / s.manifest.PieceLength)
		if piece >= len(s.done) {
			return n, io.EOF
		}
		m, err := s.readPiece(b[n:], piece, (off+int64(n))%s.manifest.PieceLength)
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (s *store) readPiece(b []byte, piece int, off int64) (int, error) {
	if piece < s.manifest.IndexPieces() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.done[piece] {
			return 0, errNotServed
		}
		end := min(int64(piece+1)*s.manifest.PieceLength, int64(len(s.region)))
		return copy(b, s.region[int64(piece)*s.manifest.PieceLength+off:end]), nil
	}
	buf, err := s.encoded(piece)
	if err != nil {
		return 0, err
	}
	n := copy(b, buf.data[off:])
	s.mu.Lock()
	s.cache.release(buf)
	s.mu.Unlock()
	return n, nil
}

// encoded returns a piece from the cache or rebuilds it; the caller releases it. Callers that want
// the same piece wait for one rebuilding.
func (s *store) encoded(piece int) (*buffer, error) {
	s.mu.Lock()
	for {
		if s.closed {
			s.mu.Unlock()
			return nil, errClosed
		}
		if !s.done[piece] || s.lost[piece] {
			s.mu.Unlock()
			return nil, errNotServed
		}
		if a := s.open[piece]; a != nil && a.good {
			a.buf.refs++
			s.mu.Unlock()
			return a.buf, nil
		}
		if buf := s.cache.get(piece); buf != nil {
			s.mu.Unlock()
			return buf, nil
		}
		busy := s.rebuild[piece]
		if busy == nil {
			break
		}
		s.mu.Unlock()
		<-busy
		s.mu.Lock()
	}
	busy := make(chan struct{})
	s.rebuild[piece] = busy
	buf := s.cache.buffer(s.manifest.PieceSize(piece))
	s.mu.Unlock()

	err := s.encode(piece, buf)

	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.rebuild, piece)
	close(busy)
	if err != nil {
		s.cache.release(buf)
		s.lost[piece] = true
		return nil, err
	}
	s.cache.add(piece, buf)
	return buf, nil
}

// encode reads a piece back from the target. A byte of it is served only if its SHA-1 is that of
// the metainfo.
func (s *store) encode(piece int, buf *buffer) error {
	s.slots <- struct{}{}
	defer func() { <-s.slots }()
	got, err := s.restore.ReadPiece(piece, buf.data[:0])
	if err == nil {
		sum := sha1.Sum(got)
		if !bytes.Equal(sum[:], s.hashes[piece*sha1.Size:][:sha1.Size]) {
			err = errors.New("the SHA-1 of the piece made from the target differs")
		}
	}
	if err != nil {
		s.on.odd(piece, err)
		return fmt.Errorf("%w: piece %d: %w", errNotServed, piece, err)
	}
	copy(buf.data, got) // no move if ReadPiece used the buffer
	return nil
}
