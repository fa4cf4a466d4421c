package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swarmboot/internal/cli"
	"swarmboot/internal/filetest"
	"swarmboot/internal/looptest"
)

// sectorDisk makes a disk of 120 MiB with sectors of so many bytes, as the foreign tools make it: an EFI system partition, swap, and a root of
// ext4 with blocks of so many bytes. It returns the file.
func sectorDisk(t *testing.T, label string, sector, block int) string {
	t.Helper()
	work, tree := t.TempDir(), t.TempDir()
	file := sparse(t, 120*mib)
	dev := looptest.Attach(t, file, "-b", fmt.Sprint(sector))
	esp := map[string]string{"gpt": "U", "dos": "ef"}[label]
	writeFiles(t, work, map[string]string{
		"script":   "label: " + label + "\nstart=1MiB, size=40MiB, type=" + esp + "\nstart=41MiB, size=8MiB, type=S\nstart=49MiB, size=64MiB, type=L\n",
		"grub.cfg": "search.fs_uuid " + rootID + " root\n", "a long name.efi": strings.Repeat("loader\n", 9000)})
	tool(t, "sh", "-c", "sfdisk -q --no-reread --no-tell-kernel "+dev+" <"+filepath.Join(work, "script"))
	part := func(n string) string { return filepath.Join(work, n+".fs") }
	for n, size := range map[string]int{"esp": 40, "swap": 8, "root": 64} {
		tool(t, "truncate", "-s", fmt.Sprintf("%dM", size), part(n))
	}
	tool(t, "mkfs.fat", "-F", "16", "-S", fmt.Sprint(sector), "-s", fmt.Sprint(max(1, 2048/sector)), "-n", "ESP", part("esp"))
	tool(t, "mmd", "-i", part("esp"), "::EFI", "::EFI/debian")
	for _, n := range []string{"grub.cfg", "a long name.efi"} {
		tool(t, "mcopy", "-i", part("esp"), filepath.Join(work, n), "::EFI/debian/"+n)
	}
	tool(t, "mkswap", "-q", part("swap"))
	writeFiles(t, tree, map[string]string{"usr/bin/sh": "", "etc/hostname": rootID + "\n", "large": strings.Repeat("content\n", 500000)})
	tool(t, "mkfs.ext4", "-q", "-b", fmt.Sprint(block), "-U", rootID, "-d", tree, part("root"))
	for n, at := range map[string]int{"esp": 1, "swap": 41, "root": 49} {
		tool(t, "dd", "if="+part(n), "of="+dev, "bs=1M", fmt.Sprintf("seek=%d", at), "conv=notrunc,fsync", "status=none")
	}
	return file
}

// imageOf has swarmboot make the image name of a disk.
func imageOf(t *testing.T, program, dir, name, disk string, args ...string) {
	t.Helper()
	tool(t, program, append(append([]string{"image", "create"}, args...), disk, filepath.Join(dir, name))...)
}

// swarmbootProgram is the server's program, built once for all tests.
func swarmbootProgram(t *testing.T) string {
	t.Helper()
	program := filepath.Join(os.Getenv(workVariable), "swarmboot")
	if _, err := os.Stat(program); err != nil {
		tool(t, "go", "build", "-o", program, "swarmboot/cmds/swarmboot")
	}
	return program
}

// TestOtherSectorSize: without a layout too an image of one logical sector size goes to a disk of the other: the GPT counts in the disk's
// sectors, the EFI system partition is a FAT made for them with the same files, and the rest is as it was.
func TestOtherSectorSize(t *testing.T) {
	program, dir := swarmbootProgram(t), t.TempDir()
	s := &testServer{URL: wholeServer(t, dir)}
	for _, tt := range []struct{ from, to int }{{512, 4096}, {4096, 512}} {
		name := fmt.Sprintf("from%d", tt.from)
		source := sectorDisk(t, "gpt", tt.from, 4096)
		imageOf(t, program, dir, name, looptest.Attach(t, source, "-b", fmt.Sprint(tt.from), "-r"), "--root", "3")
		deployed := looptest.Attach(t, sparse(t, 160*mib), "-b", fmt.Sprint(tt.to))
		p := start(t, s, deployed, "--image", name, "--node", "n", "--verify", "readback", "--grow", "none")
		if c := p.code(); c != cli.CodeDone {
			t.Fatalf("%s: code %d\n%s", name, c, p.err.String())
		}
		judgeSectors(t, source, deployed, tt.to)
		// The same without a server.
		written := looptest.Attach(t, sparse(t, 160*mib), "-b", fmt.Sprint(tt.to))
		tool(t, program, "image", "write", "--yes", "--grow", "none", "--verify", "readback", filepath.Join(dir, name), written)
		judgeSectors(t, source, written, tt.to)
	}
}

// judgeSectors has the foreign tools say what is on a disk that sectorDisk's image went to.
func judgeSectors(t *testing.T, source, disk string, sector int) {
	t.Helper()
	if out := tool(t, "sgdisk", "-v", disk); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
	if out := tool(t, "sfdisk", "--verify", disk); !strings.Contains(out, "No errors detected") {
		t.Error(out)
	}
	all := sfdisk(t, disk)
	starts := map[int64]bool{}
	for _, p := range all {
		starts[p.Start*int64(sector)] = true
	}
	if len(all) != 3 || !starts[mib] || !starts[41*mib] || !starts[49*mib] {
		t.Errorf("partitions %+v", all)
	}
	esp, was := filepath.Join(t.TempDir(), "esp"), fmt.Sprintf("%s@@%d", source, mib)
	tool(t, "dd", "if="+disk, "of="+esp, "bs=1M", "skip=1", "count=40", "status=none")
	tool(t, "fsck.fat", "-n", esp)
	if got := binary.LittleEndian.Uint16(filetest.Read(t, esp, 11, 2)); int(got) != sector {
		t.Errorf("the FAT has sectors of %d bytes, want %d", got, sector)
	}
	for _, name := range []string{"::EFI/debian/grub.cfg", "::EFI/debian/a long name.efi"} {
		now, before := filepath.Join(t.TempDir(), "now"), filepath.Join(t.TempDir(), "before")
		tool(t, "mcopy", "-n", "-i", esp, name, now)
		tool(t, "mcopy", "-n", "-i", was, name, before)
		if !bytes.Equal(readFile(t, now), readFile(t, before)) {
			t.Errorf("%s is another file now", name)
		}
	}
	if a, b := filetest.Read(t, disk, 41*mib, 72*mib), filetest.Read(t, source, 41*mib, 72*mib); !bytes.Equal(a, b) {
		t.Error("swap and root are not as they were")
	}
	tool(t, "e2fsck", "-fn", disk+fmt.Sprintf("?offset=%d", 49*mib))
}

// TestOtherSectorSizeRefused: what cannot be converted is refused with the reason, and the disk is as it was. That the blocks of an ext4 are
// too small stands in its superblock only, which is looked at before the first write.
func TestOtherSectorSizeRefused(t *testing.T) {
	program, dir := swarmbootProgram(t), t.TempDir()
	s := &testServer{URL: wholeServer(t, dir)}
	imageOf(t, program, dir, "blocks", sectorDisk(t, "gpt", 512, 1024), "--root", "3")
	imageOf(t, program, dir, "mbr", sectorDisk(t, "dos", 512, 4096), "--root", "3")
	bare := sparse(t, 64*mib)
	tool(t, "mkfs.ext4", "-q", bare)
	imageOf(t, program, dir, "bare", bare, "--root", "0")
	file := makeTarget(t, 160*mib)
	disk := looptest.Attach(t, file, "-b", "4096")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, reason := range map[string]string{
		"blocks": "was made with blocks of 1024 bytes and cannot be mounted on a disk with sectors of 4096",
		"mbr":    "the image has an MBR, made for sectors of 512 bytes",
		"bare":   "the image is a bare file system made on sectors of 512 bytes",
	} {
		for _, plan := range []bool{false, true} {
			args := []string{"--image", name, "--node", "n"}
			if plan {
				args = append(args, "--plan")
			}
			p := start(t, s, disk, args...)
			if c := p.code(); c != cli.CodeDisk || !strings.Contains(p.err.String(), reason) || !strings.Contains(p.err.String(), disk) {
				t.Errorf("%s: code %d\n%s", name, c, p.err.String())
			}
		}
		if after := readFile(t, file); !bytes.Equal(before, after) {
			t.Fatalf("%s: the disk was written to", name)
		}
	}
}
