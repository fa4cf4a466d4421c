package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swarmboot/internal/cli"
)

// probed is what blkid says of a file system, or sfdisk of a table.
func probed(t *testing.T, disk string, offset int64) string {
	t.Helper()
	return strings.TrimSpace(tool(t, "blkid", "-p", "-O", fmt.Sprint(offset), "-s", "UUID", "-o", "value", disk))
}

// TestNewUUIDs deploys a disk with an EFI system partition, swap, XFS and a root that names all of them, to two nodes, and to one of them
// again: the same node has the same UUIDs, another one others; the tools of the file systems find nothing wrong, and the new
// UUIDs stand where the old ones stood.
func TestNewUUIDs(t *testing.T) {
	for _, label := range []string{"gpt", "dos"} {
		t.Run(label, func(t *testing.T) { newUUIDs(t, label) })
	}
}

func newUUIDs(t *testing.T, label string) {
	dir, work := t.TempDir(), t.TempDir()
	const size = 424 * mib
	off := map[string]int64{"esp": 1 * mib, "swap": 41 * mib, "xfs": 49 * mib, "root": 379 * mib}
	length := map[string]int64{"esp": 40 * mib, "swap": 8 * mib, "xfs": 330 * mib, "root": 40 * mib}
	order := []string{"esp", "swap", "xfs", "root"}
	disk := sparse(t, size)
	script := "label: " + label + "\n"
	for _, n := range order {
		script += fmt.Sprintf("start=%dMiB, size=%dMiB\n", off[n]/mib, length[n]/mib)
	}
	writeFiles(t, work, map[string]string{"script": script})
	tool(t, "sh", "-c", "sfdisk -q "+disk+" <"+filepath.Join(work, "script"))
	part := func(n string) string { return filepath.Join(work, n+".fs") }
	for _, n := range order {
		tool(t, "truncate", "-s", fmt.Sprint(length[n]), part(n))
	}
	// A kernel without a driver for vfat cannot be asked to change files there: qemu-tests/hooks does so on a node.
	filesystems, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		t.Fatal(err)
	}
	vfat := strings.Contains(string(filesystems), "\tvfat\n")
	if vfat {
		tool(t, "mkfs.fat", "-F", "32", "-s", "1", part("esp"))
	} else {
		tool(t, "mkswap", "-q", part("esp"))
	}
	tool(t, "mkswap", "-q", part("swap"))
	tool(t, "mkfs.xfs", "-q", part("xfs"))
	old := map[string]string{}
	for _, n := range order[:3] {
		old[n] = probed(t, part(n), 0)
	}
	rootID := "7e27bf6b-ca08-4e70-b15a-2b1e64a36e4b"
	partID := partUUIDs(t, disk)
	grub := fmt.Sprintf("search --fs-uuid --set=root %s\nlinux /vmlinuz root=PARTUUID=%s resume=UUID=%s\n", rootID, partID[3], old["swap"])
	fstab := fmt.Sprintf("UUID=%s / ext4 defaults 0 1\nUUID=%s /boot/efi vfat defaults 0 2\nUUID=%s none swap sw 0 0\nUUID=%s /data xfs defaults 0 0\nPARTUUID=%s /x ext4 noauto 0 0\n",
		rootID, old["esp"], old["swap"], old["xfs"], partID[2])
	tree := t.TempDir()
	writeFiles(t, tree, map[string]string{"usr/bin/sh": "", "etc/fstab": fstab, "boot/grub/grub.cfg": grub, "etc/hostname": rootID + "\n"})
	tool(t, "mkfs.ext4", "-q", "-O", "^metadata_csum_seed", "-U", rootID, "-d", tree, part("root"))
	writeFiles(t, work, map[string]string{"grub.cfg": "search.fs_uuid " + rootID + " root\n"})
	if vfat {
		tool(t, "mmd", "-i", part("esp"), "::EFI", "::EFI/debian")
		tool(t, "mcopy", "-i", part("esp"), filepath.Join(work, "grub.cfg"), "::EFI/debian/grub.cfg")
	}
	for _, n := range order {
		tool(t, "dd", "if="+part(n), "of="+disk, "bs=1M", fmt.Sprintf("seek=%d", off[n]/mib), "conv=notrunc,sparse", "status=none")
	}
	tool(t, "go", "build", "-o", filepath.Join(work, "swarmboot"), "swarmboot/cmds/swarmboot")
	tool(t, filepath.Join(work, "swarmboot"), "image", "create", "--root", "4", "--cmdline", "root=UUID="+rootID+" quiet", disk, filepath.Join(dir, "full"))
	writeFiles(t, dir, map[string]string{"profiles/default.yaml": "newUUIDs: true\n", "profiles/same.yaml": "newUUIDs: false\n"})
	s := &testServer{URL: wholeServer(t, dir)}

	deployed := func(node string) (string, map[string]string, []string) {
		t.Helper()
		target := sparse(t, size)
		p := start(t, s, target, "--image", "full", "--node", node)
		if c := p.code(); c != cli.CodeDone {
			t.Fatalf("code %d\n%s", c, p.err.String())
		}
		fresh := map[string]string{}
		for _, n := range order {
			fresh[n] = probed(t, target, off[n])
		}
		return target, fresh, partUUIDs(t, target)
	}
	target, fresh, parts := deployed("one")
	for i, n := range order {
		if kept := n == "xfs"; (fresh[n] == old[n]) != kept && n != "root" || fresh["root"] == rootID {
			t.Errorf("%s has %s, and had %s", n, fresh[n], old[n])
		}
		if parts[i] == partID[i] {
			t.Errorf("partition %d has %s as before", i+1, parts[i])
		}
	}
	change := strings.NewReplacer(rootID, fresh["root"], old["esp"], fresh["esp"], old["swap"], fresh["swap"], partID[2], parts[2], partID[3], parts[3]).Replace
	for name, want := range map[string]string{"/etc/fstab": change(fstab), "/boot/grub/grub.cfg": change(grub), "/etc/hostname": rootID + "\n"} {
		if got := inImage(t, target, off["root"], name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if vfat {
		out := filepath.Join(work, "out")
		tool(t, "mcopy", "-n", "-i", fmt.Sprintf("%s@@%d", target, off["esp"]), "::EFI/debian/grub.cfg", out)
		if b, err := os.ReadFile(out); err != nil || string(b) != "search.fs_uuid "+fresh["root"]+" root\n" {
			t.Errorf("grub.cfg on the EFI system partition: %q, %v", b, err)
		}
		tool(t, "dd", "if="+target, "of="+part("esp"), "bs=1M", "skip=1", "count=40", "status=none")
		tool(t, "fsck.fat", "-n", part("esp"))
	}
	tool(t, "e2fsck", "-fn", fmt.Sprintf("%s?offset=%d", target, off["root"]))
	tool(t, "sfdisk", "--verify", target)
	if n := nodeAt(t, s.URL, "one"); len(n.Warnings) != 1 || !strings.Contains(n.Warnings[0], "partition 3 keeps its UUID: XFS") {
		t.Errorf("warnings %q", n.Warnings)
	}

	_, again, partsAgain := deployed("one")
	_, other, partsOther := deployed("two")
	_, same, partsSame := deployed("same")
	for i, n := range order {
		if again[n] != fresh[n] || partsAgain[i] != parts[i] {
			t.Errorf("the second time %s has %s in %s, the first time %s in %s", n, again[n], partsAgain[i], fresh[n], parts[i])
		}
		if n != "xfs" && other[n] == fresh[n] || partsOther[i] == parts[i] {
			t.Errorf("two nodes have %s %s in %s", n, other[n], partsOther[i])
		}
		if partsSame[i] != partID[i] || n != "root" && same[n] != old[n] || same["root"] != rootID {
			t.Errorf("newUUIDs: false changed %s", n)
		}
	}
}

// partUUIDs are the PARTUUIDs of the partitions as blkid sees them in the table, in lower case.
func partUUIDs(t *testing.T, disk string) (ids []string) {
	t.Helper()
	dev := loop(t, disk)
	out := tool(t, "partx", "-g", "-o", "UUID", "-b", dev)
	for line := range strings.Lines(out) {
		ids = append(ids, strings.ToLower(strings.TrimSpace(line)))
	}
	if len(ids) != 4 {
		t.Fatalf("partx says %s", out)
	}
	return ids
}
