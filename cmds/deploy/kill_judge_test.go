package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"swarmboot/internal/deploy/deploytest"
	"swarmboot/internal/filetest"
	"swarmboot/internal/looptest"
)

const killNode = "killed"

// layoutVictim keeps a partition of the disk, puts the image's beside it, and makes file systems.
func layoutVictim(t *testing.T) *victim {
	dir := t.TempDir()
	esp, sum := killSystem(t, dir)
	writeFiles(t, dir, map[string]string{"profiles/default.yaml": "hostname: " + killNode + "\nmachineID: reset\nssh: {hostKeys: generate}\n"})
	file := makeTarget(t, keptDisk)
	dev := looptest.Attach(t, file)
	layout := fmt.Sprintf(`{"candidates": [{"name": "one", "disks": [{"name": "disk", "select": [%q], "wipe": "zero", "partitions": [
		{"name": "esp", "image": "1"}, {"name": "swap", "size": "4M", "fs": "swap", "fsLabel": "sw"}, {"name": "data", "keep": "yes"},
		{"name": "root", "image": "2", "size": "42M", "grow": true}, {"name": "boot", "size": "rest", "fs": "vfat", "fsLabel": "NEW"}]}]}]}`, dev)
	v := &victim{name: "layout", disk: dev, args: []string{"--server", wholeServer(t, dir), "--layout", layoutFile(t, layout), "--image", "img", "--node", killNode}}
	var data []byte
	var before listed
	v.reset = func(t *testing.T) {
		t.Helper()
		data = oldDisk(t, dev)
		before = sfdisk(t, dev)
	}
	v.kept = func(t *testing.T, when string) {
		t.Helper()
		checkKept(t, when, dev, data, before)
	}
	v.listed = func(t *testing.T) bool { return listsImage(t, dev) }
	v.judge = func(t *testing.T, when string) {
		t.Helper()
		parts := byName(t, dev)
		if len(parts) != 5 {
			t.Fatalf("%s: the table is %+v", when, parts)
		}
		if !bytes.Equal(filetest.Read(t, dev, parts["esp"]*512, int64(len(esp))), esp) {
			t.Errorf("%s: the EFI system partition is another", when)
		}
		fstab := judgeRoot(t, when, dev, parts["root"]*512, sum)
		if !strings.Contains(fstab, " swap ") {
			t.Errorf("%s: fstab is %q", when, fstab)
		}
		for name, want := range map[string]string{"swap": `TYPE="swap"`, "boot": `LABEL="NEW"`} {
			if out := tool(t, "blkid", "-p", "-O", fmt.Sprint(parts[name]*512), dev); !strings.Contains(out, want) {
				t.Errorf("%s: blkid says of %s: %s", when, name, out)
			}
		}
	}
	return v
}

// diskVictim gives the whole disk to the image, with UUIDs of its own.
func diskVictim(t *testing.T) *victim {
	dir := t.TempDir()
	esp, sum := killSystem(t, dir)
	writeFiles(t, dir, map[string]string{"profiles/default.yaml": "hostname: " + killNode + "\nmachineID: reset\nssh: {hostKeys: generate}\nnewUUIDs: true\n"})
	const size = 60 * mib
	file := makeTarget(t, size)
	dev := looptest.Attach(t, file)
	v := &victim{name: "disk", disk: dev, args: []string{"--server", wholeServer(t, dir), "--disk", dev, "--image", "img", "--node", killNode}}
	v.reset = func(t *testing.T) {
		t.Helper()
		f, err := os.OpenFile(dev, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt(bytes.Repeat([]byte{deploytest.Pattern}, size), 0); err != nil {
			t.Fatal(err)
		}
		tool(t, "sgdisk", "--clear", "--new=1:1M:+8M", "--change-name=1:old", dev)
	}
	v.kept = func(*testing.T, string) {}
	v.listed = func(t *testing.T) bool { return listsImage(t, dev) }
	v.judge = func(t *testing.T, when string) {
		t.Helper()
		parts := byName(t, dev)
		if boot := filetest.Read(t, dev, 0, 1); boot[0] != killBoot || len(parts) != 2 {
			t.Fatalf("%s: the table is %+v", when, parts)
		}
		if !bytes.Equal(filetest.Read(t, dev, parts["esp"]*512, int64(len(esp))), esp) {
			t.Errorf("%s: the EFI system partition is another", when)
		}
		fstab := judgeRoot(t, when, dev, parts["root"]*512, sum)
		if id := probed(t, dev, parts["root"]*512); id == rootID || fstab != "UUID="+id+" / ext4 defaults 0 1\n" {
			t.Errorf("%s: the root is %s, fstab %q", when, id, fstab)
		}
	}
	return v
}

// byName are the first sectors of the partitions that sfdisk sees, in the backup table if the primary one was being written.
func byName(t *testing.T, device string) map[string]int64 {
	t.Helper()
	var v struct {
		PartitionTable struct {
			Partitions []struct {
				Name  string
				Start int64
			}
		}
	}
	if err := json.Unmarshal([]byte(tool(t, "sh", "-c", `sfdisk --json "$0" 2>/dev/null`, device)), &v); err != nil {
		t.Fatal(err)
	}
	first := map[string]int64{}
	for _, p := range v.PartitionTable.Partitions {
		first[p.Name] = p.Start
	}
	return first
}

// listsImage says whether a partition of what is being deployed is in the table.
func listsImage(t *testing.T, device string) bool {
	t.Helper()
	if tableOf(t, device) == "" {
		return false
	}
	for name := range byName(t, device) {
		if slices.Contains([]string{"esp", "root", "swap", "boot"}, name) {
			return true
		}
	}
	return false // at most a protective MBR without a GPT
}

// tableOf is the kind of table that blkid finds, "" for none.
func tableOf(t *testing.T, device string) string {
	t.Helper()
	return tool(t, "sh", "-c", `blkid -p -o value -s PTTYPE "$0" || true`, device)
}

// judgeRoot has e2fsck and debugfs look at a root file system, and returns its fstab.
func judgeRoot(t *testing.T, when, device string, off int64, sum string) string {
	t.Helper()
	where := fmt.Sprintf("%s?offset=%d", device, off)
	tool(t, "e2fsck", "-fn", where)
	out := filepath.Join(t.TempDir(), "big")
	tool(t, "debugfs", "-R", "dump /big "+out, where)
	if got := strings.Fields(tool(t, "sha256sum", out))[0]; got != sum {
		t.Errorf("%s: the large file has SHA-256 %s, not %s", when, got, sum)
	}
	_ = os.Remove(out)
	for name, want := range map[string]string{"/etc/hostname": killNode + "\n", "/etc/machine-id": ""} {
		if got := inImage(t, device, off, name); got != want {
			t.Errorf("%s: %s is %q, want %q", when, name, got, want)
		}
	}
	if key := inImage(t, device, off, "/etc/ssh/ssh_host_ed25519_key"); !strings.HasPrefix(key, "-----BEGIN OPENSSH PRIVATE KEY-----") {
		t.Errorf("%s: the host key is %q", when, key)
	}
	return inImage(t, device, off, "/etc/fstab")
}

// bareVictim gives the whole disk to the bare file system of an image, which has a boot sector.
func bareVictim(t *testing.T) *victim {
	dir, work := t.TempDir(), t.TempDir()
	big := make([]byte, 20*mib)
	rand.NewChaCha8([32]byte{6}).Read(big) //nolint:errcheck // never fails
	writeFiles(t, work, map[string]string{"tree/usr/bin/sh": "", "tree/etc/hostname": "image\n", "tree/etc/machine-id": "00112233445566778899aabbccddeeff\n",
		"tree/etc/fstab": "UUID=" + rootID + " / ext4 defaults 0 1\n", "tree/big": string(big)})
	const size = 40 * mib
	root := sparse(t, size)
	tool(t, "mkfs.ext4", "-q", "-U", rootID, "-d", filepath.Join(work, "tree"), "-E", "root_owner=0:0", root)
	boot := bytes.Repeat([]byte{killBoot}, 512)
	boot[510], boot[511] = 0x55, 0xaa
	filetest.Write(t, root, 0, boot)
	imageOf(t, swarmbootProgram(t), dir, "img", root, "--cmdline", "root=UUID="+rootID)
	sum := strings.Fields(tool(t, "sha256sum", filepath.Join(work, "tree/big")))[0]
	writeFiles(t, dir, map[string]string{"profiles/default.yaml": "hostname: " + killNode + "\nmachineID: reset\nssh: {hostKeys: generate}\n"})
	dev := looptest.Attach(t, makeTarget(t, size))
	v := &victim{name: "bare", disk: dev, args: []string{"--server", wholeServer(t, dir), "--disk", dev, "--image", "img", "--node", killNode}}
	v.reset = func(t *testing.T) {
		t.Helper()
		filetest.Write(t, dev, 0, bytes.Repeat([]byte{deploytest.Pattern}, size))
		tool(t, "sgdisk", "--clear", "--new=1:1M:+8M", "--change-name=1:old", dev)
	}
	v.kept = func(t *testing.T, when string) {
		t.Helper()
		for _, step := range []string{"partition", "fetch", "sync", "verify"} {
			if kind := tool(t, "sh", "-c", `blkid -p -o value -s TYPE "$0" || true`, dev); strings.HasSuffix(when, "killed in "+step) && kind != "" {
				t.Errorf("%s: blkid finds %s", when, kind)
			}
		}
	}
	v.listed = func(t *testing.T) bool { return filetest.Read(t, dev, 0, 1)[0] == killBoot }
	v.judge = func(t *testing.T, when string) {
		t.Helper()
		judgeRoot(t, when, dev, 0, sum)
	}
	return v
}
