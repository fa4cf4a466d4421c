package swarm

import (
	"reflect"
	"unsafe"

	"github.com/anacrolix/torrent"
)

// The library (v1.62.0) asks a peer for more only when every request has been answered, or when the peer
// gets a new piece, and then allows twice as many as it could add the last time: in a chain, where a new
// piece often adds one or two, that comes down to one request for each round trip. It also asks every peer
// that has something, and asked.go says why some should not be. Neither can be changed by its API, so five
// of its names are reached here, and nowhere else; TestRefillFindsTheLibrary fails when another version has
// them no more.

// needRequests makes the library fill the peer's queue when its lock is released. It is called with that
// lock held.
//
//go:linkname needRequests github.com/anacrolix/torrent.(*PeerConn).onNeedUpdateRequests
func needRequests(pc *torrent.PeerConn, reason string)

// lockClient takes the library's lock, under which it calls back.
//
//go:linkname lockClient github.com/anacrolix/torrent.(*Client).lock
func lockClient(*torrent.Client)

// unlockClient lets the library do what was put off until its lock is released.
//
//go:linkname unlockClient github.com/anacrolix/torrent.(*Client).unlock
func unlockClient(*torrent.Client)

// peakOffset is where a torrent.PeerConn keeps how many requests it added the last time, chokingOffset whether the peer chokes.
var (
	peakOffset, peakFound       = fieldOffset(reflect.TypeFor[torrent.PeerConn](), "peakRequests", reflect.Int)
	chokingOffset, chokingFound = fieldOffset(reflect.TypeFor[torrent.PeerConn](), "peerChoking", reflect.Bool)
)

// chokes is what the library believes of a peer, if chokingFound. Its lock is held.
func chokes(pc *torrent.PeerConn) *bool {
	return (*bool)(unsafe.Add(unsafe.Pointer(pc), chokingOffset))
}

func fieldOffset(t reflect.Type, name string, kind reflect.Kind) (off uintptr, found bool) {
	f, ok := t.FieldByName(name)
	if !ok || f.Type.Kind() != kind {
		return 0, false
	}
	for _, i := range f.Index {
		if t.Kind() != reflect.Struct {
			return 0, false // embedded by a pointer
		}
		off += t.Field(i).Offset
		t = t.Field(i).Type
	}
	return off, true
}

// refill keeps the queue of requests to a peer full. The library's lock is held.
func (s *Session) refill(pc *torrent.PeerConn) {
	if !peakFound {
		return
	}
	q := s.queueCap()
	*(*int)(unsafe.Add(unsafe.Pointer(pc), peakOffset)) = q
	// Small chunks: when half of the queue has been answered.
	if s.chunks.Add(1)%max(1, int64(q)/2) == 0 {
		needRequests(pc, "refill")
	}
}
