package swarm

import (
	"reflect"
	"unsafe"

	"github.com/anacrolix/torrent"
)

// The library (v1.62.0) hashes every chunk that comes, to know later who sent the bad ones of a piece. Nobody asks it here:
// pieces hash themselves (storePiece.SelfHash), and gotBad decides who is turned away. It cannot be switched off by its API, so
// the function is replaced; TestNoChunkIsHashed fails when another version does not have it there any more.

// chunkHashOffset is where a torrent.Torrent keeps the function that does it.
var chunkHashOffset, chunkHashFound = chunkHash()

type chunkHasher = func([]byte) uint64

func chunkHash() (off uintptr, found bool) {
	cache, ok := reflect.TypeFor[torrent.Torrent]().FieldByName("smartBanCache")
	if !ok || len(cache.Index) != 1 || cache.Type.Kind() != reflect.Struct {
		return 0, false
	}
	hash, ok := cache.Type.FieldByName("Hash")
	if !ok || len(hash.Index) != 1 || hash.Type != reflect.TypeFor[chunkHasher]() {
		return 0, false
	}
	return cache.Offset + hash.Offset, true
}

// hashNoChunks is called before the torrent asks for anything.
func hashNoChunks(t *torrent.Torrent) {
	if chunkHashFound {
		*chunkHashOf(t) = func([]byte) uint64 { return 0 }
	}
}

func chunkHashOf(t *torrent.Torrent) *chunkHasher {
	return (*chunkHasher)(unsafe.Add(unsafe.Pointer(t), chunkHashOffset))
}
