package swarm

import (
	"testing"
	"time"

	"github.com/anacrolix/torrent"
	pp "github.com/anacrolix/torrent/peer_protocol"

	"swarmboot/imagefmt"
)

// TestOnlyOrdinary: silence makes a node take small chunks only while a connected ordinary client would send what it lacks.
func TestOnlyOrdinary(t *testing.T) {
	t.Parallel()
	im := makeImage(t, 1<<20, 256<<10, imagefmt.Packed)
	for _, c := range []struct {
		name   string
		before func(s *Session, ordinary *Seeder, pc *torrent.PeerConn)
		want   bool
	}{
		{"it offers a piece", func(*Session, *Seeder, *torrent.PeerConn) {}, true},
		{"it has nothing new", func(s *Session, _ *Seeder, _ *torrent.PeerConn) {
			s.store.mu.Lock()
			defer s.store.mu.Unlock()
			for i := range s.store.done {
				s.store.done[i] = true
			}
		}, false},
		{"it chokes", func(s *Session, _ *Seeder, pc *torrent.PeerConn) {
			s.keepFromAsking(pc, &pp.Message{Type: pp.Choke})
		}, false},
		{"it has gone", func(s *Session, ordinary *Seeder, _ *torrent.PeerConn) {
			ordinary.Close()
			for deadline := time.Now().Add(30 * time.Second); len(s.torrent.Load().PeerConns()) > 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("it is still connected")
				}
			}
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, im, SeederOptions{})
			r.tracker.SetSeeder(0)
			s := r.join(1, im.blank(), func(o *NodeOptions) { o.Stall = 0 })
			// While a write is under way silence means nothing.
			writing := func(n int) {
				s.store.mu.Lock()
				defer s.store.mu.Unlock()
				s.store.active += n
			}
			writing(1)
			ordinary, err := newSeeder(SeederOptions{Listen: "127.0.0.78:0", Logger: r.log}, "-XX0001-")
			if err != nil {
				t.Fatal(err)
			}
			defer ordinary.Close()
			if err := ordinary.Add(im.meta.Marshal(""), im.payload); err != nil {
				t.Fatal(err)
			}
			r.announceAs("ordinary", "127.0.0.78", ordinary.Port())
			var offers *torrent.PeerConn
			for deadline := time.Now().Add(30 * time.Second); offers == nil; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the ordinary client offers nothing")
				}
				s.offers.Range(func(pc, _ any) bool {
					offers = pc.(*torrent.PeerConn)
					return false
				})
			}
			c.before(s, ordinary, offers)
			s.progress.Store(-int64(time.Hour))
			writing(-1)
			if got := s.onlyOrdinary() || s.small.Load(); got != c.want { // watch may have seen it first
				t.Errorf("takes small chunks: %v, want %v", got, c.want)
			}
		})
	}
}
