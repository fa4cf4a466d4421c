package swarm

import (
	"testing"

	"swarmboot/imagefmt"
)

// TestNoChunkIsHashed: a new version of the library may keep its hash of chunks elsewhere, or have another one.
func TestNoChunkIsHashed(t *testing.T) {
	if !chunkHashFound {
		t.Fatal("torrent.Torrent has no smartBanCache.Hash of the type that is replaced")
	}
	im := makeImage(t, 1<<20, 256<<10, imagefmt.Verbatim)
	r := newRig(t, im, SeederOptions{})
	s := r.join(1, im.blank(), nil)
	mustWait(t, s)
	hash := *chunkHashOf(s.torrent.Load())
	if hash([]byte("one")) != hash([]byte("two")) {
		t.Error("chunks are still hashed")
	}
}
