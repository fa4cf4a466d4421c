package catalog

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// slow makes checks of one image wait, until they are canceled or get a word on the channel that started gives for each.
func slow(c *Catalog, name string) (started chan chan bool) {
	started = make(chan chan bool, 10)
	c.verify = func(ctx context.Context, im *Image, size int64, pieces bool, percent func(int)) error {
		if im.Name == name {
			release := make(chan bool)
			started <- release
			select {
			case <-release:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return verify(ctx, im, size, pieces, percent)
	}
	return started
}

// copyImage puts an image into dir that is whole when its manifest appears.
func copyImage(t *testing.T, dir, name string, seed uint64) {
	t.Helper()
	other := t.TempDir()
	makeImage(t, other, name, seed)
	for _, s := range []string{".payload", ".torrent", ".json"} {
		if err := os.Rename(filepath.Join(other, name+s), filepath.Join(dir, name+s)); err != nil {
			t.Fatal(err)
		}
	}
}

// The check of a large image takes an hour: what is taken away or copied in meanwhile must not wait for it.
func TestLiveChangesDuringACheck(t *testing.T) {
	dir := t.TempDir()
	makeImage(t, dir, "old", 1)
	c, _ := newCatalog(t, dir, time.Hour)
	said := make(chan string, 10)
	c.o.Ready = func(im *Image) error { said <- "+" + im.Name + ": " + c.states(); return nil }
	c.o.Gone = func(im *Image) { said <- "-" + im.Name + ": " + c.states() }
	started := slow(c, "big")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	want := func(want string) {
		t.Helper()
		select {
		case got := <-said:
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		case <-time.After(2 * time.Minute):
			t.Fatalf("%q does not come", want)
		}
	}
	want("+old: old=checking")
	copyImage(t, dir, "big", 2)
	<-started
	remove(t, filepath.Join(dir, "old.json"))
	want("-old: big=checking")
	copyImage(t, dir, "new", 3)
	for c.states() != "big=checking new=checking" {
		time.Sleep(time.Millisecond)
	}
	// Files that change end the check of the old ones, and are checked when those had their turn that have waited for longer.
	if err := os.Chtimes(filepath.Join(dir, "big.json"), time.Time{}, time.Unix(1e9, 0)); err != nil {
		t.Fatal(err)
	}
	want("+new: big=checking new=checking")
	(<-started) <- true
	want("+big: big=checking new=ready")
}

func TestOneCheckAtATime(t *testing.T) {
	dir := t.TempDir()
	makeImage(t, dir, "a", 1)
	makeImage(t, dir, "b", 2)
	c, _ := newCatalog(t, dir, time.Hour)
	started := slow(c, "a")
	if err := c.scan(); err != nil {
		t.Fatal(err)
	}
	c.start(t.Context())
	release, first := <-started, c.checking
	for range 2 {
		if err := c.scan(); err != nil {
			t.Fatal(err)
		}
		if c.start(t.Context()); c.checking != first || c.states() != "a=checking b=checking" {
			t.Errorf("%s: %s is checked too", c.states(), c.checking.name)
		}
	}
	release <- true
	c.finish(t.Context(), <-c.checked)
	if c.start(t.Context()); c.checking == nil || c.checking.name != "b" {
		t.Error("b is not checked")
	}
	c.abandon()
}

// What a check found is of the files that were there when it began, whether or not a scan has seen the others.
func TestFilesThatChangeDuringTheirCheck(t *testing.T) {
	for _, tt := range []struct {
		scan bool
		want string
	}{{false, "a=broken"}, {true, "a=checking"}} {
		dir := t.TempDir()
		makeImage(t, dir, "a", 1)
		c, e := newCatalog(t, dir, time.Nanosecond)
		var payload *os.File
		c.verify = func(_ context.Context, im *Image, _ int64, _ bool, _ func(int)) error {
			payload = im.Payload
			makeImage(t, dir, "a", 2)
			return nil // and it had looked at ctx for the last time
		}
		if err := c.scan(); err != nil {
			t.Fatal(err)
		}
		c.start(t.Context())
		r := <-c.checked
		if tt.scan {
			if err := c.scan(); err != nil {
				t.Fatal(err)
			}
		}
		c.finish(t.Context(), r)
		if got := c.states(); got != tt.want {
			t.Errorf("scan %v: %s", tt.scan, got)
		}
		if _, err := payload.Stat(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("scan %v: the payload is still open: %v", tt.scan, err)
		}
		c.verify = verify
		scan(t, c)
		if got := e.take(); !slices.Equal(got, []string{"+a"}) || c.states() != "a=ready" {
			t.Errorf("scan %v: then %v, %s", tt.scan, got, c.states())
		}
	}
}

// Run ends only when the check has ended: it reads a file that is the caller's again from then on.
func TestRunWaitsForTheCheck(t *testing.T) {
	dir := t.TempDir()
	makeImage(t, dir, "a", 1)
	c, e := newCatalog(t, dir, time.Hour)
	started, ended := make(chan bool), false
	c.verify = func(ctx context.Context, im *Image, _ int64, _ bool, _ func(int)) error {
		close(started)
		<-ctx.Done()
		ended = true
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	<-started
	cancel()
	if err := <-done; err != nil || !ended {
		t.Errorf("%v, the check has ended: %v", err, ended)
	}
	if got := e.take(); len(got) > 0 {
		t.Errorf("published after the end: %v", got)
	}
}
