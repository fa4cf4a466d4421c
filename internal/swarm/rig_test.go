package swarm

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anacrolix/torrent/bencode"
	"go.uber.org/goleak"

	"swarmboot/imagefmt"
	"swarmboot/internal/tracker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memFile is a payload or a disk in memory.
type memFile struct {
	mu    sync.Mutex
	b     []byte
	reads int
	grow  bool // like a file: writes beyond the end make it longer

	failAt   int64 // WriteAt of this byte fails, if > 0
	failWith error
	hold     chan struct{} // no write ends until it is closed; may be nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	if off+int64(len(p)) > int64(len(f.b)) {
		return 0, fmt.Errorf("read %d bytes at %d of %d", len(p), off, len(f.b))
	}
	return copy(p, f.b[off:]), nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if f.hold != nil {
		<-f.hold
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failAt > 0 && off <= f.failAt && f.failAt < off+int64(len(p)) {
		return 0, f.failWith
	}
	if n := off + int64(len(p)); f.grow && n > int64(len(f.b)) {
		f.b = append(f.b, make([]byte, n-int64(len(f.b)))...)
	}
	if off+int64(len(p)) > int64(len(f.b)) {
		return 0, fmt.Errorf("write %d bytes at %d of %d", len(p), off, len(f.b))
	}
	return copy(f.b[off:], p), nil
}

func (f *memFile) Zero(_ context.Context, off, n int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.b[off : off+n])
	return nil
}

func (f *memFile) Truncate(n int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n <= int64(cap(f.b)) {
		f.b = f.b[:n]
	} else {
		f.b = append(make([]byte, 0, n+n/4), f.b...)[:n]
	}
	return nil
}

func (f *memFile) Size() int64 { return int64(len(f.b)) }

// disk is a source: used extents with holes between them, and stretches of zeros.
type disk struct {
	memFile
	extents []imagefmt.Extent
}

func (d *disk) Extents() []imagefmt.Extent { return d.extents }

// makeDisk makes a disk whose used bytes shrink to about half.
func makeDisk(size int64) *disk {
	d := &disk{memFile: memFile{b: make([]byte, size)}}
	rng := rand.New(rand.NewPCG(1, 2))
	for off := int64(4096); off < size-4096; {
		n := min(int64(rng.IntN(1<<20)+4096)&^4095, size-4096-off)
		d.extents = append(d.extents, imagefmt.Extent{Off: off, Len: n})
		if rng.IntN(10) != 0 {
			for i := off; i < off+n; i += 16 {
				binary.LittleEndian.PutUint64(d.b[i:], rng.Uint64())
			}
		}
		off += n + int64(rng.IntN(64<<10)+4096)&^4095
	}
	return d
}

// testImage is an image with everything that its parts need.
type testImage struct {
	disk     *disk
	manifest *imagefmt.Manifest
	meta     *imagefmt.Metainfo
	payload  *memFile
}

func makeImage(t testing.TB, size, pieceLength int64, layout imagefmt.Layout) *testImage {
	t.Helper()
	im := &testImage{disk: makeDisk(size), payload: &memFile{grow: true}}
	r, err := imagefmt.Write(t.Context(), im.payload, im.disk, "test", imagefmt.WriterOptions{
		Layout: layout, PieceLength: pieceLength, FrameLength: 256 << 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	im.manifest = &imagefmt.Manifest{SectorSize: 512, Table: imagefmt.Table{Kind: imagefmt.TableNone}, Created: time.Unix(0, 0).UTC()}
	r.Fill(im.manifest)
	if im.meta, err = imagefmt.ParseMetainfo(r.Metainfo); err != nil {
		t.Fatal(err)
	}
	if _, err = im.manifest.Marshal(); err != nil {
		t.Fatal(err)
	}
	return im
}

const stale = 0xA5 // what a target holds before

func (im *testImage) blank() *memFile {
	return &memFile{b: bytes.Repeat([]byte{stale}, int(im.manifest.DiskSize))}
}

// joinHeld starts node n with a target that takes nothing until release is called, at the end of the test if not before.
func (r *rig) joinHeld(n int, change func(*NodeOptions)) (s *Session, target *memFile, release func()) {
	r.t.Helper()
	target = r.im.blank()
	target.hold = make(chan struct{})
	s = r.join(n, target, change)
	release = sync.OnceFunc(func() { close(target.hold) })
	r.t.Cleanup(release) // before the session is closed, which would never end
	return s, target, release
}

// check compares every used byte with the source and every other byte with what was there before.
func (im *testImage) check(t testing.TB, target *memFile) {
	t.Helper()
	target.mu.Lock()
	defer target.mu.Unlock()
	off := int64(0)
	for _, e := range append(im.disk.extents, imagefmt.Extent{Off: im.disk.Size()}) {
		for i := off; i < e.Off; i++ {
			if target.b[i] != stale {
				t.Fatalf("unused byte %d was changed", i)
			}
		}
		if !bytes.Equal(target.b[e.Off:e.End()], im.disk.b[e.Off:e.End()]) {
			t.Fatalf("used bytes %d+%d differ", e.Off, e.Len)
		}
		off = e.End()
	}
}

// rig is a server: tracker and seeder on 127.0.0.1.
type rig struct {
	t       testing.TB
	im      *testImage
	tracker *tracker.Tracker
	seeder  *Seeder
	addr    string
	web     *http.Server
	http    http.Client
	log     *slog.Logger
}

func newRig(t testing.TB, im *testImage, o SeederOptions) *rig {
	t.Helper()
	r := &rig{t: t, im: im, log: slog.New(slog.DiscardHandler)}
	if os.Getenv("SWARM_LOG") != "" {
		r.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	o.Listen, o.Logger = "127.0.0.1:0", r.log
	var err error
	if r.seeder, err = NewSeeder(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.seeder.Close() })
	if err := r.seeder.Add(im.meta.Marshal(""), im.payload); err != nil {
		t.Fatal(err)
	}
	r.startTracker()
	t.Cleanup(r.stopTracker)
	t.Cleanup(r.http.CloseIdleConnections)
	return r
}

// startTracker starts a tracker that knows nothing of an earlier one, at the same address.
func (r *rig) startTracker() {
	r.t.Helper()
	r.tracker = tracker.New(tracker.Options{Interval: time.Second, Logger: r.log})
	r.tracker.Register(r.im.meta.InfoHash, r.im.manifest.Pieces())
	r.tracker.SetSeeder(r.seeder.Port())
	if r.addr == "" {
		r.addr = "127.0.0.1:0"
	}
	l, err := listenTCP(r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.addr = l.Addr().String()
	r.web = &http.Server{Handler: r.tracker}
	go func(web *http.Server) { _ = web.Serve(l) }(r.web) // ends when it is closed
}

func (r *rig) stopTracker() { r.web.Close() }

func (r *rig) announceURL() string { return "http://" + r.addr + "/announce" }

// join starts node n at 127.0.0.n+1.
func (r *rig) join(n int, target Target, change func(*NodeOptions)) *Session {
	r.t.Helper()
	o := NodeOptions{
		Node: fmt.Sprintf("node%d", n), Run: fmt.Sprint(rand.Uint64()),
		Metainfo: r.im.meta, Manifest: r.im.manifest, Target: target,
		Announce: r.announceURL(), Listen: fmt.Sprintf("127.0.0.%d:0", n+1),
		CheckRaw: true, Stall: 30 * time.Second, Logger: r.log.With("node", n),
	}
	if change != nil {
		change(&o)
	}
	s, err := Join(context.Background(), o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { s.Close() })
	return s
}

func wait(t testing.TB, s *Session) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	err := s.Wait(ctx)
	if ctx.Err() != nil {
		t.Fatalf("stuck: %+v", s.Stats())
	}
	return err
}

func mustWait(t testing.TB, s *Session) {
	t.Helper()
	if err := wait(t, s); err != nil {
		t.Fatal(err)
	}
}

func waitPieces(t testing.TB, s *Session, n int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); s.Stats().PiecesDone < n; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("stuck: %+v", s.Stats())
		}
		select {
		case <-s.failed:
			t.Fatal(s.err)
		default:
		}
	}
}

// waitReceived waits until the session can serve every piece.
func waitReceived(t testing.TB, s *Session) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !s.store.received(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("stuck: %+v", s.Stats())
		}
	}
}

// dropCache makes the session read its target for what it is asked; one piece is still kept.
func (s *Session) dropCache() {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.store.cache = newCache(s.store.manifest.PieceLength, s.store.manifest.PieceLength)
}

type scraped struct {
	Complete   int `bencode:"complete"`
	Incomplete int `bencode:"incomplete"`
	Downloaded int `bencode:"downloaded"`
}

// scrape asks the tracker over HTTP.
func (r *rig) scrape() scraped {
	r.t.Helper()
	body := r.get("http://" + r.addr + "/scrape")
	var v struct {
		Files map[string]scraped `bencode:"files"`
	}
	if err := bencode.Unmarshal(body, &v); err != nil {
		r.t.Fatal(err)
	}
	return v.Files[string(r.im.meta.InfoHash[:])]
}

func (r *rig) get(url string) []byte {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := r.http.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return body
}

// announceAs puts a node into the tracker that a Session does not run.
func (r *rig) announceAs(node, host string, port int) {
	r.t.Helper()
	a, err := newAnnouncer(r.announceURL(), net.ParseIP(host), url.Values{
		"info_hash": {string(r.im.meta.InfoHash[:])},
		"peer_id":   {newPeerID(NodePeerIDPrefix)},
		"port":      {strconv.Itoa(port)},
		"sb_node":   {node},
		"left":      {"0"},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	defer a.close()
	if _, err := a.do(r.t.Context(), nil); err != nil {
		r.t.Fatal(err)
	}
}

// diskError is what a device says.
type diskError struct{ off int64 }

func (e *diskError) Error() string {
	return fmt.Sprintf("write /dev/test at %d: %v", e.off, syscall.EIO)
}
func (e *diskError) Unwrap() error { return syscall.EIO }

func nowSeconds() float64 { return float64(time.Now().UnixNano()) / 1e9 }
