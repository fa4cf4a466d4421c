package catalog

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Who asks when the first of two images is ready must see the second one too.
func TestNoImageLooksLikeTheOnlyOne(t *testing.T) {
	dir := t.TempDir()
	makeImage(t, dir, "a", 1)
	makeImage(t, dir, "b", 2)
	c, _ := newCatalog(t, dir, time.Hour)
	ready := c.o.Ready
	c.o.Ready = func(im *Image) error {
		if n := len(c.List()); n != 2 {
			t.Errorf("when %s is ready %d images are listed", im.Name, n)
		}
		return ready(im)
	}
	scan(t, c)
	if got := c.states(); got != "a=ready b=ready" {
		t.Error(got)
	}
}

func TestSeveralIsNotForgotten(t *testing.T) {
	dir := t.TempDir()
	makeImage(t, dir, "a", 1)
	c, _ := newCatalog(t, dir, time.Hour)
	scan(t, c)
	if c.Several() {
		t.Error("one image is several")
	}
	makeImage(t, dir, "b", 2)
	scan(t, c)
	if err := os.Remove(filepath.Join(dir, "b.json")); err != nil {
		t.Fatal(err)
	}
	scan(t, c)
	if got := c.states(); got != "a=ready" || !c.Several() {
		t.Errorf("%s, several %v", got, c.Several())
	}
}

func TestNameThatCannotBeServedIsSaidOnce(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "two words.json"), []byte("{}"))
	write(t, filepath.Join(dir, "two words.payload"), []byte("x"))
	write(t, filepath.Join(dir, "some file.json"), []byte("{}")) // no image
	log := &bytes.Buffer{}
	c, _ := newCatalog(t, dir, time.Hour)
	c.o.Logger = slog.New(slog.NewTextHandler(log, nil))
	scan(t, c)
	scan(t, c)
	if got := strings.Count(log.String(), "image is not served"); got != 1 || !strings.Contains(log.String(), "two words") {
		t.Errorf("said %d times:\n%s", got, log)
	}
}
