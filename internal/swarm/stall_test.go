package swarm

import (
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/anacrolix/torrent"

	"swarmboot/imagefmt"
)

// TestClockIsSet: how long nothing came goes by the monotonic clock alone.
func TestClockIsSet(t *testing.T) {
	s := &Session{joined: time.Now()}
	s.touch()
	if last, most := time.Duration(s.progress.Load()), time.Since(s.joined); last < 0 || last > most {
		t.Errorf("the last progress was %v after the start, at most %v have passed", last, most)
	}
	// As if the clock had been set an hour on since: time.Time keeps the second in the first of its words, above 30 bits of
	// nanoseconds, and the monotonic reading in the second.
	before := s.joined
	*(*uint64)(unsafe.Pointer(&s.joined)) -= 3600 << 30
	if s.joined.Round(0).Sub(before.Round(0)) != -time.Hour || s.joined.Sub(before) != 0 {
		t.Fatal("time.Time is laid out in another way")
	}
	if quiet, most := s.quietFor(), time.Since(before); quiet < 0 || quiet > most {
		t.Errorf("quiet for %v, at most %v have passed", quiet, most)
	}
}

// TestOutageAfterBadPieces: having turned away the only source ends a run soon. An outage does not because a piece was bad once.
func TestOutageAfterBadPieces(t *testing.T) {
	t.Parallel()
	im := makeImage(t, 1<<20, 256<<10, imagefmt.Packed)
	r := newRig(t, im, SeederOptions{})
	r.tracker.SetSeeder(0)
	peer := func(prefix, ip string) *torrent.PeerConn {
		pc := new(torrent.PeerConn)
		copy(pc.PeerID[:], prefix)
		pc.RemoteAddr = &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}
		return pc
	}
	seeder, evil, good := peer(SeederPeerIDPrefix, "192.0.2.1"), peer(NodePeerIDPrefix, "192.0.2.2"), peer(NodePeerIDPrefix, "192.0.2.3")
	bad := func(s *Session, piece int, pc *torrent.PeerConn) {
		s.blame.sent(piece, pc)
		s.blame.wrong(piece) //nolint:errcheck // it is looked at below
	}
	fetched := func(s *Session, piece int, pc *torrent.PeerConn) {
		s.blame.sent(piece, pc)
		s.gotPiece(piece, 0)
	}
	for _, c := range []struct {
		name    string
		past    func(s *Session)
		corrupt bool
	}{
		{"one from the seeder", func(s *Session) { bad(s, 1, seeder) }, false},
		{"many from the seeder", func(s *Session) { bad(s, 1, seeder); bad(s, 2, seeder); bad(s, 3, seeder) }, false},
		{"one from a node", func(s *Session) { bad(s, 1, evil) }, false},
		{"turned away", func(s *Session) { bad(s, 1, evil); bad(s, 2, evil) }, true},
		{"turned away, its last piece was good", func(s *Session) { bad(s, 1, evil); bad(s, 2, evil); fetched(s, 3, evil) }, true},
		{"turned away, a piece was on the disk", func(s *Session) { bad(s, 1, evil); bad(s, 2, evil); s.gotPiece(3, 0) }, true},
		{"turned away, another is good", func(s *Session) { bad(s, 1, evil); bad(s, 2, evil); fetched(s, 3, good) }, false},
		{"turned away, another is good, one from the seeder", func(s *Session) {
			bad(s, 1, evil)
			bad(s, 2, evil)
			fetched(s, 3, good)
			bad(s, 4, seeder)
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := r.join(1, im.blank(), func(o *NodeOptions) { o.Stall = 0 })
			defer s.Close()
			c.past(s)
			s.progress.Store(-int64(time.Hour))
			err := s.hopeless()
			var ce *CorruptError
			if c.corrupt != (err != nil) || c.corrupt && (!errors.As(err, &ce) || ce.Piece != 2 || !strings.Contains(ce.From, "192.0.2.2")) {
				t.Errorf("error is %v", err)
			}
		})
	}
}

// TestHungDisk: a write that never ends ends the run.
func TestHungDisk(t *testing.T) {
	t.Parallel()
	im := makeImage(t, 4<<20, 256<<10, imagefmt.Verbatim)
	r := newRig(t, im, SeederOptions{})
	s, _, _ := r.joinHeld(1, func(o *NodeOptions) { o.Stall = time.Second })
	var he *HungError
	if err := wait(t, s); !errors.As(err, &he) || he.Pieces < im.manifest.IndexPieces() || he.Total != im.manifest.Pieces() || he.For < busyStall*time.Second {
		t.Fatalf("error is %v", err)
	}
}

// TestSlowDiskIsNotHung: every write that ends is progress, also within a piece.
func TestSlowDiskIsNotHung(t *testing.T) {
	im := makeImage(t, 1<<20, 256<<10, imagefmt.Packed)
	synctest.Test(t, func(t *testing.T) {
		const limit = busyStall * time.Minute
		s := &Session{o: NodeOptions{Stall: time.Minute, Manifest: im.manifest}, joined: time.Now(), store: &store{active: 1}}
		s.blame.init()
		target := notedTarget{im.blank(), new(diskGauge), s.touch}
		for _, progress := range []func(){
			func() { s.gotPiece(3, 0) },
			func() { target.WriteAt([]byte("data"), 0) }, //nolint:errcheck // memory
		} {
			time.Sleep(limit - 1)
			if err := s.hopeless(); err != nil {
				t.Errorf("after a nanosecond less than %v: %v", limit, err)
			}
			progress()
		}
		time.Sleep(limit - 1)
		if err := s.hopeless(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Nanosecond)
		var he *HungError
		if err := s.hopeless(); !errors.As(err, &he) || he.For != limit {
			t.Errorf("error is %v", err)
		}
		s.o.Stall = 0
		if err := s.hopeless(); err != nil {
			t.Errorf("without a limit: %v", err)
		}
	})
}
