package disk

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"swarmboot/imagefmt"
)

const mib = 1 << 20

// devices runs f with a regular file and with a loop device, both of the given size.
func devices(t *testing.T, size int64, f func(t *testing.T, d *Device, file string)) {
	t.Run("file", func(t *testing.T) {
		p := sparse(t, size)
		f(t, open(t, p), p)
	})
	t.Run("loop", func(t *testing.T) {
		p := sparse(t, size)
		f(t, open(t, loop(t, p)), p)
	})
}

func TestReadWriteZero(t *testing.T) {
	devices(t, 8*mib, func(t *testing.T, d *Device, _ string) {
		if d.Size() != 8*mib || d.SectorSize() != 512 {
			t.Fatalf("size %d, sector %d", d.Size(), d.SectorSize())
		}
		data := bytes.Repeat([]byte("swarmboot"), 3*mib/9)
		if n, err := d.WriteAt(data, mib); n != len(data) || err != nil {
			t.Fatal(n, err)
		}
		// On sector boundaries, off them, and across.
		for _, z := range []struct{ off, n int64 }{{mib, 4096}, {mib + 5000, 100}, {2*mib - 10, 8192}, {0, 0}} {
			if err := d.Zero(context.Background(), z.off, z.n); err != nil {
				t.Fatal(err)
			}
			if z.n > 0 {
				clear(data[z.off-mib:][:z.n])
			}
		}
		if err := d.DropCaches(); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(data))
		if _, err := d.ReadAt(got, mib); err != nil || !bytes.Equal(got, data) {
			t.Errorf("read back differs (%v)", err)
		}
		if n, err := d.ReadAt(got[:10], d.Size()-4); n != 4 || !errors.Is(err, io.EOF) {
			t.Errorf("read at the end: %d, %v", n, err)
		}
	})
}

func TestOutOfBounds(t *testing.T) {
	devices(t, mib, func(t *testing.T, d *Device, file string) {
		b := make([]byte, 1024)
		for _, off := range []int64{mib, mib - 1023, -1, 1 << 62} {
			var ioErr *IOError
			if _, err := d.WriteAt(b, off); !errors.As(err, &ioErr) || ioErr.Device != d.Path() || ioErr.Op != "write" || ioErr.Off != off {
				t.Errorf("write at %d: %v", off, err)
			}
			if err := d.Zero(context.Background(), off, 1024); !errors.As(err, &ioErr) || ioErr.Op != "zero" {
				t.Errorf("zero at %d: %v", off, err)
			}
		}
		if fi, err := os.Stat(file); err != nil || fi.Size() != mib {
			t.Errorf("the file has grown to %d", fi.Size())
		}
	})
}

func TestZeroStopsWithItsContext(t *testing.T) {
	d := open(t, sparse(t, mib))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := d.Zero(ctx, 0, mib); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A medium that fails: what the operating system says reaches the caller with device and offset.
func TestWriteErrorNamesDeviceAndOffset(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	p := filepath.Join(dir, "disk")
	if err := os.WriteFile(p, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(p, mib); err != nil {
		t.Fatal(err)
	}
	d := open(t, p)
	_, err := d.WriteAt(make([]byte, 256<<10), 4096)
	var ioErr *IOError
	if !errors.As(err, &ioErr) || !errors.Is(err, unix.ENOSPC) || ioErr.Off < 4096 || !strings.HasPrefix(err.Error(), p+": write at offset ") {
		t.Errorf("got %v", err)
	}
	d.Close()
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, p := range []string{dir, "/dev/null", filepath.Join(dir, "missing")} {
		if d, err := Open(p); err == nil {
			d.Close()
			t.Errorf("%s opened", p)
		}
	}
}

// fsImage is a file with a partition table and an ext4 in partition 1 at 1 MiB.
func fsImage(t *testing.T) string {
	p := sparse(t, 32*mib)
	run(t, "sgdisk", "-n", "1:2048:0", p)
	run(t, "mkfs.ext4", "-q", "-E", "offset=1048576", p, "20M")
	return p
}

func TestOpenMountedIsBusy(t *testing.T) {
	dev, dir := loop(t, fsImage(t)), t.TempDir()
	if _, err := os.Stat(dev + "p1"); err != nil { // a kernel that does not read tables
		run(t, "partx", "-a", dev)
	}
	run(t, "mount", dev+"p1", dir)
	defer run(t, "umount", dir)
	_, err := Open(dev)
	var busy *BusyError
	if !errors.As(err, &busy) || !strings.Contains(err.Error(), "mounted on "+dir) {
		t.Fatalf("got %v", err)
	}
	s, _ := ParseSelector(dev)
	disks, err := List()
	if err != nil {
		t.Fatal(err)
	}
	if d, err := s.Select(disks); err == nil || !strings.Contains(err.Error(), "mounted on "+dir) {
		t.Errorf("a mounted disk was selected: %v, %v", d, err)
	}
}

// A file is written behind the back of whatever uses it, so each use that there can be is looked for.
func TestOpenFileInUse(t *testing.T) {
	p := sparse(t, 8*mib)
	run(t, "mkfs.ext4", "-q", p)
	dev, dir := loop(t, p), t.TempDir()
	if d, err := Open(p); err != nil {
		t.Errorf("an idle loop device over it: %v", err)
	} else {
		d.Close()
	}
	busy := func(what, want string) {
		t.Helper()
		d, err := Open(p)
		if err == nil {
			d.Close()
		}
		var b *BusyError
		if !errors.As(err, &b) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want a BusyError with %q", what, err, want)
		}
	}
	run(t, "mount", dev, dir)
	busy("mounted by way of a loop device", "mounted on "+dir)
	run(t, "umount", dir)
	first := open(t, p)
	busy("opened twice", "locked")
	first.Close()
	open(t, p)
}

// What a swap file is called in /proc/swaps.
func TestSwapFileIsInUse(t *testing.T) {
	root, p := t.TempDir(), sparse(t, mib)
	for name, text := range map[string]string{
		"proc/self/mountinfo": "",
		"proc/swaps":          "Filename Type Size Used Priority\n" + p + " file 1020 0 -2\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fi, err := os.Stat(p)
	if err != nil {
		t.Fatal(err)
	}
	if use, err := indirectUse(root, p, fi); err != nil || use != "swap is on it" {
		t.Errorf("got %q, %v", use, err)
	}
}

func TestOpenReadOnlyDevice(t *testing.T) {
	dev := loop(t, sparse(t, mib), "-r")
	if d, err := Open(dev); err == nil {
		d.Close()
		t.Errorf("%s opened", dev)
	} else if s := err.Error(); !strings.Contains(s, dev) {
		t.Errorf("got %v", err)
	}
}

func TestRereadTable(t *testing.T) {
	dev := loop(t, sparse(t, 64*mib))
	d := open(t, dev)
	table := imagefmt.Table{Kind: imagefmt.TableGPT, GUID: diskGUID, Partitions: gptPartitions(mib, 16*mib)}
	if err := WriteTable(d, table); err != nil {
		t.Fatal(err)
	}
	if err := d.RereadTable(); err != nil {
		t.Fatal(err)
	}
	for _, p := range table.Partitions {
		path := PartitionPath(d.Path(), p.Number)
		if got := strings.TrimSpace(run(t, "blockdev", "--getsize64", path)); got != "16777216" {
			t.Errorf("%s has %s bytes", path, got)
		}
	}
	table.Partitions = nil
	if err := WriteTable(d, table); err != nil {
		t.Fatal(err)
	}
	if err := d.RereadTable(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/sys/class/block/" + filepath.Base(PartitionPath(d.Path(), 1))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old partition is still there: %v", err)
	}
}

// What is written behind the kernel's cache is seen after DropCaches, so read-back reads the device.
func TestDropCachesReadsTheDevice(t *testing.T) {
	file := sparse(t, mib)
	d := open(t, loop(t, file))
	b := make([]byte, 4096)
	if _, err := d.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("rotten"), 100); err != nil {
		t.Fatal(err)
	}
	if err := d.DropCaches(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ReadAt(b, 0); err != nil || string(b[100:106]) != "rotten" {
		t.Errorf("read %q from a cache (%v)", b[100:106], err)
	}
}
