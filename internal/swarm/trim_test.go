package swarm

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/anacrolix/torrent"

	"swarmboot/imagefmt"
)

// TestTrimAfterSwap: a node whose follower has become its upstream leaves the upstream that it had, though it is the other one that has
// called. As long as nobody named is connected it keeps what it has.
func TestTrimAfterSwap(t *testing.T) {
	t.Parallel()
	im := makeImage(t, 64<<20, 256<<10, imagefmt.Verbatim)
	r := newRig(t, im, SeederOptions{UploadRate: 2 << 20})
	s1 := r.join(1, im.blank(), nil)
	waitPieces(t, s1, im.manifest.IndexPieces())
	s2 := r.join(2, im.blank(), nil)
	conn := func(dialed bool) *torrent.PeerConn {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			for _, pc := range s1.torrent.Load().PeerConns() {
				if dialed == (pc.Discovery == torrent.PeerSourceTracker) && dialed == fromServer(pc) {
					return pc
				}
			}
		}
		t.Fatalf("no such connection: %+v", s1.Stats())
		return nil
	}
	conn(false)
	seeder := conn(true)
	connected := func() bool { return slices.Contains(s1.torrent.Load().PeerConns(), seeder) }
	s1.trim([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.99:6881")})
	if !connected() {
		t.Error("it has left its only upstream for one that is not there")
	}
	s1.trim([]netip.AddrPort{addrOfNode(s2)})
	for deadline := time.Now().Add(time.Minute); connected(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it keeps its old upstream")
		}
	}
}
