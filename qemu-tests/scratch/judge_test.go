package scratch

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swarmboot/qemu-tests/lab"
	"swarmboot/qemu-tests/scenario"
)

// makeImage makes an image of a disk with sectors of 512 bytes: an EFI system partition with files, and a root.
func makeImage(t *testing.T, files *scenario.Files, dir string) {
	t.Helper()
	work := t.TempDir()
	tree := filepath.Join(work, "tree")
	for _, d := range []string{"etc", "usr/bin"} {
		if err := os.MkdirAll(filepath.Join(tree, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"etc/fstab": "", "usr/bin/sh": ""} {
		if err := os.WriteFile(filepath.Join(tree, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	disk, esp, root := filepath.Join(work, "disk"), filepath.Join(work, "esp"), filepath.Join(work, "root")
	for path, size := range map[string]int64{disk: 320 * mib, esp: 270 * mib, root: 40 * mib} {
		tool(t, "truncate", "-s", fmt.Sprint(size), path)
	}
	tool(t, "mkfs.fat", "-F", "32", "-n", "OLD ESP", esp)
	tool(t, "mmd", "-i", esp, "::EFI")
	tool(t, "mcopy", "-i", esp, "/bin/sh", "::EFI/a file from before.efi")
	tool(t, "mkfs.ext4", "-q", "-d", tree, root)
	tool(t, "sgdisk", "--clear", "--new=1:1M:+270M", "--typecode=1:ef00", "--new=2:271M:+40M", "--typecode=2:8304", disk)
	tool(t, "dd", "if="+esp, "of="+disk, "bs=1M", "seek=1", "conv=notrunc,sparse", "status=none")
	tool(t, "dd", "if="+root, "of="+disk, "bs=1M", "seek=271", "conv=notrunc,sparse", "status=none")
	tool(t, files.Program("swarmboot"), "image", "create", "--root", "2", "--cmdline", "root=/dev/vda2", disk, filepath.Join(dir, scenario.ImageName))
}

// attach makes a loop device for the time of the test.
func attach(t *testing.T, file string, args ...string) (device string) {
	t.Helper()
	device, err := lab.AttachLoop(t.Context(), file, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.DetachLoop(device); err != nil {
			t.Error(err)
		}
	})
	return device
}

// judge has the tools of the table and of each file system look at a disk; said is the room that the kernel found, by the name of the partition.
func judge(t *testing.T, disk string, sector int, said map[string]string) {
	t.Helper()
	// Only of a block device can sgdisk and sfdisk be told its sector size.
	dev := attach(t, disk, "--sector-size", fmt.Sprint(sector))
	if out := tool(t, "sgdisk", "--verify", dev); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
	tool(t, "sfdisk", "--verify", dev)
	var table struct {
		PartitionTable struct {
			Partitions []struct {
				Name        string
				Start, Size int64
			}
		}
	}
	if err := json.Unmarshal([]byte(tool(t, "sfdisk", "--json", dev)), &table); err != nil {
		t.Fatal(err)
	}
	for _, p := range table.PartitionTable.Partitions {
		if p.Start*int64(sector)%mib != 0 {
			t.Errorf("%s begins at %d", p.Name, p.Start*int64(sector))
		}
		if p.Name != "root" {
			judgePartition(t, disk, p.Name, p.Start*int64(sector), p.Size*int64(sector), sector, said[p.Name])
		}
	}
}

// judgePartition looks at one, through a loop device of its own.
func judgePartition(t *testing.T, disk, name string, off, size int64, sector int, said string) {
	t.Helper()
	part := attach(t, disk, "--sector-size", fmt.Sprint(sector), "--offset", fmt.Sprint(off), "--sizelimit", fmt.Sprint(size))
	kind, _, _ := strings.Cut(name, "-")
	label := "SCRATCH"
	switch kind {
	case "ext4":
		tool(t, "e2fsck", "-fn", part)
	case "xfs":
		tool(t, "xfs_repair", "-n", part)
	case "vfat", "esp":
		if out := tool(t, "fsck.fat", "-n", "-v", part); !strings.Contains(out, fmt.Sprintf("%d bytes per logical sector", sector)) {
			t.Errorf("%s: %s", name, out)
		}
	}
	if kind == "esp" {
		label = "OLD ESP"
		sum := func(s string) string { return strings.Fields(s)[0] }
		file := filepath.Join(t.TempDir(), "esp")
		tool(t, "dd", "if="+part, "of="+file, "bs=1M", "conv=sparse", "status=none")
		old, now := tool(t, "sha256sum", "/bin/sh"), tool(t, "sh", "-c", `mtype -i "$0" "::EFI/a file from before.efi" | sha256sum`, file)
		if sum(old) != sum(now) {
			t.Errorf("%s: the file from before had %s, now %s", name, old, now)
		}
	}
	if got := tool(t, "blkid", "-p", "-o", "value", "-s", "LABEL", part); got != label {
		t.Errorf("%s: the label is %q, want %q", name, got, label)
	}
	var room int64
	if _, err := fmt.Sscan(said, &room); err != nil || room > size || room < size-size/20-4*mib {
		t.Errorf("%s: of %d bytes the node said %q", name, size, said)
	}
}
