package swarm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anacrolix/torrent"

	"swarmboot/imagefmt"
)

// zeroStep is how many bytes Target.Zero is asked for at once, so that Close need not wait long.
const zeroStep = 64 << 20

// Session is a node's part in the swarm of one image: it fetches every piece to the target and
// serves what it has until Close.
type Session struct {
	o         NodeOptions
	log       *slog.Logger
	store     *store
	client    *client
	torrent   atomic.Pointer[torrent.Torrent]
	announcer *announcer
	ctx       context.Context
	cancel    context.CancelFunc
	work      sync.WaitGroup
	// joined carries the monotonic clock's reading: a live system may set its clock by years when it finds a time server.
	joined time.Time

	finished  chan struct{}       // closed: everything is on the target
	failed    chan struct{}       // closed: err is why it will never be
	wake      chan struct{}       // the tracker should hear from us soon
	hungUp    chan struct{}       // a connection ended
	refused   chan netip.AddrPort // nobody listens there
	indexed   chan *imagefmt.Index
	closeOnce sync.Once
	closeErr  error
	// Only in announceLoop: the end was noticed, the tracker knows of it.
	sawDone, toldDone bool
	finishOnce        sync.Once
	failOnce          sync.Once
	err               error

	pieces, raw, kept            atomic.Int64
	chunks, uploaded             atomic.Int64 // received; sent before the swarm was joined anew
	small                        atomic.Bool  // chunks are small
	offers                       sync.Map     // *torrent.PeerConn of ordinary clients that would send some
	unasked                      sync.Map     // *torrent.PeerConn of nodes that would send some and are not asked
	zeroed                       atomic.Bool
	fromServer, fromNodes, wrong atomic.Int64
	progress                     atomic.Int64 // nanoseconds from joined to the last useful byte or write
	index                        atomic.Pointer[imagefmt.Index]
	blame                        blame
	asking                       asking
	gauge                        gauge
	disk                         diskGauge

	mu          sync.Mutex
	announceErr error

	// torrentMu is held while the library is given the torrent, and by what tells it of pieces: takeSmallChunks gives it the torrent
	// anew, which then has to hear the same. The library's own lock is taken below it.
	torrentMu sync.Mutex
	wanted    []bool // pieces that the library is to fetch
}

// Join starts to fetch. The context ends the session's background work like Close does.
func Join(ctx context.Context, o NodeOptions) (*Session, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if err := o.Metainfo.Check(o.Manifest); err != nil {
		return nil, fmt.Errorf("join the swarm of %s: %w", o.Manifest.Name, err)
	}
	s := &Session{
		o: o, log: o.Logger, joined: time.Now(),
		finished: make(chan struct{}), failed: make(chan struct{}),
		indexed: make(chan *imagefmt.Index, 1), wake: make(chan struct{}, 1), hungUp: make(chan struct{}, 1), refused: make(chan netip.AddrPort, 8),
		wanted: make([]bool, o.Manifest.Pieces()),
	}
	s.blame.init()
	s.gauge.pieceLength = o.Manifest.PieceLength
	s.touch()
	o.Target = notedTarget{o.Target, &s.disk, s.touch}
	s.store = newStore(o, storeEvents{
		index: func(ix *imagefmt.Index) { s.indexed <- ix }, piece: s.gotPiece, bad: s.gotBad, fail: s.fail, odd: s.cannotServe,
	})
	s.ctx, s.cancel = context.WithCancel(ctx)
	if err := s.start(); err != nil {
		s.cancel()
		return nil, fmt.Errorf("join the swarm of %s: %w", o.Manifest.Name, err)
	}
	return s, nil
}

func (s *Session) start() (err error) {
	s.client, err = newClient(s.o.Listen, NodePeerIDPrefix, 0, s.callbacks(), connEvents{s.timed, s.nobodyListens}, s.log)
	if err != nil {
		return err
	}
	mi := s.o.Metainfo
	peerID := s.client.PeerID()
	fixed := url.Values{
		"info_hash": {string(mi.InfoHash[:])},
		"peer_id":   {string(peerID[:])},
		"port":      {strconv.Itoa(s.client.port)},
		"compact":   {"1"},
		"sb_node":   {s.o.Node},
		"sb_run":    {s.o.Run},
	}
	if s.o.Rack != nil && s.o.Rack() != "" {
		fixed.Set("sb_rack", s.o.Rack())
	}
	s.announcer, err = newAnnouncer(s.o.Announce, s.client.listener.Addr().(*net.TCPAddr).IP, fixed)
	if err != nil {
		return errors.Join(err, s.client.close())
	}
	if err := s.addTorrent(); err != nil {
		return errors.Join(err, s.client.close())
	}
	s.want(0, s.o.Manifest.IndexPieces())
	s.work.Go(s.announceLoop)
	s.work.Go(s.watch)
	s.work.Go(s.afterIndex)
	return nil
}

// Wait returns nil when every piece and every zero extent is on the target, and an error as soon
// as that cannot be reached any more: *CorruptError, *StallError, *HungError, the target's write error.
// The session goes on seeding after it returned nil.
func (s *Session) Wait(ctx context.Context) error {
	select {
	case <-s.failed:
		return s.err
	case <-s.finished:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
	}
	select {
	case <-s.failed: // which ends the session too
		return s.err
	case <-s.finished:
		return nil
	default:
		return s.ctx.Err()
	}
}

// Stats are totals since Join.
func (s *Session) Stats() Stats {
	return Stats{
		PiecesDone:   int(s.pieces.Load()),
		PiecesTotal:  s.o.Manifest.Pieces(),
		PiecesKept:   int(s.kept.Load()),
		BytesDone:    s.raw.Load(),
		BytesTotal:   s.o.Manifest.UsedBytes,
		FromServer:   s.fromServer.Load(),
		FromNodes:    s.fromNodes.Load(),
		Uploaded:     s.uploaded.Load() + uploaded(s.torrent.Load()),
		HashFailures: int(s.wrong.Load()),
	}
}

// Index is the image's index, nil until its pieces have arrived.
func (s *Session) Index() *imagefmt.Index { return s.index.Load() }

// Close leaves the swarm: it tells the tracker, ends all connections and waits for writes under
// way. The target is not used after it returned.
func (s *Session) Close() error {
	s.closeOnce.Do(func() {
		s.cancel()
		s.store.shut()
		s.work.Wait()
		s.closeErr = s.client.close()
		s.store.close()
	})
	return s.closeErr
}

func (s *Session) complete() bool {
	select {
	case <-s.finished:
		return true
	default:
		return false
	}
}

// fail ends Wait; watch stops the download.
func (s *Session) fail(err error) {
	s.failOnce.Do(func() {
		s.err = err
		close(s.failed)
	})
}

func (s *Session) touch() { s.progress.Store(int64(time.Since(s.joined))) }

func (s *Session) quietFor() time.Duration {
	return time.Since(s.joined) - time.Duration(s.progress.Load())
}

func (s *Session) wakeUp() { notify(s.wake, struct{}{}) }

// notify leaves word in a channel that has room.
func notify[T any](c chan T, word T) {
	select {
	case c <- word:
	default:
	}
}

func (s *Session) setAnnounceErr(err error) {
	s.mu.Lock()
	s.announceErr = err
	s.mu.Unlock()
}

// afterIndex asks for the data pieces, whose places are known now, and writes the zeros.
func (s *Session) afterIndex() {
	var ix *imagefmt.Index
	select {
	case ix = <-s.indexed:
	case <-s.ctx.Done():
		return
	}
	s.index.Store(ix)
	if s.o.Resume {
		s.work.Go(func() { s.resume(ix) })
	} else {
		s.want(ix.IndexPieces(), ix.Pieces())
	}
	if err := s.writeZeros(ix.Zero()); err != nil {
		if s.ctx.Err() == nil {
			s.fail(err)
		}
		return
	}
	s.zeroed.Store(true)
	s.checkFinished()
}

func (s *Session) writeZeros(extents []imagefmt.Extent) error {
	for _, e := range extents {
		for off := e.Off; off < e.End(); off += zeroStep {
			n := min(zeroStep, e.End()-off)
			if err := s.o.Target.Zero(s.ctx, off, n); err != nil {
				return fmt.Errorf("write zeros: %w", err)
			}
			s.touch()
		}
	}
	return nil
}

func (s *Session) gotPiece(piece int, raw int64) {
	s.blame.good(piece)
	s.raw.Add(raw)
	s.pieces.Add(1)
	s.touch()
	s.checkFinished()
}

func (s *Session) checkFinished() {
	if s.zeroed.Load() && int(s.pieces.Load()) == s.o.Manifest.Pieces() {
		s.finishOnce.Do(func() { close(s.finished) })
	}
}

func (s *Session) cannotServe(piece int, err error) {
	s.log.Warn("a piece cannot be served to others", "piece", piece, "err", err)
}
