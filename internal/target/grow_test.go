package target

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"swarmboot/internal/looptest"
)

const mib = 1 << 20

// sparseFile makes a file on tmpfs: the file systems of these tests are up to terabytes large.
func sparseFile(t *testing.T, size int64) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "target")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // a test's own
	img := filepath.Join(dir, "disk")
	f, err := os.Create(img)
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	return img
}

// withMounted mounts a file system as a system would and calls f with the place.
func withMounted(t *testing.T, device, kind string, f func(dir string)) {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount(device, dir, kind, 0, ""); err != nil {
		t.Fatalf("mount %s: %v", kind, err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	f(dir)
}

// check has the file system's own tool judge it.
func check(t *testing.T, kind, device string) {
	t.Helper()
	switch kind {
	case "ext4":
		run(t, "e2fsck", "-fn", device)
	case "xfs":
		run(t, "xfs_repair", "-n", device)
	case "btrfs":
		run(t, "btrfs", "check", "--readonly", device)
	}
}

// What grows: content, UUID and label stay, the kernel sees the new size, the foreign checker has nothing to say.
func TestGrowFileSystem(t *testing.T) {
	tests := []struct {
		name     string
		mkfs     string
		from, to int64
		kind     string
		unused   int64 // at the end, at most
	}{
		{"ext4", "mkfs.ext4 -q", 64 * mib, 1024 * mib, "ext4", 0},
		{"ext4 1K blocks", "mkfs.ext4 -q -b 1024", 32 * mib, 600 * mib, "ext4", 0},
		{"ext4 odd size", "mkfs.ext4 -q -b 4096", 64 * mib, 700*mib + 5*512, "ext4", 4095},
		{"ext4 one block into a new group", "mkfs.ext4 -q -b 4096", 64 * mib, 256*mib + 4096, "ext4", 4096},
		{"ext4 not 64bit", "mkfs.ext4 -q -O ^64bit,^metadata_csum", 64 * mib, 1024 * mib, "ext4", 0},
		{"ext4 meta_bg", "mkfs.ext4 -q -O meta_bg,^resize_inode", 64 * mib, 1024 * mib, "ext4", 0},
		{"ext4 without resize_inode", "mkfs.ext4 -q -O ^resize_inode", 64 * mib, 3072 * mib, "ext4", 0},
		{"ext4 without journal", "mkfs.ext4 -q -O ^has_journal", 64 * mib, 1024 * mib, "ext4", 0},
		{"ext4 flex_bg off", "mkfs.ext4 -q -O ^flex_bg,^uninit_bg,^metadata_csum", 64 * mib, 1024 * mib, "ext4", 0},
		{"ext4 beyond its reserve", "mkfs.ext4 -q -b 4096 -E resize=40000", 64 * mib, 64 << 30, "ext4", 0},
		{"ext4 3 TiB", "mkfs.ext4 -q -i 1048576", 3072 * mib, 3 << 40, "ext4", 0},
		{"ext2", "mkfs.ext2 -q", 64 * mib, 1024 * mib, "ext4", 0},
		{"ext3", "mkfs.ext3 -q", 64 * mib, 1024 * mib, "ext4", 0},
		{"xfs", "mkfs.xfs -q", 320 * mib, 2048 * mib, "xfs", 0},
		{"xfs odd size", "mkfs.xfs -q -m reflink=0 -i maxpct=13", 320 * mib, 2048*mib + 5*4096 + 512, "xfs", 64 * 4096},
		{"xfs 40 GiB", "mkfs.xfs -q", 512 * mib, 40 << 30, "xfs", 0},
		{"btrfs", "mkfs.btrfs -q", 128 * mib, 2048 * mib, "btrfs", 0},
		{"btrfs odd size", "mkfs.btrfs -q", 128 * mib, 2048*mib + 512*5, "btrfs", 4095},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if testing.Short() && tt.kind == "ext4" && tt.name != "ext4" && !mayResizeExt4(t) {
				t.Skip("the kernel refuses this process every ext4 in the same way; qemu-tests/grow has them all")
			}
			img := sparseFile(t, tt.from)
			args := append(strings.Fields(tt.mkfs), "-L", "rootfs", img)
			run(t, args[0], args[1:]...)
			uuid := run(t, "blkid", "-p", "-o", "value", "-s", "UUID", img)
			if err := os.Truncate(img, tt.to); err != nil {
				t.Fatal(err)
			}
			dev := looptest.Attach(t, img)
			sum := fill(t, dev, tt.kind)
			g, err := GrowFileSystem(t.Context(), dev)
			if tt.kind == "ext4" && !mayResizeExt4(t) {
				refused(t, dev, sum, err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if g.FileSystem != tt.kind || g.Before <= 0 || g.Before > tt.from || g.After > tt.to || tt.to-g.After > tt.unused {
				t.Errorf("got %+v; want %d of at most %d unused", g, tt.unused, tt.to)
			}
			check(t, tt.kind, dev)
			if got := run(t, "blkid", "-p", "-o", "value", "-s", "UUID", dev); got != uuid {
				t.Errorf("UUID %s became %s", uuid, got)
			}
			if got := run(t, "blkid", "-p", "-o", "value", "-s", "LABEL", dev); got != "rootfs" {
				t.Errorf("the label became %q", got)
			}
			withMounted(t, dev, tt.kind, func(dir string) {
				if got := readSum(t, dir); got != sum {
					t.Error("content changed")
				}
				var st unix.Statfs_t
				if err := unix.Statfs(dir, &st); err != nil {
					t.Fatal(err)
				}
				if room := int64(st.Blocks) * st.Bsize; room < (g.After-g.Before)*9/10 {
					t.Errorf("df says %d bytes of %d", room, g.After)
				}
			})
			again, err := GrowFileSystem(t.Context(), dev)
			if err != nil || again.Before != g.After || again.After != g.After {
				t.Errorf("a second time: %+v, %v", again, err)
			}
			check(t, tt.kind, dev)
		})
	}
}

// mayResizeExt4 says whether this process has CAP_SYS_RESOURCE, which EXT4_IOC_RESIZE_FS wants. Containers often lack
// it; on nodes and in the virtual machines of qemu-tests it is there.
func mayResizeExt4(t *testing.T) bool {
	t.Helper()
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&hdr, &caps[0]); err != nil {
		t.Fatal(err)
	}
	return caps[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

// refused: the kernel would not; that is said, and the file system is what it was.
func refused(t *testing.T, dev string, sum [32]byte, err error) {
	t.Helper()
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_SYS_RESOURCE") {
		t.Errorf("got %v", err)
	}
	notMounted(t, dev)
	check(t, "ext4", dev)
	withMounted(t, dev, "ext4", func(dir string) {
		if got := readSum(t, dir); got != sum {
			t.Error("content changed")
		}
	})
}

// fill puts a file of 5 MiB on a file system and returns its hash.
func fill(t *testing.T, device, kind string) (sum [32]byte) {
	t.Helper()
	b := make([]byte, 5*mib)
	for i := range len(b) / 4 {
		binary.LittleEndian.PutUint32(b[4*i:], uint32(i)*2654435761)
	}
	withMounted(t, device, kind, func(dir string) {
		if err := os.WriteFile(filepath.Join(dir, "file"), b, 0o644); err != nil {
			t.Fatal(err)
		}
	})
	return sha256.Sum256(b)
}

func readSum(t *testing.T, dir string) [32]byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b)
}

// The numbers are what C says of linux/ext4.h, xfs_fs.h and linux/btrfs.h on amd64 and arm64.
func TestIoctlNumbers(t *testing.T) {
	iow := func(group, nr, size uintptr) uintptr { return 1<<30 | size<<16 | group<<8 | nr }
	for _, tt := range []struct {
		name      string
		got, want uintptr
	}{
		{"EXT4_IOC_RESIZE_FS", ext4IOCResizeFS, iow('f', 16, 8)},
		{"XFS_IOC_FSGROWFSDATA", xfsIOCFSGrowFSData, iow('X', 110, unsafe.Sizeof(xfsGrowFSData{}))},
		{"BTRFS_IOC_RESIZE", btrfsIOCResize, iow(0x94, 3, unsafe.Sizeof(btrfsVolArgs{}))},
		{"struct xfs_growfs_data", unsafe.Sizeof(xfsGrowFSData{}), 16},
		{"struct btrfs_ioctl_vol_args", unsafe.Sizeof(btrfsVolArgs{}), 4096},
		{"offsetof imaxpct", unsafe.Offsetof(xfsGrowFSData{}.imaxPct), 8},
		{"offsetof name", unsafe.Offsetof(btrfsVolArgs{}.name), 8},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %#x, want %#x", tt.name, tt.got, tt.want)
		}
	}
}

func TestGrowError(t *testing.T) {
	for _, tt := range []struct {
		ret  uintptr
		err  error
		want string
	}{
		{0, unix.EPERM, "refuses"}, {0, unix.EOPNOTSUPP, "features"}, {0, unix.EINVAL, "new size"}, {0, unix.ENOSPC, "too full"},
		{1, nil, "busy"}, {0, unix.EIO, "input/output"},
	} {
		err := growError(tt.ret, tt.err)
		if err == nil || !strings.Contains(err.Error(), tt.want) || (tt.err != nil && !errors.Is(err, tt.err)) {
			t.Errorf("%d, %v: %v", tt.ret, tt.err, err)
		}
	}
	if err := growError(0, nil); err != nil {
		t.Error(err)
	}
}

// What cannot be grown is refused with the reason and left byte for byte as it was, and nothing stays mounted.
func TestGrowFileSystemRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		make []string
		want string
	}{
		{"nothing", nil, "no file system that can be grown"},
		{"swap", []string{"mkswap"}, "no file system that can be grown"},
		{"vfat", []string{"mkfs.fat"}, "no file system that can be grown"},
		{"journal device", []string{"mkfs.ext4", "-q", "-O", "journal_dev"}, "no file system that can be grown"},
		{"sparse_super2", []string{"mkfs.ext4", "-q", "-O", "sparse_super2,^resize_inode"}, "sparse_super2"},
		{"unknown feature", []string{"sh", "-c", `mkfs.ext4 -q "$0" && debugfs -w -R "feature FEATURE_R31" "$0"`}, "mount ext4 read-write"},
		{"errors", []string{"sh", "-c", `mkfs.ext4 -q "$0" && debugfs -w -R "ssv state 2" "$0"`}, "having errors"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			img := sparseFile(t, 64*mib)
			if tt.make != nil {
				run(t, tt.make[0], append(tt.make[1:], img)...)
			}
			if err := os.Truncate(img, 128*mib); err != nil {
				t.Fatal(err)
			}
			before := hash(t, img)
			dev := looptest.Attach(t, img)
			g, err := GrowFileSystem(t.Context(), dev)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), dev) {
				t.Errorf("%+v, %v; want %q", g, err, tt.want)
			}
			notMounted(t, dev)
			if hash(t, img) != before {
				t.Error("the device was written to")
			}
		})
	}
}

func TestGrowMountedFileSystem(t *testing.T) {
	img := sparseFile(t, 64*mib)
	run(t, "mkfs.ext4", "-q", img)
	dev := looptest.Attach(t, img)
	withMounted(t, dev, "ext4", func(string) {
		if _, err := GrowFileSystem(t.Context(), dev); !errors.Is(err, unix.EBUSY) {
			t.Errorf("got %v", err)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	run(t, "truncate", "-s", "128M", img)
	run(t, "losetup", "-c", dev)
	if _, err := GrowFileSystem(ctx, dev); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if _, err := GrowFileSystem(t.Context(), dev+".missing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	notMounted(t, dev)
}

func hash(t *testing.T, path string) (sum [32]byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b)
}

func notMounted(t *testing.T, dev string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), dev+" ") {
		t.Errorf("%s is still mounted", dev)
	}
}

// head64K is the first bytes of a file system that a foreign tool has made, up to where the last superblock ends.
func head64K(tb testing.TB, args ...string) []byte {
	tb.Helper()
	img := filepath.Join(tb.TempDir(), "disk")
	f, err := os.Create(img)
	if err == nil {
		err = f.Truncate(320 * mib)
	}
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	if out, err := exec.CommandContext(context.Background(), args[0], append(args[1:], img)...).CombinedOutput(); err != nil {
		tb.Fatalf("%s: %v\n%s", args[0], err, out)
	}
	b := make([]byte, btrfsOffset+superSize)
	if _, err := io.ReadFull(f, b); err != nil {
		tb.Fatal(err)
	}
	return b
}

func FuzzReadSuperblock(f *testing.F) {
	for _, mkfs := range [][]string{{"mkfs.ext4", "-q"}, {"mkfs.ext2", "-q", "-b", "1024"}, {"mkfs.xfs", "-q"}, {"mkfs.btrfs", "-q"}, {"mkfs.fat"}} {
		f.Add(head64K(f, mkfs...))
	}
	f.Add([]byte("XFSB"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := readSuperblock(bytes.NewReader(b))
		if err != nil {
			return
		}
		if s.blockSize < 512 || s.blocks <= 0 || s.size() <= 0 || s.slack <= 0 || s.size()/s.blockSize != s.blocks {
			t.Errorf("%+v", s)
		}
	})
}
