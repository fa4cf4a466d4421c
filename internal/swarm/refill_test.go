package swarm

import "testing"

// TestRefillFindsTheLibrary: a new version of the library may not have the field. That the method is there
// was seen by the linker.
func TestRefillFindsTheLibrary(t *testing.T) {
	if !peakFound {
		t.Fatal("torrent.PeerConn has no int field peakRequests")
	}
}
