package swarm

import (
	"crypto/sha1"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"swarmboot/imagefmt"
)

var layouts = []imagefmt.Layout{imagefmt.Packed, imagefmt.Verbatim}

func TestOneNode(t *testing.T) {
	for _, layout := range layouts {
		t.Run(string(layout), func(t *testing.T) {
			im := makeImage(t, 16<<20, 256<<10, layout)
			r := newRig(t, im, SeederOptions{})
			target := im.blank()
			s := r.join(1, target, nil)
			mustWait(t, s)
			im.check(t, target)
			st := s.Stats()
			if st.PiecesDone != st.PiecesTotal || st.BytesDone != st.BytesTotal || st.FromServer != im.manifest.PayloadLength || st.FromNodes != 0 {
				t.Errorf("stats: %+v, payload %d", st, im.manifest.PayloadLength)
			}
			if s.Index() == nil {
				t.Error("no index")
			}
			if r.seeder.Uploaded(im.meta.InfoHash) < im.manifest.PayloadLength {
				t.Error("the seeder's counter is short")
			}
		})
	}
}

// TestChain: every node ends with the image, the seeder sends about one copy, the rest comes from nodes.
func TestChain(t *testing.T) {
	t.Parallel()
	for _, layout := range layouts {
		t.Run(string(layout), func(t *testing.T) {
			im := makeImage(t, 24<<20, 256<<10, layout)
			r := newRig(t, im, SeederOptions{UploadRate: 8 << 20})
			const nodes = 4
			var targets []*memFile
			var sessions []*Session
			for n := range nodes {
				targets = append(targets, im.blank())
				sessions = append(sessions, r.join(n+1, targets[n], nil))
				arrived := func() bool { // in this order; on a busy machine those before it may be done, and count with the seeder
					c := r.scrape()
					return c.Incomplete+c.Complete == n+2
				}
				for deadline := time.Now().Add(30 * time.Second); !arrived(); time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("node %d does not arrive: %+v", n+1, r.scrape())
					}
				}
			}
			for n, s := range sessions {
				mustWait(t, s)
				im.check(t, targets[n])
			}
			// A loaded machine makes nodes look slow, and the tracker then gives them another source for a while: the bounds only
			// tell a chain from nodes that all ask the seeder (four copies). make bench-swarm measures copies.
			length := im.manifest.PayloadLength
			for n, s := range sessions {
				st := s.Stats()
				if n == 0 && st.FromNodes > length/2 || n > 0 && st.FromServer > length/2 {
					t.Errorf("node %d of the chain: %+v", n+1, st)
				}
			}
			if up := r.seeder.Uploaded(im.meta.InfoHash); up > length*3/2 {
				t.Errorf("the seeder sent %.2f copies", float64(up)/float64(length))
			}
		})
	}
}

// TestCorruptPayload: a piece that is wrong at the seeder never reaches the target.
func TestCorruptPayload(t *testing.T) {
	t.Parallel()
	im := makeImage(t, 8<<20, 256<<10, imagefmt.Verbatim)
	piece := im.manifest.IndexPieces() + 3
	bad := int64(piece)*im.manifest.PieceLength + 1234
	im.payload.b[bad] ^= 1
	r := newRig(t, im, SeederOptions{})
	target := im.blank()
	s := r.join(1, target, nil)
	err := wait(t, s)
	var ce *CorruptError
	if !errors.As(err, &ce) || ce.Piece != piece || !strings.Contains(ce.From, "127.0.0.1:") || !strings.Contains(ce.From, "SS0001") {
		t.Fatalf("error is %v, want a CorruptError of piece %d", err, piece)
	}
	if st := s.Stats(); st.HashFailures != maxFailures {
		t.Errorf("stats: %+v", st)
	}
	s.Close()
	frames, err := s.Index().Frames(piece)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		for _, e := range f.Extents {
			for i := e.Off; i < e.End(); i++ {
				if target.b[i] != stale {
					t.Fatalf("byte %d of the corrupt piece was written", i)
				}
			}
		}
	}
}

// TestCorruptIndex: as above, and nothing at all is written.
func TestCorruptIndex(t *testing.T) {
	t.Parallel()
	im := makeImage(t, 4<<20, 256<<10, imagefmt.Packed)
	im.payload.b[5] ^= 1
	r := newRig(t, im, SeederOptions{})
	target := im.blank()
	s := r.join(1, target, nil)
	var ce *CorruptError
	if err := wait(t, s); !errors.As(err, &ce) || ce.Piece != 0 {
		t.Fatalf("error is %v", err)
	}
	s.Close()
	for i, b := range target.b {
		if b != stale {
			t.Fatalf("byte %d was written", i)
		}
	}
}

// TestBadUpstream: a node that serves rubbish is turned away and the image comes from elsewhere.
func TestBadUpstream(t *testing.T) {
	t.Parallel()
	im := makeImage(t, 24<<20, 256<<10, imagefmt.Verbatim)
	r := newRig(t, im, SeederOptions{UploadRate: 6 << 20})
	var mu sync.Mutex
	var said []url.Values
	listen := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		mu.Lock()
		said = append(said, q.URL.Query())
		mu.Unlock()
		r.tracker.ServeHTTP(w, q)
	}))
	defer listen.Close()
	evil := &memFile{b: append([]byte(nil), im.payload.b...)}
	for i := int64(im.manifest.IndexPieces()) * im.manifest.PieceLength; i < int64(len(evil.b)); i += 1000 {
		evil.b[i] ^= 1
	}
	bad, err := newSeeder(SeederOptions{Listen: "127.0.0.77:0", Logger: r.log}, NodePeerIDPrefix)
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	if err := bad.Add(im.meta.Marshal(""), evil); err != nil {
		t.Fatal(err)
	}
	r.announceAs("evil", "127.0.0.77", bad.Port())
	target := im.blank()
	s := r.join(2, target, func(o *NodeOptions) { o.Announce = listen.URL + "/announce" })
	mustWait(t, s)
	im.check(t, target)
	if st := s.Stats(); st.HashFailures == 0 || st.FromServer == 0 {
		t.Errorf("stats: %+v", st)
	}
	// The tracker hears of it, and once pieces come from elsewhere the node needs no help any more: that is a second
	// source, which costs all others.
	mu.Lock()
	defer mu.Unlock()
	told := slices.IndexFunc(said, func(v url.Values) bool {
		return v.Get("sb_bad") == net.JoinHostPort("127.0.0.77", strconv.Itoa(bad.Port()))
	})
	if told < 0 || !slices.ContainsFunc(said[told:], func(v url.Values) bool {
		return v.Get("sb_done") != "0" && v.Get("left") != "0" && v.Get("sb_stall") == ""
	}) {
		t.Errorf("it announced %v", said)
	}
}

// TestOnlyBadNodes: when no good source comes instead of the one turned away, the node says so.
func TestOnlyBadNodes(t *testing.T) {
	t.Parallel()
	im := makeImage(t, 2<<20, 256<<10, imagefmt.Verbatim)
	r := newRig(t, im, SeederOptions{})
	r.tracker.SetSeeder(0)
	for i := range im.payload.b {
		im.payload.b[i] ^= 1
	}
	bad, err := newSeeder(SeederOptions{Listen: "127.0.0.77:0", Logger: r.log}, NodePeerIDPrefix)
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	if err := bad.Add(im.meta.Marshal(""), im.payload); err != nil {
		t.Fatal(err)
	}
	r.announceAs("evil", "127.0.0.77", bad.Port())
	s := r.join(2, im.blank(), nil)
	var ce *CorruptError
	if err := wait(t, s); !errors.As(err, &ce) || !strings.Contains(ce.From, "127.0.0.77") {
		t.Fatalf("error is %v", err)
	}
}

func TestTargetWriteError(t *testing.T) {
	t.Parallel()
	im := makeImage(t, 8<<20, 256<<10, imagefmt.Packed)
	r := newRig(t, im, SeederOptions{})
	target := im.blank()
	for _, e := range im.disk.extents {
		if im.disk.b[e.Off] != 0 && e.Off > im.disk.Size()/2 { // not a zero extent
			target.failAt = e.Off
			break
		}
	}
	target.failWith = &diskError{off: target.failAt}
	s := r.join(1, target, nil)
	err := wait(t, s)
	var de *diskError
	if !errors.As(err, &de) || !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "/dev/test") {
		t.Fatalf("error is %v", err)
	}
	if err := wait(t, s); !errors.Is(err, syscall.EIO) {
		t.Errorf("the second Wait says %v", err)
	}
}

func TestStall(t *testing.T) {
	t.Parallel()
	im := makeImage(t, 1<<20, 256<<10, imagefmt.Packed)
	r := newRig(t, im, SeederOptions{})
	r.tracker.Unregister(im.meta.InfoHash)
	s := r.join(1, im.blank(), func(o *NodeOptions) { o.Stall = 3500 * time.Millisecond })
	err := wait(t, s)
	var se *StallError
	if !errors.As(err, &se) || se.Peers != 0 || !strings.Contains(err.Error(), "does not serve that info-hash") {
		t.Fatalf("error is %v", err)
	}
}

// TestTrackerRestart: the tracker is away, and comes back knowing nothing.
func TestTrackerRestart(t *testing.T) {
	t.Parallel()
	im := makeImage(t, 16<<20, 256<<10, imagefmt.Packed)
	r := newRig(t, im, SeederOptions{UploadRate: 2 << 20})
	t1, t2, t3 := im.blank(), im.blank(), im.blank()
	s1, s2 := r.join(1, t1, nil), r.join(2, t2, nil)
	waitPieces(t, s2, 5)
	r.stopTracker()
	s3 := r.join(3, t3, nil) // comes while it is away
	waitPieces(t, s1, s1.Stats().PiecesDone+5)
	r.startTracker()
	for i, s := range []*Session{s1, s2, s3} {
		mustWait(t, s)
		im.check(t, []*memFile{t1, t2, t3}[i])
	}
}

// TestNodeLeaves: the first of the chain goes away half-way; the others finish.
func TestNodeLeaves(t *testing.T) {
	t.Parallel()
	im := makeImage(t, 16<<20, 256<<10, imagefmt.Packed)
	r := newRig(t, im, SeederOptions{UploadRate: 3 << 20})
	s1 := r.join(1, im.blank(), nil)
	waitPieces(t, s1, 1)
	t2, t3 := im.blank(), im.blank()
	s2 := r.join(2, t2, nil)
	waitPieces(t, s2, 1)
	s3 := r.join(3, t3, nil)
	waitPieces(t, s3, 8)
	if !r.tracker.Needed(im.meta.InfoHash, "node1") {
		t.Error("the head is not needed")
	}
	s1.Close()
	if r.tracker.Needed(im.meta.InfoHash, "node1") {
		t.Error("a node that left is needed")
	}
	mustWait(t, s2)
	mustWait(t, s3)
	im.check(t, t2)
	im.check(t, t3)
}

// TestRebuiltPieces: a node that joins late is served by one whose cache holds nothing any more.
func TestRebuiltPieces(t *testing.T) {
	for _, layout := range layouts {
		t.Run(string(layout), func(t *testing.T) {
			im := makeImage(t, 16<<20, 256<<10, layout)
			r := newRig(t, im, SeederOptions{})
			t1, t2 := im.blank(), im.blank()
			s1 := r.join(1, t1, nil)
			mustWait(t, s1)
			s1.dropCache()
			for p := range im.manifest.Pieces() {
				b := make([]byte, im.manifest.PieceSize(p))
				if _, err := s1.store.ReadAt(b, int64(p)*im.manifest.PieceLength); err != nil {
					t.Fatal(err)
				}
				if sum := sha1.Sum(b); string(sum[:]) != string(im.meta.Pieces[p*20:][:20]) {
					t.Fatalf("piece %d is not what it was", p)
				}
			}
			s1.dropCache()
			s2 := r.join(2, t2, nil)
			mustWait(t, s2)
			im.check(t, t2)
			if st := s2.Stats(); st.FromServer != 0 || st.FromNodes != im.manifest.PayloadLength {
				t.Errorf("stats: %+v", st)
			}
		})
	}
}

// TestRottenTarget: a piece that changed on the disk since is not served.
func TestRottenTarget(t *testing.T) {
	t.Parallel()
	im := makeImage(t, 8<<20, 256<<10, imagefmt.Packed)
	r := newRig(t, im, SeederOptions{})
	t1, t2 := im.blank(), im.blank()
	s1 := r.join(1, t1, nil)
	mustWait(t, s1)
	s1.dropCache()
	piece := im.manifest.IndexPieces() + 1
	frames, err := s1.Index().Frames(piece)
	if err != nil {
		t.Fatal(err)
	}
	t1.b[frames[0].Extents[0].Off] ^= 1
	if _, err := s1.store.ReadAt(make([]byte, 16<<10), int64(piece)*im.manifest.PieceLength); !errors.Is(err, errNotServed) {
		t.Fatalf("reading the piece says %v", err)
	}
	s2 := r.join(2, t2, nil) // gets that piece from the seeder, once it stalls
	mustWait(t, s2)
	im.check(t, t2)
	if st := s2.Stats(); st.HashFailures != 0 || st.FromServer == 0 || st.FromNodes == 0 {
		t.Errorf("stats: %+v", st)
	}
}

// TestSlowDisk: what waits for a slow disk stays within bounds. The disk takes nothing until as much waits as may.
func TestSlowDisk(t *testing.T) {
	im := makeImage(t, 64<<20, 1<<20, imagefmt.Verbatim)
	r := newRig(t, im, SeederOptions{})
	s, target, release := r.joinHeld(1, nil)
	var most int64
	waiting := func() {
		s.store.mu.Lock()
		most = max(most, int64(len(s.store.open))*im.manifest.PieceLength)
		s.store.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	for deadline := time.Now().Add(time.Minute); !s.diskBound(); waiting() {
		if time.Now().After(deadline) {
			t.Fatalf("%d MiB wait for the disk, and more does not come: %+v", most>>20, s.Stats())
		}
	}
	// The seeder sends what is on its way, and then nothing.
	for sent, same := int64(-1), 0; same < 100; same++ {
		if now := r.seeder.Uploaded(im.meta.InfoHash); now != sent {
			sent, same = now, 0
		}
		waiting()
	}
	release()
	for deadline := time.Now().Add(time.Minute); !s.complete() && time.Now().Before(deadline); waiting() {
	}
	mustWait(t, s)
	im.check(t, target)
	t.Logf("at most %d MiB of pieces not written", most>>20)
	if most > maxWaiting+8<<20 {
		t.Errorf("at most %d MiB of pieces not written, the bound is %d", most>>20, maxWaiting>>20)
	}
}

// TestServedUnwritten: a disk that hangs for a while keeps nobody waiting who takes the image from its node, as long as there is room.
func TestServedUnwritten(t *testing.T) {
	im := makeImage(t, 8<<20, 256<<10, imagefmt.Verbatim)
	r := newRig(t, im, SeederOptions{})
	s1, target, release := r.joinHeld(1, nil)
	waitReceived(t, s1)
	sent := r.seeder.Uploaded(im.meta.InfoHash)
	t2 := im.blank()
	s2 := r.join(2, t2, nil)
	mustWait(t, s2)
	im.check(t, t2)
	if now := r.seeder.Uploaded(im.meta.InfoHash); now != sent {
		t.Errorf("the seeder sent %d bytes more", now-sent)
	}
	if st := s1.Stats(); s1.complete() || st.PiecesDone != im.manifest.IndexPieces() || st.BytesDone != 0 {
		t.Errorf("a disk that has taken nothing: %+v", st)
	}
	release()
	mustWait(t, s1)
	im.check(t, target)
}

// TestTellsOfDisk: the tracker hears of what a node can serve, that much waits for its disk, and what that takes.
func TestTellsOfDisk(t *testing.T) {
	im := makeImage(t, 64<<20, 1<<20, imagefmt.Verbatim)
	r := newRig(t, im, SeederOptions{})
	told := make(chan url.Values, 1000)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		told <- q.URL.Query()
		r.tracker.ServeHTTP(w, q)
	}))
	t.Cleanup(web.Close)
	s, target, release := r.joinHeld(1, func(o *NodeOptions) { o.Announce = web.URL + "/announce" })
	for q := range told {
		if q.Get("sb_busy") == "" {
			continue
		}
		if done, err := strconv.Atoi(q.Get("sb_done")); err != nil || int64(done)<<20 < busyWaiting || q.Get("sb_disk") != "1" {
			t.Errorf("%v", q)
		}
		break
	}
	release()
	mustWait(t, s)
	im.check(t, target)
	for q := range told {
		if rate, _ := strconv.Atoi(q.Get("sb_disk")); q.Get("event") == "completed" {
			if rate < 2 || q.Get("sb_busy") != "" {
				t.Errorf("%v", q)
			}
			return
		}
	}
}

// TestCloseDropsUnwritten: what waits for the disk when a session is closed is not written any more.
func TestCloseDropsUnwritten(t *testing.T) {
	im := makeImage(t, 8<<20, 256<<10, imagefmt.Verbatim)
	r := newRig(t, im, SeederOptions{})
	s, _, release := r.joinHeld(1, nil)
	closed := func() bool {
		s.store.mu.Lock()
		defer s.store.mu.Unlock()
		return s.store.closed
	}
	waitReceived(t, s)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Close()
	}()
	for !closed() {
		time.Sleep(time.Millisecond)
	}
	release()
	<-ended
	if n := s.Stats().PiecesDone - im.manifest.IndexPieces(); n > writers {
		t.Errorf("%d pieces were written, %d of them were under way", n, writers)
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	im := makeImage(t, 4<<20, 256<<10, imagefmt.Packed)
	r := newRig(t, im, SeederOptions{UploadRate: 256 << 10})
	if err := r.seeder.Add(im.meta.Marshal(""), im.payload); err == nil {
		t.Error("the same image was added twice")
	}
	s := r.join(1, im.blank(), func(o *NodeOptions) { o.Stall = 4 * time.Second })
	waitPieces(t, s, 1)
	r.seeder.Remove(im.meta.InfoHash)
	im.payload.mu.Lock()
	reads := im.payload.reads
	im.payload.mu.Unlock()
	var se *StallError
	if err := wait(t, s); !errors.As(err, &se) || se.Pieces == 0 {
		t.Fatalf("error is %v", err)
	}
	if im.payload.reads != reads {
		t.Error("the payload was read after Remove")
	}
	if err := r.seeder.Add(im.meta.Marshal(""), im.payload); err != nil {
		t.Errorf("add again: %v", err)
	}
}
