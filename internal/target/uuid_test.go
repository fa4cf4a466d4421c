package target

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var uuidCases = []struct {
	name, size string
	make       string // words; the file comes last
	check      string
	kept       string // why nothing changes
}{
	{"ext4", "300M", "mkfs.ext4 -q -b 1024", "e2fsck -fn", ""},
	{"ext4 Debian 12", "600M", "mkfs.ext4 -q -O ^metadata_csum_seed,^orphan_file", "e2fsck -fn", ""},
	{"ext4 seed", "64M", "mkfs.ext4 -q -O metadata_csum_seed", "e2fsck -fn", ""},
	{"ext4 no checksums", "300M", "mkfs.ext4 -q -b 1024 -O ^metadata_csum,^uninit_bg", "e2fsck -fn", ""},
	{"ext4 every superblock", "100M", "mkfs.ext4 -q -b 1024 -O ^sparse_super,^resize_inode", "e2fsck -fn", ""},
	{"ext4 sparse_super2", "300M", "mkfs.ext4 -q -b 1024 -O sparse_super2,^resize_inode", "e2fsck -fn", ""},
	{"ext4 meta_bg", "300M", "mkfs.ext4 -q -b 1024 -O meta_bg,^resize_inode", "e2fsck -fn", ""},
	{"ext4 bigalloc", "300M", "mkfs.ext4 -q -O bigalloc", "e2fsck -fn", ""},
	{"ext4 without 64bit", "300M", "mkfs.ext4 -q -O ^64bit", "e2fsck -fn", ""},
	{"ext2", "100M", "mkfs.ext2 -q -b 1024", "e2fsck -fn", ""},
	{"ext3", "100M", "mkfs.ext3 -q", "e2fsck -fn", ""},
	{"old checksums", "100M", "mkfs.ext4 -q -O ^metadata_csum,uninit_bg", "e2fsck -fn", "checksums of the old kind"},
	{"stable inodes", "100M", "mkfs.ext4 -q -O stable_inodes", "e2fsck -fn", "stable_inodes"},
	{"swap", "16M", "mkswap -q", "swaplabel", ""},
	{"swap of large pages", "16M", "mkswap -q -p 65536", "", ""},
	{"FAT12", "4M", "mkfs.fat -F 12", "fsck.fat -n", ""},
	{"FAT16", "32M", "mkfs.fat -F 16", "fsck.fat -n", ""},
	{"FAT32", "64M", "mkfs.fat -F 32", "fsck.fat -n", ""},
	{"FAT32 of large sectors", "300M", "mkfs.fat -F 32 -S 4096 -s 1", "fsck.fat -n", ""},
	{"XFS", "320M", "mkfs.xfs -q", "timeout 60 xfs_repair -n", ""},
	{"XFS with large sectors", "400M", "mkfs.xfs -q -s size=4096 -m reflink=1,rmapbt=1 -l su=32k", "timeout 60 xfs_repair -n", ""},
	{"XFS of version 4", "320M", "mkfs.xfs -q -m crc=0,finobt=0", "timeout 60 xfs_repair -n", "version 5"},
	{"btrfs", "256M", "mkfs.btrfs -q", "btrfs check", ""},
	{"btrfs with other checksums", "256M", "mkfs.btrfs -q --csum xxhash", "btrfs check", "not CRC-32C"},
	{"nothing", "1M", "true", "", "no file system"},
}

// TestChangeIdentifier has blkid and the file systems' own tools judge, also of the last copy of a superblock, and the kernel mount.
func TestChangeIdentifier(t *testing.T) {
	id := DeriveUUID("node", "image", "1")
	for _, tt := range uuidCases {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "fs")
			run(t, "truncate", "-s", tt.size, path)
			words := append(strings.Fields(tt.make), path)
			run(t, words[0], words[1:]...)
			before := blkid(t, path)
			ch, err := ChangeIdentifier(path, id)
			if tt.kept != "" {
				if Kept(err) == nil || !strings.Contains(err.Error(), tt.kept) || blkid(t, path) != before {
					t.Errorf("%v, want %q; %s is now %s", err, tt.kept, before, blkid(t, path))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if ch.Old != before || ch.New != blkid(t, path) || ch.Old == ch.New {
				t.Errorf("%+v, blkid said %s, and says %s", ch, before, blkid(t, path))
			}
			if tt.check != "" {
				c := append(strings.Fields(tt.check), path)
				run(t, c[0], c[1:]...)
			}
			if ch.Kind == "ext4" {
				checkBackups(t, path, ch.New)
			}
			if ch.Kind == "ext4" || ch.Kind == "xfs" || ch.Kind == "btrfs" {
				mounts(t, path)
			}
			again, err := ChangeIdentifier(path, id)
			if err != nil || again.Old != ch.New || again.New != ch.New {
				t.Errorf("again: %+v, %v", again, err)
			}
			other, err := ChangeIdentifier(path, DeriveUUID("other"))
			if err != nil || other.Old != ch.New || blkid(t, path) != other.New {
				t.Errorf("another: %+v, %v", other, err)
			}
			if tt.check != "" {
				c := append(strings.Fields(tt.check), path)
				run(t, c[0], c[1:]...)
			}
		})
	}
}

func blkid(t *testing.T, path string) string {
	t.Helper()
	if b, err := os.ReadFile(path); err == nil && strings.Trim(string(b[:min(len(b), 128<<10)]), "\x00") == "" {
		return ""
	}
	return run(t, "blkid", "-p", "-s", "UUID", "-o", "value", path)
}

// checkBackups wants every copy of the superblock that dumpe2fs lists to be one that e2fsck and dumpe2fs take.
func checkBackups(t *testing.T, path, uuid string) {
	t.Helper()
	size, seed := "", seedLine(run(t, "dumpe2fs", "-h", path))
	n := 0
	for line := range strings.Lines(run(t, "dumpe2fs", path)) {
		if rest, ok := strings.CutPrefix(line, "Block size:"); ok {
			size = strings.TrimSpace(rest)
		}
		_, rest, ok := strings.Cut(line, "Backup superblock at ")
		if !ok {
			continue
		}
		var block int64
		if _, err := fmt.Sscan(strings.TrimRight(strings.Fields(rest)[0], ","), &block); err != nil {
			t.Fatal(err)
		}
		n++
		// dumpe2fs refuses a superblock with a wrong checksum.
		out := run(t, "dumpe2fs", "-h", "-o", fmt.Sprintf("superblock=%d", block), "-o", "blocksize="+size, path)
		if !strings.Contains(out, uuid) || seedLine(out) != seed {
			t.Errorf("the copy in block %d is another: %s", block, out)
		}
	}
	t.Logf("%d copies", n)
}

// seedLine is what dumpe2fs says of the seed of checksums.
func seedLine(out string) string {
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "Checksum seed:") {
			return line
		}
	}
	return ""
}

func mounts(t *testing.T, path string) {
	t.Helper()
	dir := t.TempDir()
	run(t, "mount", "-o", "loop", path, dir)
	err := os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o600)
	run(t, "umount", dir)
	if err != nil {
		t.Error(err)
	}
}

// TestChangeUsedXFS: an XFS that was used has a log with records of many kinds and lengths; the kernel mounts it with the new UUID,
// and uses it, and xfs_repair has nothing to say. One that was not unmounted keeps its UUID.
func TestChangeUsedXFS(t *testing.T) {
	for _, options := range []string{"logbsize=256k", "logbsize=32k", "logbufs=2,logbsize=64k"} {
		path, dir := filepath.Join(t.TempDir(), "fs"), t.TempDir()
		run(t, "truncate", "-s", "400M", path)
		run(t, "mkfs.xfs", "-q", "-m", "reflink=1,rmapbt=1", path)
		busy := func(name string) {
			t.Helper()
			run(t, "mount", "-o", "loop,"+options, path, dir)
			run(t, "sh", "-c", fmt.Sprintf("cd %s && for n in 1 2 3; do mkdir -p %s/$n && for i in $(seq 800); do echo text $i >%s/$n/$i; done; sync; done; rm -r %s/2", dir, name, name, name))
			run(t, "umount", dir)
		}
		busy("a")
		busy("b")
		for i := range 2 {
			ch, err := ChangeIdentifier(path, DeriveUUID(options, fmt.Sprint(i)))
			if err != nil || ch.Kind != "xfs" || blkid(t, path) != ch.New {
				t.Fatalf("%s: %+v, %v", options, ch, err)
			}
			run(t, "timeout", "300", "xfs_repair", "-n", path)
			busy(fmt.Sprint("c", i))
			run(t, "timeout", "300", "xfs_repair", "-n", path)
		}
		run(t, "mount", "-o", "loop,ro", path, dir)
		if b, err := os.ReadFile(filepath.Join(dir, "a/3/800")); err != nil || string(b) != "text 800\n" {
			t.Errorf("%s: %q, %v", options, b, err)
		}
		run(t, "umount", dir)
		run(t, "mount", "-o", "loop", path, dir)
		run(t, "sh", "-c", "echo x >"+filepath.Join(dir, "dirty")+" && xfs_io -x -c 'shutdown -f' "+dir)
		run(t, "umount", dir)
		before := blkid(t, path)
		if _, err := ChangeIdentifier(path, DeriveUUID("dirty")); Kept(err) == nil || !strings.Contains(err.Error(), "log is to be replayed") || blkid(t, path) != before {
			t.Errorf("%s, dirty: %v", options, err)
		}
	}
}

// A btrfs of several devices keeps its UUID: the others name it too.
func TestBtrfsOfSeveralDevicesKeepsItsUUID(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	run(t, "truncate", "-s", "256M", one, two)
	run(t, "mkfs.btrfs", "-q", "-d", "raid1", "-m", "raid1", one, two)
	before := blkid(t, one)
	_, err := ChangeIdentifier(one, DeriveUUID("node"))
	if k := Kept(err); k == nil || k.Kind != "btrfs" || !strings.Contains(err.Error(), "several devices") || blkid(t, one) != before || blkid(t, two) != before {
		t.Errorf("%v; it was %s, and is %s and %s", err, before, blkid(t, one), blkid(t, two))
	}
}

// blankMemory can be zeroed.
type blankMemory struct{ memory }

func (m blankMemory) Zero(_ context.Context, off, n int64) error {
	clear(m.memory[off : off+n])
	return nil
}

// xfsLogStart is where the log of an XFS begins.
func xfsLogStart(m memory) int64 {
	v, err := openXFS(m, m[:4096])
	if err != nil {
		panic(err)
	}
	return v.logStart
}

func TestDeriveUUID(t *testing.T) {
	a, b := DeriveUUID("a", "bc"), DeriveUUID("ab", "c")
	if a == b || a != DeriveUUID("a", "bc") || a[6]>>4 != 8 || a[8]>>6 != 2 {
		t.Errorf("%x %x", a, b)
	}
}

// memory is a device in memory.
type memory []byte

func (m memory) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off >= 0 && off < int64(len(m)) {
		copy(p, m[off:])
	}
	return len(p), nil
}

func (m memory) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(m))-int64(len(p)) {
		return 0, fmt.Errorf("write of %d bytes at %d of %d", len(p), off, len(m))
	}
	return copy(m[off:], p), nil
}

func FuzzChangeIdentifier(f *testing.F) {
	head := make([]byte, 4096)
	copy(head[1024+56:], "\x53\xef")
	f.Add(head)
	// The first superblock and the last record of the log, brought near each other; a btrfs.
	xfs := make(memory, 320<<20)
	if err := MakeXFS(f.Context(), blankMemory{xfs}, int64(len(xfs)), XFS{}); err != nil {
		f.Fatal(err)
	}
	near := append([]byte(nil), xfs[:4096]...)
	near = append(near, xfs[xfsLogStart(xfs):][:4096]...)
	binary.BigEndian.PutUint64(near[48:], 1)
	binary.BigEndian.PutUint32(near[96:], 8)
	f.Add(near)
	btrfs := make([]byte, 68<<10)
	copy(btrfs[btrfsOffset+64:], "_BHRfS_M")
	btrfs[btrfsOffset+btrfsDevicesOff] = 1
	f.Add(btrfs)
	f.Fuzz(func(t *testing.T, b []byte) {
		m := make(memory, 1<<20)
		copy(m, b)
		if string(b[:min(4, len(b))]) == "XFSB" && len(b) >= 512 { // sums that are right let it go on
			if sector := int(binary.BigEndian.Uint16(b[102:])); sector >= 512 && sector <= len(m) {
				clear(m[xfsSumOff : xfsSumOff+4])
				binary.LittleEndian.PutUint32(m[xfsSumOff:], ^crc32c(^uint32(0), m[:sector]))
			}
		}
		binary.LittleEndian.PutUint32(m[btrfsOffset:], ^crc32c(^uint32(0), m[btrfsOffset+32:][:btrfsSuperSize-32]))
		changeIdentifier(m, DeriveUUID("x")) //nolint:errcheck // it must end, within bounds
	})
}
