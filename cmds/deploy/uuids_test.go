package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/looptest"
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

// uuidDisk is a disk with four partitions and files that name them.
type uuidDisk struct {
	label, path, grub, fstab string
	vfat                     bool              // the first is one
	old                      map[string]string // UUIDs, by name of the partition
	parts                    []string          // PARTUUIDs
}

const (
	uuidSize = 424 * mib
	rootID   = "7e27bf6b-ca08-4e70-b15a-2b1e64a36e4b"
)

var (
	uuidOrder  = []string{"esp", "swap", "xfs", "root"}
	uuidOff    = map[string]int64{"esp": 1 * mib, "swap": 41 * mib, "xfs": 49 * mib, "root": 379 * mib}
	uuidLength = map[string]int64{"esp": 40 * mib, "swap": 8 * mib, "xfs": 330 * mib, "root": 40 * mib}
)

func makeUUIDDisk(t *testing.T, label string) *uuidDisk {
	t.Helper()
	work := t.TempDir()
	d := &uuidDisk{label: label, path: sparse(t, uuidSize), old: map[string]string{"root": rootID}}
	script := "label: " + label + "\n"
	for _, n := range uuidOrder {
		script += fmt.Sprintf("start=%dMiB, size=%dMiB\n", uuidOff[n]/mib, uuidLength[n]/mib)
	}
	writeFiles(t, work, map[string]string{"script": script})
	tool(t, "sh", "-c", "sfdisk -q "+d.path+" <"+filepath.Join(work, "script"))
	part := func(n string) string { return filepath.Join(work, n+".fs") }
	for _, n := range uuidOrder {
		tool(t, "truncate", "-s", fmt.Sprint(uuidLength[n]), part(n))
	}
	// A kernel without a driver for vfat cannot be asked to change files there: qemu-tests/hooks does so on a node.
	filesystems, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		t.Fatal(err)
	}
	if d.vfat = strings.Contains(string(filesystems), "\tvfat\n"); d.vfat {
		tool(t, "mkfs.fat", "-F", "32", "-s", "1", part("esp"))
		writeFiles(t, work, map[string]string{"grub.cfg": "search.fs_uuid " + rootID + " root\n"})
		tool(t, "mmd", "-i", part("esp"), "::EFI", "::EFI/debian")
		tool(t, "mcopy", "-i", part("esp"), filepath.Join(work, "grub.cfg"), "::EFI/debian/grub.cfg")
	} else {
		tool(t, "mkswap", "-q", part("esp"))
	}
	tool(t, "mkswap", "-q", part("swap"))
	tool(t, "mkfs.xfs", "-q", part("xfs"))
	for _, n := range uuidOrder[:3] {
		d.old[n] = probed(t, part(n), 0)
	}
	d.parts = partUUIDs(t, d.path)
	d.grub = fmt.Sprintf("search --fs-uuid --set=root %s\nlinux /vmlinuz root=PARTUUID=%s resume=UUID=%s\n", rootID, d.parts[3], d.old["swap"])
	d.fstab = fmt.Sprintf("UUID=%s / ext4 defaults 0 1\nUUID=%s /boot/efi vfat defaults 0 2\nUUID=%s none swap sw 0 0\nUUID=%s /data xfs defaults 0 0\nPARTUUID=%s /x ext4 noauto 0 0\n",
		rootID, d.old["esp"], d.old["swap"], d.old["xfs"], d.parts[2])
	tree := t.TempDir()
	writeFiles(t, tree, map[string]string{"usr/bin/sh": "", "etc/fstab": d.fstab, "boot/grub/grub.cfg": d.grub, "etc/hostname": rootID + "\n"})
	tool(t, "mkfs.ext4", "-q", "-O", "^metadata_csum_seed", "-U", rootID, "-d", tree, part("root"))
	for _, n := range uuidOrder {
		tool(t, "dd", "if="+part(n), "of="+d.path, "bs=1M", fmt.Sprintf("seek=%d", uuidOff[n]/mib), "conv=notrunc,sparse", "status=none")
	}
	return d
}

func newUUIDs(t *testing.T, label string) {
	d, dir := makeUUIDDisk(t, label), t.TempDir()
	program := swarmbootProgram(t)
	tool(t, program, "image", "create", "--root", "4", "--cmdline", "root=UUID="+rootID+" quiet", d.path, filepath.Join(dir, "full"))
	writeFiles(t, dir, map[string]string{"profiles/default.yaml": "newUUIDs: true\n", "profiles/same.yaml": "newUUIDs: false\n"})
	s := &testServer{URL: wholeServer(t, dir)}
	deployed := func(node string) (string, map[string]string, []string) {
		t.Helper()
		target := sparse(t, uuidSize)
		p := start(t, s, target, "--image", "full", "--node", node)
		if c := p.code(); c != cli.CodeDone {
			t.Fatalf("code %d\n%s", c, p.err.String())
		}
		fresh := map[string]string{}
		for _, n := range uuidOrder {
			fresh[n] = probed(t, target, uuidOff[n])
		}
		return target, fresh, partUUIDs(t, target)
	}
	target, fresh, parts := deployed("one")
	d.judge(t, target, fresh, parts)
	if n := nodeAt(t, s.URL, "one"); len(n.Warnings) > 0 {
		t.Errorf("warnings %q", n.Warnings)
	}
	_, again, partsAgain := deployed("one")
	_, other, partsOther := deployed("two")
	_, same, partsSame := deployed("same")
	for i, n := range uuidOrder {
		if again[n] != fresh[n] || partsAgain[i] != parts[i] {
			t.Errorf("the second time %s has %s in %s, the first time %s in %s", n, again[n], partsAgain[i], fresh[n], parts[i])
		}
		if other[n] == fresh[n] || partsOther[i] == parts[i] {
			t.Errorf("two nodes have %s %s in %s", n, other[n], partsOther[i])
		}
		if partsSame[i] != d.parts[i] || same[n] != d.old[n] {
			t.Errorf("newUUIDs: false changed %s", n)
		}
	}
}

// TestNewUUIDsWithLayout: a layout that moves the image's partitions, and gives one a PARTUUID of its own, goes together with new UUIDs: all
// names lead somewhere.
func TestNewUUIDsWithLayout(t *testing.T) {
	const given = "0badcafe-0000-4000-8000-0000000000aa"
	d, dir, file := makeUUIDDisk(t, "gpt"), t.TempDir(), sparse(t, 2*uuidSize)
	imageOf(t, swarmbootProgram(t), dir, "full", d.path, "--root", "4", "--cmdline", "root=PARTUUID="+d.parts[3]+" quiet")
	writeFiles(t, dir, map[string]string{"profiles/default.yaml": "newUUIDs: true\n", "layouts/other.yaml": fmt.Sprintf(`candidates:
  - name: one
    disks:
      - name: os
        select: %s
        partitions:
          - {name: root, image: 4, uuid: %s}
          - {name: xfs, image: 3, mount: /srv}
          - {name: esp, image: 1, type: esp}
          - {name: swap, image: 2}
`, file, given)})
	s := &testServer{URL: wholeServer(t, dir)}
	p := startLayout(t, s, "other", "--image", "full", "--node", "one")
	if c := p.code(); c != cli.CodeDone {
		t.Fatalf("code %d\n%s", c, p.err.String())
	}
	fresh, parts := map[string]string{}, map[string]string{}
	var root int64
	for id, part := range sfdisk(t, file) {
		fresh[part.Name], parts[part.Name] = probed(t, file, part.Start*512), strings.ToLower(id)
		if part.Name == "root" {
			root = part.Start * 512
		}
	}
	for _, n := range uuidOrder {
		if fresh[n] == "" || fresh[n] == d.old[n] {
			t.Errorf("%s has the UUID %q, and had %q", n, fresh[n], d.old[n])
		}
	}
	if parts["root"] != given || parts["xfs"] == d.parts[2] {
		t.Errorf("PARTUUIDs %v", parts)
	}
	change := strings.NewReplacer(rootID, fresh["root"], d.old["esp"], fresh["esp"], d.old["swap"], fresh["swap"], d.old["xfs"], fresh["xfs"], d.parts[2], parts["xfs"], d.parts[3], given).Replace
	if got := inImage(t, file, root, "/boot/grub/grub.cfg"); got != change(d.grub) {
		t.Errorf("grub.cfg: %q, want %q", got, change(d.grub))
	}
	fstab := inImage(t, file, root, "/etc/fstab")
	for line := range strings.Lines(change(d.fstab)) {
		if f := strings.Fields(line); f[1] != "none" && !strings.Contains(fstab, line) {
			t.Errorf("fstab has no line %q:\n%s", line, fstab)
		}
	}
	if !strings.Contains(fstab, "/srv") || strings.Contains(fstab, d.old["xfs"]) || strings.Contains(fstab, d.old["swap"]) {
		t.Errorf("fstab:\n%s", fstab)
	}
}

// judge compares what blkid found on a target with the disk, and reads the files that name it.
func (d *uuidDisk) judge(t *testing.T, target string, fresh map[string]string, parts []string) {
	t.Helper()
	for i, n := range uuidOrder {
		if fresh[n] == d.old[n] {
			t.Errorf("%s has %s, and had %s", n, fresh[n], d.old[n])
		}
		if parts[i] == d.parts[i] {
			t.Errorf("partition %d has %s as before", i+1, parts[i])
		}
	}
	change := strings.NewReplacer(rootID, fresh["root"], d.old["esp"], fresh["esp"], d.old["swap"], fresh["swap"], d.old["xfs"], fresh["xfs"], d.parts[2], parts[2], d.parts[3], parts[3]).Replace
	for name, want := range map[string]string{"/etc/fstab": change(d.fstab), "/boot/grub/grub.cfg": change(d.grub), "/etc/hostname": rootID + "\n"} {
		if got := inImage(t, target, uuidOff["root"], name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	tool(t, "e2fsck", "-fn", fmt.Sprintf("%s?offset=%d", target, uuidOff["root"]))
	tool(t, "sfdisk", "--verify", target)
	attached(t, target, imagefmt.Partition{Start: uuidOff["xfs"], Length: uuidLength["xfs"]}, func(dev string) { tool(t, "timeout", "300", "xfs_repair", "-n", dev) })
	mounted(t, target, "xfs", imagefmt.Partition{Start: uuidOff["xfs"], Length: uuidLength["xfs"]}, func(string) {})
	if !d.vfat {
		return
	}
	work := t.TempDir()
	tool(t, "mcopy", "-n", "-i", fmt.Sprintf("%s@@%d", target, uuidOff["esp"]), "::EFI/debian/grub.cfg", filepath.Join(work, "grub.cfg"))
	if b, err := os.ReadFile(filepath.Join(work, "grub.cfg")); err != nil || string(b) != "search.fs_uuid "+fresh["root"]+" root\n" {
		t.Errorf("grub.cfg on the EFI system partition: %q, %v", b, err)
	}
	tool(t, "dd", "if="+target, "of="+filepath.Join(work, "esp"), "bs=1M", "skip=1", "count=40", "status=none")
	tool(t, "fsck.fat", "-n", filepath.Join(work, "esp"))
}

// partUUIDs are the PARTUUIDs of the partitions as blkid sees them in the table, in lower case.
func partUUIDs(t *testing.T, disk string) (ids []string) {
	t.Helper()
	dev := looptest.Attach(t, disk)
	out := tool(t, "partx", "-g", "-o", "UUID", "-b", dev)
	for line := range strings.Lines(out) {
		ids = append(ids, strings.ToLower(strings.TrimSpace(line)))
	}
	if len(ids) != 4 {
		t.Fatalf("partx says %s", out)
	}
	return ids
}
