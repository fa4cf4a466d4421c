// Package grow has the kernel of the nodes, in a virtual machine, grow file systems that the host's tools have made and then judge.
package grow

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"swarmboot/internal/target"
	"swarmboot/internal/tooltest"
	"swarmboot/qemu-tests/lab"
	"swarmboot/qemu-tests/scenario"
)

const mib = 1 << 20

// Each is made on from bytes, grown to to bytes less unused ones.
var fileSystems = []struct {
	name, mkfs string // mkfs "": our own scratch ext4
	from, to   int64
	unused     int64
	failure    string // what the kernel does not do is said with these words
}{
	{name: "ext4", mkfs: "mkfs.ext4 -q", from: 64 * mib, to: 1024 * mib},
	{name: "ext4-1k", mkfs: "mkfs.ext4 -q -b 1024", from: 32 * mib, to: 600 * mib},
	{name: "ext4-odd", mkfs: "mkfs.ext4 -q -b 4096", from: 64 * mib, to: 700*mib + 5*512, unused: 4095},
	{name: "ext4-tail", mkfs: "mkfs.ext4 -q -b 4096", from: 64 * mib, to: 256*mib + 4096, unused: 4096},
	{name: "ext4-32bit", mkfs: "mkfs.ext4 -q -O ^64bit,^metadata_csum", from: 64 * mib, to: 1024 * mib},
	{name: "ext4-meta-bg", mkfs: "mkfs.ext4 -q -O meta_bg,^resize_inode", from: 64 * mib, to: 1024 * mib},
	{name: "ext4-no-reserve", mkfs: "mkfs.ext4 -q -O ^resize_inode", from: 64 * mib, to: 64 << 30},
	{name: "ext4-no-journal", mkfs: "mkfs.ext4 -q -O ^has_journal", from: 64 * mib, to: 1024 * mib},
	{name: "ext4-old", mkfs: "mkfs.ext4 -q -O ^flex_bg,^uninit_bg,^metadata_csum", from: 64 * mib, to: 1024 * mib},
	{name: "ext4-3t", mkfs: "mkfs.ext4 -q -i 1048576", from: 3072 * mib, to: 3 << 40},
	{name: "ext2", mkfs: "mkfs.ext2 -q", from: 64 * mib, to: 1024 * mib},
	{name: "ext3", mkfs: "mkfs.ext3 -q", from: 64 * mib, to: 1024 * mib},
	{name: "xfs", mkfs: "mkfs.xfs -q", from: 320 * mib, to: 2048 * mib},
	{name: "btrfs", mkfs: "mkfs.btrfs -q", from: 128 * mib, to: 2048 * mib},
	{name: "scratch-1g", from: 128 * mib, to: 1 << 30},
	{name: "scratch-1t", from: 1 << 30, to: 1<<40 + 512, unused: 512},
	{name: "errors", mkfs: "mkfs.ext4 -q", from: 64 * mib, to: 128 * mib, failure: "having errors"},
}

var tool = tooltest.Run

func TestGrowOnANode(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a virtual machine")
	}
	files, err := scenario.Find()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var disks []lab.Disk
	for _, f := range fileSystems {
		disks = append(disks, lab.Disk{Path: makeDisk(t, dir, f.name, f.mkfs, f.from, f.to), Format: "raw", Bus: "virtio", Serial: f.name})
	}
	said := runNode(t, files, dir, disks)
	for i, f := range fileSystems {
		t.Run(f.name, func(t *testing.T) {
			check(t, disks[i].Path)
			if f.failure != "" {
				if !strings.Contains(said[f.name], f.failure) {
					t.Errorf("the node said %q, want %q", said[f.name], f.failure)
				}
				return
			}
			var kind string
			var before, after int64
			if _, err := fmt.Sscan(said[f.name], &kind, &before, &after); err != nil {
				t.Fatalf("the node said %q", said[f.name])
			}
			if before > f.from || after > f.to || f.to-after > f.unused {
				t.Errorf("from %d to %d of %d bytes", before, after, f.to)
			}
			if got := sizeOf(t, disks[i].Path); got != after {
				t.Errorf("the node says %d bytes, the host's tool %d", after, got)
			}
		})
	}
}

// makeDisk makes a file system in a sparse file and then lengthens the file.
func makeDisk(t *testing.T, dir, name, mkfs string, from, to int64) string {
	t.Helper()
	path := filepath.Join(dir, name+".raw")
	tool(t, "truncate", "-s", fmt.Sprint(from), path)
	if mkfs == "" {
		makeScratch(t, path, name, from)
	} else {
		args := append(strings.Fields(mkfs), path)
		tool(t, args[0], args[1:]...)
	}
	if name == "errors" {
		tool(t, "debugfs", "-w", "-R", "ssv state 2", path)
	}
	tool(t, "truncate", "-s", fmt.Sprint(to), path)
	return path
}

// fresh is a new file: it is zero already.
type fresh struct{ *os.File }

func (fresh) Zero(context.Context, int64, int64) error { return nil }

func makeScratch(t *testing.T, path, label string, size int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := target.MakeExt4(t.Context(), fresh{f}, size, target.Ext4{Label: label}); err != nil {
		t.Fatal(err)
	}
}

// runNode boots a node with the disks, runs growall on it, and returns what that said of each disk.
func runNode(t *testing.T, files *scenario.Files, dir string, disks []lab.Disk) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	initrd := filepath.Join(dir, "initramfs")
	if err := lab.ExtendInitramfs(ctx, initrd, files.Initramfs, "growall"); err != nil {
		t.Fatal(err)
	}
	lines, err := lab.RunAtShell(ctx, lab.Machine{
		Name: "grow", MAC: "52:54:00:99:01:01", Memory: 512, NIC: "virtio-net-pci", Disks: disks,
		Kernel: files.Kernel, Initrd: initrd, Append: "console=ttyS0 swarmboot.action=shell",
	}, dir, "growall", "GROW")
	said := map[string]string{}
	for _, l := range lines {
		disk, text, _ := strings.Cut(l, " ")
		said[disk] = text
		t.Log(l)
	}
	if err != nil {
		t.Fatal(err)
	}
	return said
}

// check has the file system's own tool judge it.
func check(t *testing.T, path string) {
	t.Helper()
	switch name := filepath.Base(path); {
	case strings.HasPrefix(name, "xfs"):
		tool(t, "xfs_repair", "-n", path)
	case strings.HasPrefix(name, "btrfs"):
		tool(t, "btrfs", "check", "--readonly", path)
	default:
		tool(t, "e2fsck", "-fn", path)
	}
}

// sizeOf is what the file system's own tool says of its size in bytes.
func sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	number := func(s, pattern string) int64 {
		m := regexp.MustCompile(pattern).FindStringSubmatch(s)
		if m == nil {
			t.Fatalf("no %s in:\n%s", pattern, s)
		}
		var n int64
		fmt.Sscan(m[1], &n) //nolint:errcheck // digits
		return n
	}
	switch name := filepath.Base(path); {
	case strings.HasPrefix(name, "xfs"):
		s := tool(t, "xfs_db", "-r", "-c", "sb 0", "-c", "p dblocks blocksize", path)
		return number(s, `dblocks = (\d+)`) * number(s, `blocksize = (\d+)`)
	case strings.HasPrefix(name, "btrfs"):
		return number(tool(t, "btrfs", "inspect-internal", "dump-super", path), `total_bytes\s+(\d+)`)
	}
	s := tool(t, "dumpe2fs", "-h", path)
	return number(s, `Block count:\s+(\d+)`) * number(s, `Block size:\s+(\d+)`)
}
