// Package raid has the kernel of the nodes run arrays that our code makes, and mdadm, in a second boot of the machine, judge them. The host's own
// kernel needs no md driver.
package raid

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"swarmboot/internal/tooltest"
	"swarmboot/qemu-tests/lab"
	"swarmboot/qemu-tests/scenario"
)

const mib = 1 << 20

var tool = tooltest.Run

// levels are the arrays that raidnode makes, and whether they survive without a member.
var levels = map[string]bool{
	"stripe": false, "mirror": true, "esp": true, "four": true, "five": true, "six": true, "ten": true, "odd": true, "end": true, "wide": true,
}

func TestArraysOnANode(t *testing.T) {
	if testing.Short() {
		t.Skip("starts virtual machines")
	}
	files, err := scenario.Find()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var disks []lab.Disk
	for i := range 5 {
		disks = append(disks, lab.Disk{Path: makeDisk(t, dir, i), Format: "raw", Bus: "virtio", Serial: fmt.Sprintf("disk%d", i)})
	}
	for i := range 4 {
		path := filepath.Join(dir, fmt.Sprintf("wide%d.raw", i))
		tool(t, "truncate", "-s", fmt.Sprint(24*mib), path)
		disks = append(disks, lab.Disk{Path: path, Format: "raw", Bus: "virtio", Serial: fmt.Sprintf("wide%d", i), Sector: 4096})
	}
	initrd := filepath.Join(dir, "initramfs")
	if err := lab.ExtendInitramfs(t.Context(), initrd, files.Initramfs, "raidnode", withLibraries(t, "/usr/sbin/mdadm")...); err != nil {
		t.Fatal(err)
	}

	made := boot(t, files, dir, initrd, "make", disks)
	want := []string{"all load", "all limit", "all progress", "early data without a member during the resync",
		"mirror running one is taken", "mirror running one of another name", "six stop while open",
		"stripe stopped one is taken", "five stopped one is taken", "six other chunk", "esp recreate", "esp recreate running", "esp write once more", "all nothing left running"}
	for name := range levels {
		want = append(want, name+" create", name+" write", name+" stop")
	}
	compare(t, made, want)

	judged := boot(t, files, dir, initrd, "judge", disks)
	want = []string{"all load", "all limit", "all mdadm --assemble --scan"}
	for name, redundant := range levels {
		want = append(want, name+" data", name+" mdadm --detail", name+" described", name+" like mdadm's, 0", name+" like mdadm's, 1")
		if redundant {
			want = append(want, name+" resync ends", name+" check", name+" mismatch_cnt 0", name+" mdadm --examine", name+" data without a member", name+" stop")
		}
	}
	compare(t, judged, want)
}

// compare has every failure and everything that was wanted and not said be an error.
func compare(t *testing.T, said, want []string) {
	t.Helper()
	for _, s := range said {
		if strings.HasPrefix(s, "failed ") {
			t.Error(s)
		}
	}
	for _, w := range want {
		if !slices.Contains(said, "ok "+w) {
			t.Errorf("the node did not say %q", w)
		}
	}
}

// makeDisk makes a disk with twenty partitions, in which data lies that no two disks have in common: parity of zeros would be right without a
// resync.
func makeDisk(t *testing.T, dir string, number int) string {
	t.Helper()
	path := filepath.Join(dir, fmt.Sprintf("disk%d.raw", number))
	const partitions, size = 20, 24
	tool(t, "truncate", "-s", fmt.Sprint((2+partitions*size)*mib), path)
	args := []string{"-a", "2048"}
	for p := range partitions {
		args = append(args, "-n", fmt.Sprintf("%d:%dM:+%dM", p+1, 1+p*size, size))
	}
	tool(t, "sgdisk", append(args, path)...)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := rand.NewChaCha8([32]byte{byte(number)})
	b := make([]byte, mib)
	for p := range 10 {
		for at := 4; at < size; at += 5 {
			_, _ = r.Read(b) // never fails
			if _, err := f.WriteAt(b, int64(1+p*size+at)*mib); err != nil {
				t.Fatal(err)
			}
		}
	}
	return path
}

// boot starts a node with the disks, has raidnode do its work there, and returns what that said.
func boot(t *testing.T, files *scenario.Files, dir, initrd, work string, disks []lab.Disk) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	said, err := lab.RunAtShell(ctx, lab.Machine{
		Name: work, MAC: "52:54:00:99:02:01", Memory: 512, NIC: "virtio-net-pci", Disks: disks,
		Kernel: files.Kernel, Initrd: initrd, Append: "console=ttyS0 loglevel=3 swarmboot.action=shell",
	}, dir, "raidnode "+work, "RAID")
	for _, text := range said {
		t.Log(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	return said
}

// withLibraries returns a program, its interpreter and its libraries, as ldd(1) lists them.
func withLibraries(t *testing.T, program string) []string {
	t.Helper()
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v: deps.sh installs it", err)
	}
	return append([]string{program}, regexp.MustCompile(`/\S+\.so\S*`).FindAllString(tool(t, "ldd", program), -1)...)
}
