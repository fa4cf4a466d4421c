package deploy

import (
	"bytes"
	"testing"

	"swarmboot/internal/filetest"
	"swarmboot/internal/looptest"
)

// What the kernel has kept of a disk that somebody has open says nothing about what is on it now.
func TestOpenedDiskIsReadAnew(t *testing.T) {
	file := sparseFile(t, 64*mib)
	dev := looptest.Attach(t, file)
	filetest.Read(t, dev, 4*mib, 4096) // now it is cached
	want := bytes.Repeat([]byte{1}, 4096)
	filetest.Write(t, file, 4*mib, want)
	w, err := newPlanned(rootedImage(), planOn(dev), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close() //nolint:errcheck // a test's own
	got := make([]byte, 4096)
	if err := readFull(w.disks[0].dev, got, 4*mib); err != nil || !bytes.Equal(got, want) {
		t.Errorf("it reads %x... (%v)", got[:4], err)
	}
}
