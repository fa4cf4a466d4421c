package swarm

import (
	"errors"
	"regexp"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"swarmboot/imagefmt"
)

// TestImagesShareTheSeeder: two images that are fetched at once get about the same of the upload limit.
func TestImagesShareTheSeeder(t *testing.T) {
	t.Parallel()
	one, two := makeImage(t, 24<<20, 256<<10, imagefmt.Verbatim), makeImage(t, 26<<20, 256<<10, imagefmt.Verbatim)
	r := newRig(t, one, SeederOptions{UploadRate: 6 << 20})
	if err := r.seeder.Add(two.meta.Marshal(""), two.payload); err != nil {
		t.Fatal(err)
	}
	r.tracker.Register(two.meta.InfoHash, two.manifest.Pieces())
	s1 := r.join(1, one.blank(), nil)
	s2 := r.join(2, two.blank(), func(o *NodeOptions) { o.Metainfo, o.Manifest = two.meta, two.manifest })
	// The first node has the seeder to itself until the second has connected, however long that takes here.
	waitPieces(t, s1, 1)
	waitPieces(t, s2, 1)
	alone1, alone2 := s1.Stats().FromServer, s2.Stats().FromServer
	mustWait(t, s1)
	first, second := s1.Stats().FromServer-alone1, s2.Stats().FromServer-alone2
	if first < one.manifest.PayloadLength/3 {
		t.Fatalf("the first had only %d bytes left when the second began", first)
	}
	if second < first/2 {
		t.Errorf("while one image got %d bytes, the other got %d", first, second)
	}
	mustWait(t, s2)
}

// heldPayload is a file on a disk that answers no read until hold is closed.
type heldPayload struct {
	*memFile
	hold  chan struct{}
	reads atomic.Int32 // under way
}

func (f *heldPayload) ReadAt(p []byte, off int64) (int, error) {
	f.reads.Add(1)
	defer f.reads.Add(-1)
	<-f.hold
	return f.memFile.ReadAt(p, off)
}

// closeWaits is in a stack trace of a Close that waits for removals.
var closeWaits = regexp.MustCompile(`sync\.\(\*WaitGroup\)\.Wait\(.*\n.*\nswarmboot/internal/swarm\.\(\*Seeder\)\.Close\(`)

// TestRemoveOnAHungDisk: while a removed image waits for its disk the seeder answers, and serves the image from elsewhere.
func TestRemoveOnAHungDisk(t *testing.T) {
	t.Parallel()
	im, other := makeImage(t, 4<<20, 256<<10, imagefmt.Packed), makeImage(t, 5<<20, 256<<10, imagefmt.Packed)
	r := newRig(t, im, SeederOptions{})
	held := &heldPayload{memFile: im.payload, hold: make(chan struct{})}
	release := sync.OnceFunc(func() { close(held.hold) })
	t.Cleanup(release)
	r.seeder.Remove(im.meta.InfoHash)
	if err := r.seeder.Add(im.meta.Marshal(""), held); err != nil {
		t.Fatal(err)
	}
	target := im.blank()
	s := r.join(1, target, nil)
	until := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	until("nothing is read", func() bool { return held.reads.Load() > 0 })
	removed, answered := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(removed)
		r.seeder.Remove(im.meta.InfoHash)
	}()
	until("the image is still served", func() bool {
		_, ok := r.seeder.client.Torrent(im.meta.InfoHash)
		return !ok
	})
	go func() {
		r.seeder.Uploaded(other.meta.InfoHash)
		answered <- errors.Join(r.seeder.Add(other.meta.Marshal(""), other.payload), r.seeder.Add(im.meta.Marshal(""), im.payload))
	}()
	select {
	case err := <-answered:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the seeder waits for the disk")
	}
	mustWait(t, s)
	im.check(t, target)
	select {
	case <-removed:
		t.Error("Remove returned while the payload was read")
	default:
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		r.seeder.Close()
		if held.reads.Load() > 0 {
			t.Error("Close returned while the payload was read")
		}
	}()
	until("Close neither returns nor waits for the removal", func() bool {
		stacks := make([]byte, 4<<20)
		select {
		case <-closed:
			return true
		default:
			return closeWaits.Match(stacks[:runtime.Stack(stacks, true)])
		}
	})
	release()
	<-closed
	<-removed
}
