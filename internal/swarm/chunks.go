package swarm

import (
	"errors"
	"strings"
	"time"

	"github.com/anacrolix/torrent"
	pp "github.com/anacrolix/torrent/peer_protocol"
)

// Our nodes and seeder ask each other for whole pieces, up to chunkMost at once. The library sends what a peer
// has asked for in random order: of 32 chunks of 16 KiB the last one of a piece came after 100 others, and each
// node of a chain waited for it. It also saves messages, wake-ups and copies. Ordinary clients serve 16 KiB
// (BEP 3) and end connections that ask for more, so a session that has only them starts anew with small chunks.
const (
	chunkMost  = 256 << 10
	queueBytes = 768 << 10 // asked for ahead of a peer's answers
	smallChunk = 16 << 10
	smallQueue = 512 << 10 // bytes too

	// aloneWait is how long a node that is connected to ordinary clients alone waits for others.
	aloneWait = time.Second
)

// chunkSize is how much of a payload is asked for by one message.
func chunkSize(small bool, pieceLength int64) int64 {
	if small {
		return smallChunk
	}
	return min(chunkMost, pieceLength)
}

// queueCap is how many chunks a peer is asked for ahead of its answers. The library's own up to
// 1,024 are spread over many pieces, which then complete in bursts that every further node of a
// chain waits for.
func (s *Session) queueCap() int {
	if s.small.Load() {
		return smallQueue / smallChunk
	}
	return queueBytes / int(chunkSize(false, s.o.Manifest.PieceLength))
}

// callbacks adapt the library's ways with peers.
func (s *Session) callbacks() torrent.Callbacks {
	return torrent.Callbacks{
		ReceivedUsefulData: []func(torrent.ReceivedUsefulDataEvent){s.gotChunk},
		PeerConnClosed: func(pc *torrent.PeerConn) {
			s.offers.Delete(pc)
			s.unasked.Delete(pc)
			notify(s.hungUp, struct{}{})
		},
		ReadMessage: s.keepFromAsking,
		// It runs before the library takes the peer's limit from the message.
		ReadExtendedHandshake: func(_ *torrent.PeerConn, m *pp.ExtendedHandshakeMessage) {
			if q := s.queueCap(); m.Reqq == 0 || m.Reqq > q {
				m.Reqq = q
			}
		},
		// Until the extended handshake, or for peers without one.
		PeerConnAdded: []func(*torrent.PeerConn){func(pc *torrent.PeerConn) {
			pc.PeerMaxRequests = min(pc.PeerMaxRequests, s.queueCap())
		}},
	}
}

// ours says whether a peer is a seeder or node of swarmboot, which serve chunks of any size.
func ours(pc *torrent.PeerConn) bool {
	return fromServer(pc) || strings.HasPrefix(string(pc.PeerID[:]), NodePeerIDPrefix)
}

// keepFromAsking lets the library believe that ordinary clients choke this node, while chunks are
// larger than they serve. What they ask for is served. The library's lock is held.
func (s *Session) keepFromAsking(pc *torrent.PeerConn, m *pp.Message) {
	switch {
	case m.Keepalive:
		return
	case ours(pc):
		s.keepNode(pc, m)
		return
	case s.small.Load():
		return
	}
	switch m.Type {
	case pp.Unchoke, pp.AllowedFast:
		m.Type = pp.Choke
		s.offers.Store(pc, nil)
	case pp.Choke:
		s.offers.Delete(pc)
	}
}

// onlyOrdinary says that ordinary clients offer what nobody else sends.
func (s *Session) onlyOrdinary() bool {
	quiet := s.quietFor()
	if quiet <= aloneWait || s.small.Load() || s.complete() || s.writing() {
		return false
	}
	offered := false
	for _, pc := range s.torrent.Load().PeerConns() {
		if _, ok := s.offers.Load(pc); ok {
			offered = offered || s.store.lacks(pc.PeerPieces().Contains)
		} else if quiet <= stallAfter && ours(pc) {
			return false
		}
	}
	return offered
}

// takeSmallChunks joins the swarm anew; pieces that were under way are lost.
func (s *Session) takeSmallChunks() error {
	s.log.Info("only ordinary BitTorrent clients have what this node lacks: it asks for small chunks from now on")
	s.small.Store(true)
	old := s.torrent.Load()
	s.uploaded.Add(uploaded(old))
	old.Drop()
	s.store.renew()
	if err := s.addTorrent(); err != nil {
		return err
	}
	s.wakeUp()
	return nil
}

func uploaded(t *torrent.Torrent) int64 {
	st := t.Stats()
	return st.BytesWrittenData.Int64()
}

// addTorrent gives the library the torrent, with what is on the target already, and asks for what is wanted.
func (s *Session) addTorrent() error {
	s.torrentMu.Lock()
	defer s.torrentMu.Unlock()
	mi := s.o.Metainfo
	t, _ := s.client.AddTorrentOpt(torrent.AddTorrentOpts{
		InfoHash:                 mi.InfoHash,
		InfoBytes:                mi.InfoBytes,
		Storage:                  s.store,
		ChunkSize:                pp.Integer(chunkSize(s.small.Load(), s.o.Manifest.PieceLength)),
		DisableInitialPieceCheck: true,
	})
	if t.Info() == nil {
		return errors.New("the info dictionary does not match the info-hash")
	}
	t.SetOnWriteChunkError(func(err error) {
		if !errors.Is(err, errClosed) {
			s.fail(err)
		}
	})
	s.torrent.Store(t)
	for piece, wanted := range s.wanted {
		if wanted {
			t.DownloadPieces(piece, piece+1)
		}
	}
	return nil
}

// want asks the library for the pieces from begin to end.
func (s *Session) want(begin, end int) {
	s.torrentMu.Lock()
	defer s.torrentMu.Unlock()
	for piece := begin; piece < end; piece++ {
		s.wanted[piece] = true
	}
	s.torrent.Load().DownloadPieces(begin, end)
}

// timed hears how fast a long message came: a large chunk.
func (s *Session) timed(n int64, took time.Duration) {
	if s.gauge.message(n, took) {
		s.wakeUp() // the tracker waits for the rate
	}
}
