package imagesrc

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swarmboot/internal/looptest"
)

// TestInUse asks for a file, its loop device and a disk with a partition, while something is mounted.
func TestInUse(t *testing.T) {
	path, _ := makeExt(t, 40*mib, "-t ext2")
	dev := looptest.Attach(t, path)

	if s, err := Open(t.Context(), dev, Options{}); err != nil {
		t.Errorf("an idle loop device: %v", err)
	} else {
		if s.Size() != 40*mib || s.SectorSize() != 512 || len(s.Notes()) > 0 {
			t.Errorf("%d bytes, sectors of %d, notes %q", s.Size(), s.SectorSize(), s.Notes())
		}
		_ = s.Close()
	}
	open(t, path, Options{}) // a loop device over it is no use of it

	dir := scratch(t)
	run(t, "mount", "-o", "ro", dev, dir)
	defer run(t, "umount", dir)
	for _, p := range []string{path, dev} {
		_, err := Open(t.Context(), p, Options{})
		var mounted *MountedError
		if !errors.As(err, &mounted) || !strings.Contains(mounted.Use, "mounted on "+dir) {
			t.Errorf("%s: got %v, want a MountedError that names %s", p, err, dir)
		}
		s := open(t, p, Options{Force: true})
		if len(s.Notes()) == 0 || !strings.Contains(s.Notes()[0], "in use") {
			t.Errorf("%s: notes %q", p, s.Notes())
		}
	}
}

func TestInUsePartition(t *testing.T) {
	path := sfdisk(t, 64*mib, 512, gptScript)
	fs, _ := makeExt(t, 24*mib, "-t ext4")
	dd(t, fs, path, 9*mib)
	dev := looptest.Attach(t, path, "-P")
	// A kernel may lack the code for this table, and /dev need not be managed by the kernel.
	sysfs := "/sys/class/block/" + filepath.Base(dev) + "p2/dev"
	if _, err := os.Stat(sysfs); err != nil {
		run(t, "partx", "-a", dev)
	}
	number, err := os.ReadFile(sysfs)
	if err != nil {
		t.Fatalf("the kernel made no device for partition 2: %v", err)
	}
	major, minor, _ := strings.Cut(strings.TrimSpace(string(number)), ":")
	part := filepath.Join(t.TempDir(), "p2")
	run(t, "mknod", part, "b", major, minor)
	dir := scratch(t)
	run(t, "mount", part, dir)
	defer run(t, "umount", dir)
	for _, p := range []string{path, dev, part} {
		_, err := Open(t.Context(), p, Options{})
		var mounted *MountedError
		if !errors.As(err, &mounted) || !strings.Contains(mounted.Use, dev+"p2 is mounted on "+dir) {
			t.Errorf("%s: got %v, want a MountedError that names %s", p, err, dir)
		}
	}
}

func TestSwapInUse(t *testing.T) {
	u := &usage{mounts: map[uint64]string{}, swap: map[string]string{"/a file": "used as swap"}}
	u.addMount(strings.Fields(`36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`))
	if got := u.mounts[98<<8]; got != "mounted on /mnt 2" {
		t.Errorf("got %q", got)
	}
}

func TestNotADisk(t *testing.T) {
	for path, want := range map[string]string{"/dev/null": "neither", t.TempDir(): "neither", "/nonexistent": "no such file"} {
		if _, err := Open(t.Context(), path, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
	if _, err := Open(t.Context(), blank(t, 100), Options{}); err == nil || !strings.Contains(err.Error(), "no disk") {
		t.Errorf("got %v", err)
	}
}
