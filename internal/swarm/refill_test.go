package swarm

import "testing"

// TestRefillFindsTheLibrary: a new version of the library may not have the fields. That the methods are there
// was seen by the linker.
func TestRefillFindsTheLibrary(t *testing.T) {
	if !peakFound {
		t.Error("torrent.PeerConn has no int field peakRequests")
	}
	if !chokingFound {
		t.Error("torrent.PeerConn has no bool field peerChoking")
	}
}
