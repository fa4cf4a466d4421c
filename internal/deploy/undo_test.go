package deploy

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/event"
	"swarmboot/internal/looptest"
	"swarmboot/internal/params"
)

// planned opens a disk for an image without a layout, as Run and Restore do.
func (f *fixture) planned(t *testing.T, m *imagefmt.Manifest, path string) *planned {
	t.Helper()
	r := &restore{o: RestoreOptions{Manifest: m, Disk: path, Grow: params.GrowNone}, rep: newReporter(event.Progress{}, nil, nil)}
	if err := r.openDisk(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.w.close() }) //nolint:errcheck // a test's own
	return r.w
}

// A run that ends while it is still looking at the old disk leaves that as it was: undo is for what was begun.
func TestWipeInterruptedBeforeTheFirstWrite(t *testing.T) {
	f := newFixture(t, imagefmt.Packed, diskSize)
	if err := f.restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := f.read(t)
	w := f.planned(t, f.Manifest, f.target)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.wipe(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	w.undo(t.Context())
	if !bytes.Equal(before, f.read(t)) {
		t.Error("the disk was written to")
	}
	// But what was begun is undone.
	if err := w.wipe(t.Context()); err != nil || !w.disks[0].dirty {
		t.Errorf("dirty %v (%v)", w.disks[0].dirty, err)
	}
}

// Read-back is of the device: what the kernel still has in its cache says nothing about the medium.
func TestReadBackIsNotOfTheCache(t *testing.T) {
	f := newFixture(t, imagefmt.Packed, diskSize)
	f.o.Disk = looptest.Attach(t, f.target)
	if err := f.restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	im, err := imagefmt.Open(f.Manifest, f.o.Payload)
	if err != nil {
		t.Fatal(err)
	}
	w := f.planned(t, f.Manifest, f.o.Disk)
	defer w.close() //nolint:errcheck // a second time: before the loop device goes
	at := f.Used[0].Off
	if _, err := w.disks[0].dev.ReadAt(make([]byte, 4096), at); err != nil { // now it is cached
		t.Fatal(err)
	}
	medium, err := os.OpenFile(f.target, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer medium.Close()
	if _, err := medium.WriteAt([]byte("rotten"), at); err != nil {
		t.Fatal(err)
	}
	if err := w.readBack(t.Context(), im.Index()); code(err) != cli.CodeVerify {
		t.Errorf("error %v (code %d)", err, code(err))
	}
}
