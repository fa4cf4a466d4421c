package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"swarmboot/imagefmt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// diskSource is a small disk of random bytes, all of it used.
type diskSource struct{ *bytes.Reader }

func (s diskSource) Extents() []imagefmt.Extent {
	return []imagefmt.Extent{{Off: 0, Len: s.Size()}}
}

// makeImage writes an image into dir; seed makes its contents.
func makeImage(t *testing.T, dir, name string, seed uint64) {
	t.Helper()
	b := make([]byte, 1<<20)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	f, err := os.Create(filepath.Join(dir, name+".payload"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	res, err := imagefmt.Write(context.Background(), f, diskSource{bytes.NewReader(b)}, name, imagefmt.WriterOptions{PieceLength: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	m := &imagefmt.Manifest{FormatVersion: imagefmt.FormatVersion, Name: name, Created: time.Unix(1e9, 0).UTC(), DiskSize: int64(len(b)),
		MinDiskSize: int64(len(b)), SectorSize: 512, Table: imagefmt.Table{Kind: imagefmt.TableNone}}
	res.Fill(m)
	j, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, name+".torrent"), res.Metainfo)
	write(t, filepath.Join(dir, name+".json"), j)
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// log collects what the catalog publishes and withdraws.
type events struct {
	mu  sync.Mutex
	log []string
}

func (e *events) add(s string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.log = append(e.log, s)
}

func (e *events) take() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := e.log
	e.log = nil
	return out
}

func newCatalog(t *testing.T, dir string, settle time.Duration) (*Catalog, *events) {
	t.Helper()
	e := &events{}
	c, err := New(Options{Dir: dir, Poll: 10 * time.Millisecond, Settle: settle,
		Ready: func(im *Image) error { e.add("+" + im.Name); return nil }, Gone: func(im *Image) { e.add("-" + im.Name) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.withdrawAll)
	return c, e
}

func (c *Catalog) states() string {
	var out []string
	for _, s := range c.List() {
		out = append(out, s.Name+"="+string(s.State))
	}
	return strings.Join(out, " ")
}

// scan looks once and waits for the checks of what is new.
func scan(t *testing.T, c *Catalog) {
	t.Helper()
	if err := c.scan(); err != nil {
		t.Fatal(err)
	}
	for c.start(t.Context()); c.checking != nil; c.start(t.Context()) {
		c.finish(t.Context(), <-c.checked)
	}
}

func TestWholeImageIsPublished(t *testing.T) {
	dir := t.TempDir()
	makeImage(t, dir, "debian", 1)
	write(t, filepath.Join(dir, "notes.txt"), []byte("x"))
	write(t, filepath.Join(dir, ".hidden.json"), []byte("x"))
	write(t, filepath.Join(dir, "bad name.json"), []byte("x"))
	c, e := newCatalog(t, dir, time.Nanosecond)
	scan(t, c)
	scan(t, c)
	if got := c.states(); got != "debian=ready" {
		t.Errorf("images: %s", got)
	}
	if got := e.take(); !slices.Equal(got, []string{"+debian"}) {
		t.Errorf("published: %v", got)
	}
	im, ok := c.Get("debian")
	if !ok || !bytes.Equal(im.ManifestJSON, read(t, filepath.Join(dir, "debian.json"))) || im.Manifest.Name != "debian" || im.Metainfo.Length != im.Manifest.PayloadLength {
		t.Errorf("image: %+v, %v", im, ok)
	}
}

// What half a copy or a wrong one looks like; none of it may ever be published.
func TestDefectiveImagesDoNotAppear(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, base string){
		"manifest only":    func(t *testing.T, base string) { remove(t, base+".payload"); remove(t, base+".torrent") },
		"no payload yet":   func(t *testing.T, base string) { remove(t, base+".payload") },
		"no torrent yet":   func(t *testing.T, base string) { remove(t, base+".torrent") },
		"payload short":    func(t *testing.T, base string) { truncate(t, base+".payload", -1) },
		"payload long":     func(t *testing.T, base string) { truncate(t, base+".payload", 1) },
		"payload empty":    func(t *testing.T, base string) { write(t, base+".payload", nil) },
		"manifest cut":     func(t *testing.T, base string) { truncate(t, base+".json", -20) },
		"manifest empty":   func(t *testing.T, base string) { write(t, base+".json", nil) },
		"manifest too big": func(t *testing.T, base string) { truncate(t, base+".json", 2<<20) },
		"torrent cut":      func(t *testing.T, base string) { truncate(t, base+".torrent", -20) },
		"byte of the index wrong": func(t *testing.T, base string) {
			flip(t, base+".payload", 5)
		},
		"last byte wrong": func(t *testing.T, base string) {
			flip(t, base+".payload", -1)
		},
		"tail not yet written": func(t *testing.T, base string) {
			b := read(t, base+".payload")
			clear(b[len(b)/2:])
			write(t, base+".payload", b)
		},
		"torrent of another image": func(t *testing.T, base string) {
			other := t.TempDir()
			makeImage(t, other, "image", 99)
			write(t, base+".torrent", read(t, filepath.Join(other, "image.torrent")))
		},
		"renamed": func(t *testing.T, base string) {
			for _, s := range []string{".json", ".torrent", ".payload"} {
				if err := os.Rename(base+s, base+"2"+s); err != nil {
					t.Fatal(err)
				}
			}
		},
		"payload is a directory": func(t *testing.T, base string) {
			remove(t, base+".payload")
			if err := os.Mkdir(base+".payload", 0o755); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			makeImage(t, dir, "image", 1)
			damage(t, filepath.Join(dir, "image"))
			c, e := newCatalog(t, dir, time.Hour)
			scan(t, c)
			if got := c.List(); len(got) != 0 {
				t.Errorf("shown while it may still be copied: %+v", got)
			}
			c.o.Settle = 0
			got := c.List()
			if len(got) != 1 || got[0].State != StateBroken || got[0].Reason == "" || strings.Contains(got[0].Reason, dir) {
				t.Errorf("once settled: %+v", got)
			}
			if log := e.take(); len(log) != 0 {
				t.Errorf("published: %v", log)
			}
			if _, ok := c.Get("image"); ok {
				t.Error("it can be had")
			}
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, path string, by int64) {
	t.Helper()
	fi, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, fi.Size()+by)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// flip changes one byte; a negative offset counts from the end.
func flip(t *testing.T, path string, off int) {
	t.Helper()
	b := read(t, path)
	if off < 0 {
		off += len(b)
	}
	b[off] ^= 1
	write(t, path, b)
}

func TestLiveChanges(t *testing.T) {
	dir := t.TempDir()
	c, e := newCatalog(t, dir, time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	wait := func(want string, log ...string) {
		t.Helper()
		deadline := time.Now().Add(2 * time.Minute)
		for c.states() != want {
			if time.Now().After(deadline) {
				t.Fatalf("images: %q, want %q", c.states(), want)
			}
			time.Sleep(5 * time.Millisecond)
		}
		if got := e.take(); !slices.Equal(got, log) {
			t.Errorf("%q: %v, want %v", want, got, log)
		}
	}
	makeImage(t, dir, "a", 1)
	wait("a=ready", "+a")
	makeImage(t, dir, "b", 2)
	wait("a=ready b=ready", "+b")

	old, _ := c.Get("a")
	other := t.TempDir()
	makeImage(t, other, "a", 3)
	for _, s := range []string{".payload", ".torrent", ".json"} {
		write(t, filepath.Join(dir, "new"+s), read(t, filepath.Join(other, "a"+s)))
		if err := os.Rename(filepath.Join(dir, "new"+s), filepath.Join(dir, "a"+s)); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(2 * time.Minute)
	for {
		if im, ok := c.Get("a"); ok && im.Metainfo.InfoHash != old.Metainfo.InfoHash {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the new image does not appear")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if got := e.take(); len(got) < 2 || got[0] != "-a" || got[len(got)-1] != "+a" {
		t.Errorf("swap: %v", got)
	}
	remove(t, filepath.Join(dir, "b.json"))
	wait("a=ready", "-b")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := e.take(); !slices.Equal(got, []string{"-a"}) {
		t.Errorf("at the end: %v", got)
	}
	if _, err := old.Payload.Stat(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the old payload is still open: %v", err)
	}
}

func TestDirectoryThatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, nil)
	for _, dir := range []string{file, file + "2"} {
		if _, err := New(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "image directory") {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func TestImageThatCannotBeServedIsBroken(t *testing.T) {
	dir := t.TempDir()
	makeImage(t, dir, "a", 1)
	c, err := New(Options{Dir: dir, Settle: 1, Ready: func(*Image) error { return errors.New("no room in the swarm") }})
	if err != nil {
		t.Fatal(err)
	}
	scan(t, c)
	if l := c.List(); len(l) != 1 || l[0].State != StateBroken || !strings.Contains(l[0].Reason, "no room in the swarm") {
		t.Errorf("%+v", l)
	}
}

// A directory with too many images is looked at every two seconds: the log tells once.
func TestTooManyImages(t *testing.T) {
	dir := t.TempDir()
	for i := range maxImages + 2 {
		write(t, filepath.Join(dir, fmt.Sprintf("i%04d.json", i)), nil)
	}
	var log bytes.Buffer
	c, err := New(Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		scan(t, c)
	}
	if n := strings.Count(log.String(), "too many images"); n != 1 || !strings.Contains(log.String(), fmt.Sprintf("first=i%04d", maxImages)) {
		t.Errorf("told %d times", n)
	}
}
