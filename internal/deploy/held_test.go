package deploy

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/deploy/deploytest"
	"swarmboot/internal/disk"
	"swarmboot/internal/params"
)

// signature is what blkid finds on a disk, "" for nothing.
func signature(t *testing.T, path string) string {
	t.Helper()
	return strings.TrimSpace(judge(t, "sh", "-c", `blkid -p -o value -s TYPE "$0" || test $? = 2`, path))
}

// bareImage publishes an image of a disk that has this file system and no table, with a boot sector where the file system leaves room for one.
func bareImage(t *testing.T, boot bool, size int64, mkfs ...string) *fixture {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "source")
	judge(t, "truncate", "-s", fmt.Sprint(size), source)
	judge(t, mkfs[0], append(mkfs[1:], source)...)
	if boot {
		f, err := os.OpenFile(source, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b := bytes.Repeat([]byte{0xfa}, 512)
		b[510], b[511] = 0x55, 0xaa
		if _, err := f.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
	}
	im, err := deploytest.FromDisk(dir, "img", source, imagefmt.Table{Kind: imagefmt.TableNone})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{Image: im, target: filepath.Join(dir, "target")}
	judge(t, "truncate", "-s", fmt.Sprint(size), f.target)
	f.o = RestoreOptions{Manifest: im.Manifest, Disk: f.target, Verify: params.VerifyReadBack}
	f.open(t)
	return f
}

// bareDisks are what people have on disks without a table.
var bareDisks = []struct {
	kind string
	boot bool
	size int64
	mkfs []string
	fsck []string
}{
	{"ext4", true, 32 * mib, []string{"mkfs.ext4", "-q"}, []string{"e2fsck", "-fn"}},
	{"xfs", false, 320 * mib, []string{"mkfs.xfs", "-q"}, []string{"timeout", "300", "xfs_repair", "-n"}},
	{"btrfs", true, 128 * mib, []string{"mkfs.btrfs", "-q"}, []string{"btrfs", "check"}},
	{"vfat", false, 16 * mib, []string{"mkfs.fat", "-F", "16"}, []string{"fsck.fat", "-n"}},
	{"swap", true, 16 * mib, []string{"mkswap", "-q"}, []string{"swaplabel"}},
}

// A disk without a table is not known by anything, and has no boot sector, until all of the image is on it; then it is as the image.
func TestBareDiskCutOffIsNothing(t *testing.T) {
	for _, tt := range bareDisks {
		t.Run(tt.kind, func(t *testing.T) {
			f := bareImage(t, tt.boot, tt.size, tt.mkfs...)
			last := int64(f.Manifest.Pieces()-1) * f.Manifest.PieceLength
			seen, first := "never looked", []byte(nil)
			var once sync.Once
			p := f.o.Payload
			f.o.Payload = readerAt(func(b []byte, off int64) (int, error) {
				if off >= last {
					once.Do(func() { seen = signature(t, f.target); first = readFirst(t, f.target) })
				}
				return p.ReadAt(b, off)
			})
			if err := f.restore(t.Context()); err != nil {
				t.Fatal(err)
			}
			if seen != "" || !allZero(first) {
				t.Errorf("before the last piece blkid finds %q; the first sector is %x...", seen, first[:min(16, len(first))])
			}
			if got := signature(t, f.target); got != tt.kind {
				t.Errorf("at last blkid finds %q", got)
			}
			judge(t, "cmp", filepath.Join(f.Dir, "source"), f.target)
			judge(t, tt.fsck[0], append(tt.fsck[1:], f.target)...)
		})
	}
}

// While the system on a disk without a table is changed it can be mounted, and has no boot sector.
func TestBareDiskIsShownWithoutBootSector(t *testing.T) {
	for _, tt := range bareDisks {
		path := filepath.Join(t.TempDir(), "disk")
		judge(t, "truncate", "-s", fmt.Sprint(tt.size), path)
		f := bareImage(t, tt.boot, tt.size, tt.mkfs...)
		source, err := os.ReadFile(filepath.Join(f.Dir, "source"))
		if err != nil {
			t.Fatal(err)
		}
		dev, err := disk.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer dev.Close()
		h := &held{dev: dev}
		for off := 0; off < len(source); off += 100_003 { // across the bound, too
			if _, err := h.WriteAt(source[off:min(off+100_003, len(source))], int64(off)); err != nil {
				t.Fatal(err)
			}
		}
		got := make([]byte, len(source))
		if err := readFull(h, got, 0); err != nil || !bytes.Equal(got, source) {
			t.Errorf("%s: it does not read as it was written (%v)", tt.kind, err)
		}
		if is := signature(t, path); is != "" {
			t.Errorf("%s: blkid finds %q", tt.kind, is)
		}
		for _, boot := range []bool{false, true} {
			if err := h.release(boot); err != nil {
				t.Fatal(err)
			}
			now, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			bootable := tt.boot && tt.kind != "swap" // of what cannot be a root nobody changes anything
			if !boot && bootable && (!allZero(now[:512]) || !bytes.Equal(now[512:], source[512:]) || signature(t, path) != tt.kind) {
				t.Errorf("%s: it is shown with a boot sector, or is not what it is meant to be", tt.kind)
			}
			if (boot || !bootable) && !bytes.Equal(now, source) {
				t.Errorf("%s: released, and not as the image", tt.kind)
			}
			if err := readFull(h, got, 0); err != nil || !bytes.Equal(got, source) {
				t.Errorf("%s: released, it does not read as it was written (%v)", tt.kind, err)
			}
		}
	}
}

// forgetful is a disk that loses a byte of what is written.
type forgetful struct{ *disk.Device }

func (f forgetful) DropCaches() error {
	if _, err := f.WriteAt([]byte{0}, 1000); err != nil {
		return err
	}
	return f.Device.DropCaches()
}

// What the disk loses of the first bytes is seen: no read-back before could.
func TestHeldBytesAreReadBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	judge(t, "truncate", "-s", "1M", path)
	d, err := disk.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	h := &held{dev: forgetful{d}}
	if _, err := h.WriteAt(bytes.Repeat([]byte("swarm"), 1000), 0); err != nil {
		t.Fatal(err)
	}
	if err := h.release(true); cli.Code(err) != cli.CodeVerify || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}

// snapshot is a disk that is looked at when it has been flushed for the first time.
type snapshot struct {
	*disk.Device
	first func()
	once  *sync.Once
}

func (s snapshot) DropCaches() error {
	err := s.Device.DropCaches()
	s.once.Do(s.first)
	return err
}

// The power may fail while the first bytes are written: what makes the disk known follows when the rest is on the medium.
func TestHeldBytesInOrder(t *testing.T) {
	for _, tt := range bareDisks {
		f := bareImage(t, tt.boot, tt.size, tt.mkfs...)
		source, err := os.ReadFile(filepath.Join(f.Dir, "source"))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "disk")
		judge(t, "truncate", "-s", fmt.Sprint(tt.size), path)
		d, err := disk.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		h := &held{dev: snapshot{d, func() {
			now, err := os.ReadFile(path)
			if kind := signature(t, path); err != nil || kind != "" || !allZero(now[:512]) {
				t.Errorf("%s: blkid finds %q, the first sector is %x... (%v)", tt.kind, kind, now[:16], err)
			}
			for _, m := range marks {
				copy(now[m[0]:], source[m[0]:m[1]])
			}
			if !bytes.Equal(now, source) {
				t.Errorf("%s: more than the marks is missing", tt.kind)
			}
		}, new(sync.Once)}}
		if _, err := h.WriteAt(source, 0); err != nil {
			t.Fatal(err)
		}
		if err := h.release(true); err != nil {
			t.Fatal(err)
		}
	}
}

func readFirst(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 512)
	if err := readFull(f, b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}
