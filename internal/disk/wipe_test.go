package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"swarmboot/internal/filetest"
)

// md writes the superblock of an array member, by hand since that needs no md driver, and has mdadm confirm it.
func md(version string) func(*testing.T, string) {
	return func(t *testing.T, p string) {
		mdByHand(t, p, version)
		if out := run(t, "mdadm", "--examine", p); !strings.Contains(out, "Version : "+version) || !strings.Contains(out, "- correct") {
			t.Fatal(out)
		}
	}
}

// mdByHand writes what mdadm --examine accepts (linux/raid/md_p.h): magic, version, level, size, checksum.
func mdByHand(t *testing.T, p, version string) {
	t.Helper()
	fi, err := os.Stat(p)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	if version == "0.90" {
		b := make([]byte, 4096)
		for i, v := range []uint32{0xa92b4efc, 0, 90, 0, 0, 1, 1, 1, 16384, 2, 2} {
			le.PutUint32(b[4*i:], v)
		}
		sum := uint64(0)
		for i := 0; i < 4096; i += 4 {
			sum += uint64(le.Uint32(b[i:]))
		}
		le.PutUint32(b[38*4:], uint32(sum)+uint32(sum>>32))
		filetest.Write(t, p, md090(fi.Size()), b)
		return
	}
	off := map[string]int64{"1.0": md10(fi.Size()), "1.1": 0, "1.2": 4096}[version]
	b := make([]byte, 256)
	le.PutUint32(b, 0xa92b4efc)
	le.PutUint32(b[4:], 1)
	le.PutUint32(b[72:], 1)
	le.PutUint64(b[80:], 32768)
	le.PutUint32(b[92:], 2)
	le.PutUint64(b[128:], 2048)
	le.PutUint64(b[136:], 32768)
	le.PutUint64(b[144:], uint64(off/512))
	sum := uint64(0)
	for i := 0; i < 256; i += 4 {
		sum += uint64(le.Uint32(b[i:]))
	}
	le.PutUint32(b[216:], uint32(sum)+uint32(sum>>32))
	filetest.Write(t, p, off, b)
}

func zfs(t *testing.T, p string) {
	ub := make([]byte, 168)
	binary.LittleEndian.PutUint64(ub, 0x00bab10c)
	binary.LittleEndian.PutUint64(ub[8:], 5000)
	for _, label := range []int64{0, 256 << 10, 64*mib - 512<<10, 64*mib - 256<<10} {
		for i := range int64(16) {
			filetest.Write(t, p, label+128<<10+i<<10, ub)
		}
	}
}

func tool(name string, args ...string) func(*testing.T, string) {
	return func(t *testing.T, p string) { run(t, name, append(slices.Clone(args), p)...) }
}

// Every kind of content, on the whole disk: after Wipe neither wipefs nor blkid nor mdadm recognize anything,
// and nothing outside 512-byte sectors that held a signature has changed.
func TestWipeWholeDisk(t *testing.T) {
	tests := []struct {
		name  string
		write func(*testing.T, string)
		want  string // among what Wipe says it cleared
	}{
		{"ext4", tool("mkfs.ext4", "-q"), "ext2/3/4 superblock at offset 1024"},
		{"xfs", func(t *testing.T, p string) { run(t, "truncate", "-s", "320M", p); run(t, "mkfs.xfs", "-q", p) }, "XFS superblock at offset 0"},
		{"btrfs", func(t *testing.T, p string) { run(t, "truncate", "-s", "128M", p); run(t, "mkfs.btrfs", "-q", p) }, "btrfs superblock at offset 67108864"},
		{"fat12", tool("mkfs.fat", "-F", "12", "-s", "64"), "FAT boot sector at offset 0"},
		{"fat16", tool("mkfs.fat", "-F", "16"), "FAT boot sector at offset 0"},
		{"fat32", tool("mkfs.fat", "-F", "32"), "FAT boot sector at offset 0"},
		{"swap", tool("mkswap"), "swap header at offset 3584"},
		{"swap with pages of 64 KiB", tool("mkswap", "-p", "65536"), "swap header at offset 65024"},
		{"hibernated", func(t *testing.T, p string) { run(t, "mkswap", p); filetest.Write(t, p, 4086, []byte("S1SUSPEND\x00")) }, "hibernated system at offset 3584"},
		{"luks1", luks("luks1"), "LUKS header at offset 0"},
		{"luks2", luks("luks2"), "second LUKS header at offset 16384"},
		{"lvm", pvcreate, "LVM physical volume at offset 512"},
		{"md 0.90", md("0.90"), "md 0.90 superblock at offset 67043328"},
		{"md 1.0", md("1.0"), "md 1.0 superblock at offset 67100672"},
		{"md 1.1", md("1.1"), "md 1.1 superblock at offset 0"},
		{"md 1.2", md("1.2"), "md 1.2 superblock at offset 4096"},
		{"zfs", zfs, "ZFS label 3 at offset"},
		{"f2fs", tool("mkfs.f2fs", "-q"), "F2FS superblock at offset 5120"},
		{"nilfs2", big("mkfs.nilfs2", "-q"), "NILFS2 superblock at offset 1024"},
		{"jfs", tool("mkfs.jfs", "-q"), "JFS superblock at offset 32768"},
		{"reiserfs", tool("mkreiserfs", "-q", "-ff"), "reiserfs superblock at offset 65536"},
		{"exfat", tool("mkfs.exfat"), "exFAT boot sector at offset 0"},
		{"ntfs", tool("mkfs.ntfs", "-q", "-F", "-f"), "NTFS boot sector at offset 0"},
		{"udf", tool("mkudffs", "-b", "512"), "UDF descriptor at offset 32768"},
		{"squashfs", files("mksquashfs", "-noappend", "-quiet"), "squashfs superblock at offset 0"},
		{"erofs", files("mkfs.erofs"), "EROFS superblock at offset 1024"},
		{"bcache", func(t *testing.T, p string) { run(t, "make-bcache", "-B", p) }, "bcache at offset 4096"},
		{"dm-verity", func(t *testing.T, p string) { run(t, "veritysetup", "format", sparse(t, mib), p) }, "dm-verity superblock at offset 0"},
		{"dm-integrity", func(t *testing.T, p string) {
			run(t, "truncate", "-s", "64M", p)
			filetest.Write(t, p, 0, []byte("integrt\x00\x04"))
		}, "dm-integrity superblock at offset 0"},
		{"sun", label("sun"), "Sun disk label at offset 0"},
		{"mac", label("mac"), "Apple partition map at offset 512"},
		{"sgi", func(t *testing.T, p string) { run(t, "sh", "-c", "echo 'label: sgi' | sfdisk -q "+p) }, "SGI disk label at offset 0"},
		{"gpt", tool("sgdisk", "-n", "1:0:0"), "backup GPT at offset 67108352"},
		{"mbr", func(t *testing.T, p string) { run(t, "sh", "-c", "echo 'start=2048, type=83' | sfdisk -q "+p) }, "MBR at offset 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := sparse(t, 64*mib)
			tt.write(t, p)
			before, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			if run(t, "wipefs", "-n", p) == "" {
				t.Fatal("wipefs sees nothing to begin with")
			}
			cleared := wipe(t, p)
			if !strings.Contains(strings.Join(cleared, "\n"), tt.want) {
				t.Errorf("cleared %q, want %q among it", cleared, tt.want)
			}
			checkClean(t, p)
			checkUntouched(t, p, before, tt.name == "zfs")
		})
	}
}

// label makes a partition table of those that only parted knows.
func label(kind string) func(*testing.T, string) {
	return func(t *testing.T, p string) { run(t, "parted", "-s", p, "mklabel", kind) }
}

// big is tool for file systems that do not fit on the common disk.
func big(name string, args ...string) func(*testing.T, string) {
	return func(t *testing.T, p string) {
		run(t, "truncate", "-s", "256M", p)
		run(t, name, append(slices.Clone(args), p)...)
	}
}

// files puts a read-only file system, which a tool makes of a directory, at the start of the disk.
func files(name string, args ...string) func(*testing.T, string) {
	return func(t *testing.T, p string) {
		dir, out := t.TempDir(), p+".image"
		if err := os.WriteFile(dir+"/file", []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
		if name == "mkfs.erofs" {
			run(t, name, append(slices.Clone(args), out, dir)...)
		} else {
			run(t, name, append([]string{dir, out}, args...)...)
		}
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		filetest.Write(t, p, 0, b)
	}
}

func luks(kind string) func(*testing.T, string) {
	return func(t *testing.T, p string) {
		run(t, "sh", "-c", "echo secret | cryptsetup luksFormat -q --force-password --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --type "+kind+" "+p+" -")
	}
}

func pvcreate(t *testing.T, p string) {
	dev := loop(t, p)
	run(t, "pvcreate", "-q", "--devices", dev, dev)
	run(t, "sync")
}

func wipe(t *testing.T, p string) []string {
	t.Helper()
	d, err := Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	cleared, err := WipeKeeping(context.Background(), d, nil)
	if err != nil {
		t.Fatal(err)
	}
	return cleared
}

// checkClean asks the foreign tools.
func checkClean(t *testing.T, p string) {
	t.Helper()
	if out := run(t, "wipefs", "-n", p); out != "" {
		t.Errorf("wipefs still sees:\n%s", out)
	}
	if out, err := try("blkid", "-p", p); err == nil {
		t.Errorf("blkid still sees %s", out)
	}
	if out, err := try("mdadm", "--examine", p); err == nil && !strings.Contains(out, "No md superblock") {
		t.Errorf("mdadm still sees %s", out)
	}
	if out, _ := try("sgdisk", "-p", p); strings.Contains(out, "backup") || !strings.Contains(out, "Creating new GPT") {
		t.Errorf("sgdisk still sees %s", out)
	}
	if again := wipe(t, p); len(again) > 0 {
		t.Errorf("a second WipeKeeping found %q", again)
	}
}

// checkUntouched compares with the content before: what differs must have become zero, and be little.
func checkUntouched(t *testing.T, p string, before []byte, labels bool) {
	t.Helper()
	after, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	sectors := 0
	for i := 0; i < len(before); i += 512 {
		if bytes.Equal(before[i:i+512], after[i:i+512]) {
			continue
		}
		sectors++
		if len(bytes.Trim(after[i:i+512], "\x00")) > 0 {
			t.Errorf("sector %d has changed and is not zero", i/512)
		}
	}
	if limit := 16; sectors == 0 || (sectors > limit && !labels) {
		t.Errorf("%d sectors changed", sectors)
	}
}

// Content inside the partitions of GPT and MBR (logical ones too) is found through the old tables.
func TestWipePartitions(t *testing.T) {
	for name, table := range map[string]string{
		"gpt": "label: gpt\nstart=2048,size=40960\nstart=43008,size=40960\n",
		"mbr": "label: dos\nstart=2048,size=40960,type=83\nstart=43008,size=81920,type=5\nstart=45056,size=20480,type=83\nstart=67584,size=20480,type=83\n",
	} {
		t.Run(name, func(t *testing.T) {
			p := sparse(t, 64*mib)
			run(t, "sh", "-c", "printf '"+strings.ReplaceAll(table, "\n", `\n`)+"' | sfdisk -q "+p)
			offs := []int64{2048 * 512, 43008 * 512}
			if name == "mbr" {
				offs = []int64{2048 * 512, 45056 * 512, 67584 * 512}
			}
			for _, off := range offs {
				ext := sparse(t, 8*mib)
				run(t, "mkfs.ext4", "-q", ext)
				b, err := os.ReadFile(ext)
				if err != nil {
					t.Fatal(err)
				}
				filetest.Write(t, p, off, b)
			}
			cleared := strings.Join(wipe(t, p), "\n")
			if n := strings.Count(cleared, "ext2/3/4"); n != len(offs) {
				t.Errorf("cleared %d file systems of %d:\n%s", n, len(offs), cleared)
			}
			checkClean(t, p)
			for _, off := range offs {
				if out, err := try("blkid", "-p", "-O", strconv.FormatInt(off, 10), p); err == nil {
					t.Errorf("blkid still sees %s", out)
				}
			}
		})
	}
}

// The disk was larger in its former life, or the image smaller than the disk: the backup is where the primary says.
func TestWipeBackupThatIsNotAtTheEnd(t *testing.T) {
	p := sparse(t, 32*mib)
	run(t, "sgdisk", "-n", "1:0:0", p)
	run(t, "truncate", "-s", "64M", p)
	cleared := strings.Join(wipe(t, p), "\n")
	if !strings.Contains(cleared, "backup GPT at offset 33553920") {
		t.Errorf("cleared %s", cleared)
	}
	checkClean(t, p)
	b, _ := os.ReadFile(p)
	if bytes.Contains(b, []byte("EFI PART")) {
		t.Error("a GPT header is left")
	}
}

// The start of the disk was overwritten, as by the image of a bare file system: the backup at the end is all that is left, and
// some firmware and tools restore the old table from it.
func TestWipeBackupAlone(t *testing.T) {
	for _, args := range [][]string{nil, {"-b", "4096"}} {
		p := sparse(t, 64*mib)
		dev := loop(t, p, args...)
		run(t, "sgdisk", "-n", "1:0:0", dev)
		filetest.Write(t, dev, 0, make([]byte, mib))
		run(t, "sync", dev)
		if cleared := strings.Join(wipe(t, dev), "\n"); !strings.Contains(cleared, "backup GPT") {
			t.Errorf("%q: cleared %s", args, cleared)
		}
		run(t, "sync", dev)
		if b, _ := os.ReadFile(p); bytes.Contains(b, []byte("EFI PART")) {
			t.Errorf("%q: a GPT header is left", args)
		}
	}
}

func TestWipe4096(t *testing.T) {
	file := sparse(t, 64*mib)
	dev := loop(t, file, "-b", "4096")
	run(t, "sgdisk", "-n", "1:0:0", dev)
	cleared := wipe(t, dev)
	if len(cleared) != 3 {
		t.Errorf("cleared %q, want MBR and two GPTs", cleared)
	}
	if out := run(t, "wipefs", "-n", dev); out != "" {
		t.Error(out)
	}
	if b, _ := os.ReadFile(file); bytes.Contains(b, []byte("EFI PART")) {
		t.Error("a GPT header is left")
	}
}

// Every magic string of the list is found in every place where it may stand, also those of systems whose tools are not here.
func TestWipeEverySignature(t *testing.T) {
	const size = 8 * mib
	for _, s := range signatures {
		for _, off := range s.at(size) {
			if off+s.clear > size {
				continue // only on larger disks
			}
			p := sparse(t, size)
			filetest.Write(t, p, off+s.magicOff, []byte(s.magic))
			if cleared := wipe(t, p); len(cleared) == 0 {
				t.Errorf("%s at %d was not found", s.name, off)
			}
			if b, _ := os.ReadFile(p); len(bytes.Trim(b, "\x00")) > 0 {
				t.Errorf("%s at %d was not cleared", s.name, off)
			}
		}
	}
}

func TestWipeLeavesDataAlone(t *testing.T) {
	p := sparse(t, 4*mib)
	data := bytes.Repeat([]byte{0xa5}, 4*mib)
	filetest.Write(t, p, 0, data)
	if cleared := wipe(t, p); len(cleared) > 0 {
		t.Errorf("cleared %q", cleared)
	}
	if b, _ := os.ReadFile(p); !bytes.Equal(b, data) {
		t.Error("data has changed")
	}
}

// Whatever a disk holds, Wipe ends, and there is less for a second one.
func FuzzWipe(f *testing.F) {
	gpt := make([]byte, 64<<10)
	copy(gpt[512:], "EFI PART")
	binary.LittleEndian.PutUint64(gpt[512+32:], 100)
	binary.LittleEndian.PutUint64(gpt[512+72:], 2)
	binary.LittleEndian.PutUint32(gpt[512+80:], 128)
	binary.LittleEndian.PutUint32(gpt[512+84:], 128)
	ebr := make([]byte, 64<<10)
	copy(ebr[446:], []byte{0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0})
	ebr[510], ebr[511], ebr[1022], ebr[1023] = 0x55, 0xaa, 0x55, 0xaa
	copy(ebr[512+446+16:], []byte{0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0})
	for _, b := range [][]byte{nil, gpt, ebr, bytes.Repeat([]byte{0xff}, 8192)} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<20 {
			return
		}
		// In memory: a real file's fsync would take a hundred times as long.
		fd, err := unix.MemfdCreate("disk", 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		p := fmt.Sprintf("/proc/self/fd/%d", fd)
		filetest.Write(t, p, 0, b)
		before := wipe(t, p)
		if after := wipe(t, p); len(before) > 0 && len(after) >= len(before) {
			t.Fatalf("the first Wipe cleared %q, the second %q", before, after)
		}
	})
}
