package swarm

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anacrolix/torrent"
)

const (
	// stallAfter without a useful byte the tracker is asked for help, sooner once pieces have come: see gauge.patience.
	stallAfter   = 3 * time.Second
	watchEvery   = 100 * time.Millisecond
	maxFailures  = 3               // of one piece
	banAfter     = 2               // bad pieces that came from one peer alone
	noSourceWait = 8 * time.Second // for good peers, once a bad one was turned away
	// busyStall is how much longer than NodeOptions.Stall silence may last while peers are
	// connected, which may be waiting themselves, or while a write is under way.
	busyStall = 3
)

// blame remembers who sent what of pieces that are not done.
type blame struct {
	mu       sync.Mutex
	senders  map[int][]*torrent.PeerConn
	failures map[int]int
	bad      map[string]int // bad pieces by the host that alone sent them
	banned   map[string]bool
	last     *CorruptError // of the peer that was turned away last; nil once another one has sent a good piece
}

func (b *blame) init() {
	b.senders = make(map[int][]*torrent.PeerConn)
	b.failures = make(map[int]int)
	b.bad = make(map[string]int)
	b.banned = make(map[string]bool)
}

// good forgets a piece that is right.
func (b *blame) good(piece int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last != nil && slices.ContainsFunc(b.senders[piece], func(pc *torrent.PeerConn) bool { return !b.banned[hostOf(pc)] }) {
		b.last = nil
	}
	delete(b.senders, piece)
	delete(b.failures, piece)
}

// gotChunk is called by the library for each chunk, with its lock held.
func (s *Session) gotChunk(e torrent.ReceivedUsefulDataEvent) {
	pc, ok := e.Peer.TryAsPeerConn()
	if !ok {
		return
	}
	n := int64(len(e.Message.Piece))
	if fromServer(pc) {
		s.fromServer.Add(n)
	} else {
		s.fromNodes.Add(n)
	}
	s.touch()
	if s.small.Load() && s.gauge.chunk(time.Now(), n) {
		s.wakeUp() // the tracker waits for the rate
	}
	s.refill(pc)
	s.blame.sent(int(e.Message.Index), pc)
}

func (b *blame) sent(piece int, pc *torrent.PeerConn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.senders[piece]; !slices.Contains(l, pc) {
		b.senders[piece] = append(l, pc)
	}
}

// gotBad decides what to do about a piece with a wrong SHA-1. The library would ban the host at
// once, and wait for ever when it was the only one: peers that were dialed are marked as trusted,
// which it does not ban. Here a node that alone sent bad pieces is turned away the second time,
// and the tracker asked for others; the server's seeder is not, and a piece that fails a third
// time is what is wrong.
func (s *Session) gotBad(piece int) {
	s.wrong.Add(1)
	err, times, ban := s.blame.wrong(piece)
	s.log.Warn("a piece came with a wrong SHA-1 and was thrown away", "piece", piece, "from", err.From, "times", times)
	if times >= maxFailures {
		s.fail(err)
		return
	}
	if ban != nil {
		s.log.Warn("a peer is turned away for bad pieces", "peer", ban.RemoteAddr.String())
		ban.Close()
	}
	s.wakeUp()
}

// wrong notes a bad piece and says how often it was bad and which peer should be turned away.
func (b *blame) wrong(piece int) (err *CorruptError, times int, ban *torrent.PeerConn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	senders := b.senders[piece]
	delete(b.senders, piece)
	b.failures[piece]++
	names := make([]string, len(senders))
	for i, pc := range senders {
		names[i] = fmt.Sprintf("%s (%.8s)", pc.RemoteAddr, pc.PeerID[:])
	}
	err = &CorruptError{Piece: piece, From: strings.Join(names, ", ")}
	if len(senders) == 1 && !fromServer(senders[0]) {
		host := hostOf(senders[0])
		if b.bad[host]++; b.bad[host] >= banAfter {
			b.banned[host], b.last = true, err
			ban = senders[0]
		}
	}
	return err, b.failures[piece], ban
}

// corrupt says for what a peer was turned away, if nobody else has sent a good piece since.
func (b *blame) corrupt() *CorruptError {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

func fromServer(pc *torrent.PeerConn) bool {
	return strings.HasPrefix(string(pc.PeerID[:]), SeederPeerIDPrefix)
}

func hostOf(pc *torrent.PeerConn) string {
	host, _, err := net.SplitHostPort(pc.RemoteAddr.String())
	if err != nil {
		return pc.RemoteAddr.String()
	}
	return host
}

// addrOf is where a peer's connection comes from or goes to.
func addrOf(pc *torrent.PeerConn) (_ netip.AddrPort, ok bool) {
	return parseAddr(pc.RemoteAddr.String())
}

func parseAddr(s string) (_ netip.AddrPort, ok bool) {
	ap, err := netip.ParseAddrPort(s)
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), err == nil
}

func (s *Session) addPeers(peers []netip.AddrPort) {
	if s.store.received() {
		return // those who need us call us
	}
	var add []torrent.PeerInfo
	s.blame.mu.Lock()
	for _, p := range peers {
		if !s.blame.banned[p.Addr().String()] {
			add = append(add, torrent.PeerInfo{
				Addr: net.TCPAddrFromAddrPort(p), Source: torrent.PeerSourceTracker, Trusted: true,
			})
		}
	}
	s.blame.mu.Unlock()
	s.torrent.Load().AddPeers(add)
}

// trim ends connections to upstreams that the tracker no longer names, once one that it names is
// connected: the topology is the tracker's.
func (s *Session) trim(peers []netip.AddrPort) {
	if s.store.received() || len(peers) == 0 {
		return
	}
	var old []*torrent.PeerConn
	named := false
	for _, pc := range s.torrent.Load().PeerConns() {
		ap, ok := addrOf(pc)
		switch {
		case !ok:
		case pc.Discovery != torrent.PeerSourceTracker:
			// A follower that has become the upstream has called this node, from another port, and is not called too.
			named = named || slices.ContainsFunc(peers, func(p netip.AddrPort) bool { return p.Addr() == ap.Addr() })
		case slices.Contains(peers, ap):
			named = true
		default:
			old = append(old, pc)
		}
	}
	if !named {
		return
	}
	for _, pc := range old {
		s.log.Debug("leaving a peer that is no upstream any more", "peer", pc.RemoteAddr.String())
		pc.Close()
	}
}

// Feeding says whether a connected peer lacks pieces.
func (s *Session) Feeding() bool {
	for _, pc := range s.torrent.Load().PeerConns() {
		if pc.PeerPieces().GetCardinality() < uint64(s.o.Manifest.Pieces()) {
			return true
		}
	}
	return false
}

// stalled says that nothing comes although the disk is idle.
func (s *Session) stalled() bool {
	return !s.complete() && s.quietFor() > s.gauge.patience() && !s.writing()
}

// needsHelp says whether the tracker should name more upstreams.
func (s *Session) needsHelp() bool {
	return s.stalled() || s.blame.corrupt() != nil && !s.store.received()
}

// writing says whether the disk is what everything waits for.
func (s *Session) writing() bool {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	return s.store.active > 0
}

// diskBound says that the peers are kept waiting for this node's own disk, or soon will be.
func (s *Session) diskBound() bool {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	return s.store.waiting >= busyWaiting
}

// watch ends the session's hope when nothing comes any more.
func (s *Session) watch() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	told, busy := false, false
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.finished:
			return
		case <-s.failed:
			s.torrent.Load().DisallowDataDownload()
			return
		case <-tick.C:
		}
		now, slow := s.stalled(), s.diskBound()
		// Before the first piece all wait, and tell it at their interval.
		if now && !told && s.gauge.fed() || slow != busy {
			s.wakeUp()
		}
		told, busy = now, slow
		if s.asking.tick(time.Now(), now) {
			s.choose()
		}
		if s.onlyOrdinary() {
			if err := s.takeSmallChunks(); err != nil {
				s.fail(err)
			}
		}
		if err := s.hopeless(); err != nil {
			s.fail(err)
		}
	}
}

func (s *Session) hopeless() error {
	quiet := s.quietFor()
	// A controller that died, or a path to network storage, holds a write for ever without an error.
	if s.o.Stall > 0 && quiet >= busyStall*s.o.Stall && s.writing() {
		return &HungError{For: quiet, Pieces: int(s.pieces.Load()), Total: s.o.Manifest.Pieces()}
	}
	if !s.stalled() {
		return nil
	}
	peers := len(s.torrent.Load().PeerConns())
	last := s.blame.corrupt()
	if last != nil && peers == 0 && quiet > noSourceWait {
		return last
	}
	limit := s.o.Stall
	if limit <= 0 {
		return nil
	}
	if peers > 0 {
		limit *= busyStall
	}
	if quiet < limit {
		return nil
	}
	if last != nil {
		return last
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return &StallError{
		For: quiet, Peers: peers, Pieces: int(s.pieces.Load()), Total: s.o.Manifest.Pieces(), Announce: s.announceErr,
	}
}
