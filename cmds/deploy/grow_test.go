package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/deploy/deploytest"
	"swarmboot/internal/event"
	"swarmboot/internal/looptest"
	"swarmboot/internal/tooltest"
)

const (
	imageDisk  = 768 * mib // the disk of the image
	targetDisk = 2048*mib + 7*512
)

var tool = tooltest.Run

// sparse makes a file of size bytes on tmpfs.
func sparse(t *testing.T, size int64) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "deploy")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // a test's own
	path := filepath.Join(dir, "disk")
	tool(t, "truncate", "-s", fmt.Sprint(size), path)
	return path
}

// growTable is the table of an image with a file system in its last partition, or on the whole disk.
func growTable(kind string) imagefmt.Table {
	switch kind {
	case imagefmt.TableNone:
		return imagefmt.Table{Kind: kind}
	case imagefmt.TableMBR:
		return imagefmt.Table{Kind: kind, DiskSignature: "0badcafe", Partitions: []imagefmt.Partition{
			{Number: 1, Start: mib, Length: 3 * mib, Type: "0x0c"}, {Number: 2, Start: 4 * mib, Length: imageDisk - 4*mib, Type: "0x83", Bootable: true}}}
	}
	return imagefmt.Table{Kind: kind, GUID: "6A1F8D0E-3B9C-4E57-9F0D-2C4B6A8E1357", Partitions: []imagefmt.Partition{
		{Number: 1, Start: mib, Length: 3 * mib, Type: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", UUID: "11111111-2222-4333-8444-555555555501"},
		{Number: 2, Start: 4 * mib, Length: imageDisk - 5*mib, Type: "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", UUID: "11111111-2222-4333-8444-555555555502"}}}
}

// root is where a table's file system lies; the whole disk without a table.
func root(t imagefmt.Table, size int64) imagefmt.Partition {
	if len(t.Partitions) == 0 {
		return imagefmt.Partition{Length: size}
	}
	return t.Partitions[len(t.Partitions)-1]
}

// publishFileSystem publishes an image of a disk with a file system that holds a file.
func publishFileSystem(t *testing.T, s *testServer, name, mkfs, table string) *deploytest.Image {
	t.Helper()
	tab := growTable(table)
	p := root(tab, imageDisk)
	fs, disk := sparse(t, p.Length), sparse(t, imageDisk)
	tool(t, "sh", "-c", map[bool]string{true: "mkswap ", false: "mkfs." + mkfs + " -q "}[mkfs == "swap"]+fs)
	if mkfs != "swap" {
		mounted(t, fs, mkfs, imagefmt.Partition{Length: p.Length}, func(dir string) {
			if err := os.WriteFile(filepath.Join(dir, "file"), []byte(strings.Repeat("content\n", 100000)), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
	if err := deploytest.Place(fs, disk, p.Start); err != nil {
		t.Fatal(err)
	}
	im, err := deploytest.FromDisk(s.dir, name, disk, tab)
	if err != nil {
		t.Fatal(err)
	}
	s.seed(t, name, im, nil)
	return im
}

// mounted attaches a part of a file to a loop device and mounts it.
func mounted(t *testing.T, file, kind string, p imagefmt.Partition, f func(dir string)) {
	t.Helper()
	dir := t.TempDir()
	attached(t, file, p, func(dev string) {
		if err := unix.Mount(dev, dir, kind, 0, ""); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := unix.Unmount(dir, 0); err != nil {
				t.Error(err)
			}
		}()
		f(dir)
	})
}

func attached(t *testing.T, file string, p imagefmt.Partition, f func(dev string)) {
	t.Helper()
	dev, detach := looptest.AttachFor(t, file, "-o", fmt.Sprint(p.Start), "--sizelimit", fmt.Sprint(p.Length))
	defer detach()
	f(dev)
}

// lastPartition is what sfdisk says of the partition that the file system is in.
func lastPartition(t *testing.T, disk string) imagefmt.Partition {
	t.Helper()
	var v struct {
		PartitionTable struct {
			Partitions []struct{ Start, Size int64 }
		}
	}
	if err := json.Unmarshal([]byte(tool(t, "sfdisk", "--json", disk)), &v); err != nil {
		t.Fatal(err)
	}
	p := v.PartitionTable.Partitions[len(v.PartitionTable.Partitions)-1]
	return imagefmt.Partition{Start: p.Start * 512, Length: p.Size * 512}
}

// TestGrow deploys to disks that are larger than the image's: the last partition ends with the disk, its file system with
// the partition, and the foreign tools have nothing to say.
func TestGrow(t *testing.T) {
	for _, tt := range []struct {
		mkfs, table string
		file        bool
		end         int64
	}{
		{"ext4", imagefmt.TableGPT, false, 2047 * mib},
		{"ext4", imagefmt.TableNone, false, targetDisk},
		{"xfs", imagefmt.TableGPT, false, 2047 * mib},
		{"xfs", imagefmt.TableMBR, false, 2048 * mib},
		{"btrfs", imagefmt.TableGPT, false, 2047 * mib},
		{"btrfs", imagefmt.TableNone, false, targetDisk},
		{"btrfs", imagefmt.TableGPT, true, 2047 * mib},
	} {
		t.Run(fmt.Sprint(tt.mkfs, " ", tt.table, " file ", tt.file), func(t *testing.T) {
			s := newServer(t, 0)
			im := publishFileSystem(t, s, "img", tt.mkfs, tt.table)
			file := sparse(t, targetDisk)
			disk, args := file, []string{"--image", "img", "--node", "n", "--json", "--verify", "readback", "--grow", "last"}
			if !tt.file {
				disk, args = looptest.Attach(t, file), args[:len(args)-2] // the default
			}
			p := start(t, s, disk, args...)
			if c := p.code(); c != cli.CodeDone {
				t.Fatalf("code %d\n%s", c, p.err.String())
			}
			last := p.lastReport(t)
			where := imagefmt.Partition{Length: targetDisk}
			if tt.table != imagefmt.TableNone {
				where = lastPartition(t, file)
				if out := tool(t, "sfdisk", "--verify", file); !strings.Contains(out, "No errors detected") {
					t.Error(out)
				}
			}
			if tt.table == imagefmt.TableGPT {
				if out := tool(t, "sgdisk", "-v", file); !strings.Contains(out, "No problems found") {
					t.Error(out)
				}
			}
			if where.Start+where.Length != tt.end || where.Start != root(im.Manifest.Table, 0).Start {
				t.Errorf("the last partition is %d+%d, want the end %d", where.Start, where.Length, tt.end)
			}
			checkGrown(t, file, tt.mkfs, where, last)
		})
	}
}

// checkGrown judges a grown file system. EXT4_IOC_RESIZE_FS wants CAP_SYS_RESOURCE: without it that must have been
// said, and the deployment is a good one all the same.
func checkGrown(t *testing.T, file, kind string, p imagefmt.Partition, last event.Progress) {
	t.Helper()
	if !slices.ContainsFunc(last.Steps, func(s event.Step) bool { return s.Name == event.PhaseGrow }) {
		t.Errorf("no step grow in %+v", last.Steps)
	}
	attached(t, file, p, func(dev string) {
		switch kind {
		case "ext4":
			tool(t, "e2fsck", "-fn", dev)
		case "xfs":
			tool(t, "xfs_repair", "-n", dev)
		case "btrfs":
			tool(t, "btrfs", "check", "--readonly", dev)
		}
	})
	want := p.Length * 9 / 10
	if kind == "ext4" && !hasResource(t) {
		want = 600 * mib
		if len(last.Warnings) != 1 || !strings.Contains(last.Warnings[0], "CAP_SYS_RESOURCE") {
			t.Errorf("warnings %q", last.Warnings)
		}
	} else if len(last.Warnings) != 0 {
		t.Errorf("warnings %q", last.Warnings)
	}
	mounted(t, file, kind, p, func(dir string) {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		if got := int64(st.Blocks) * st.Bsize; got < want || got > p.Length {
			t.Errorf("the file system has %d bytes, its partition %d; said: %s", got, p.Length, last.Message)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || len(b) != 800000 {
			t.Errorf("the file has %d bytes, %v", len(b), err)
		}
	})
}

func hasResource(t *testing.T) bool {
	t.Helper()
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&hdr, &caps[0]); err != nil {
		t.Fatal(err)
	}
	return caps[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

// TestNotGrown: with --grow none, in a file by default, and with content that cannot grow, the table is the image's own.
func TestNotGrown(t *testing.T) {
	for _, tt := range []struct {
		name, mkfs string
		file       bool
		args       []string
		step       bool
	}{
		{"told not to", "btrfs", false, []string{"--grow", "none"}, false},
		{"a file", "btrfs", true, nil, false},
		{"a swap partition at the end", "swap", false, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, 0)
			im := publishFileSystem(t, s, "img", tt.mkfs, imagefmt.TableGPT)
			file := sparse(t, targetDisk)
			disk := file
			if !tt.file {
				disk = looptest.Attach(t, file)
			}
			p := start(t, s, disk, append(tt.args, "--image", "img", "--node", "n", "--json")...)
			if c := p.code(); c != cli.CodeDone {
				t.Fatalf("code %d\n%s", c, p.err.String())
			}
			want := root(im.Manifest.Table, 0)
			if got := lastPartition(t, file); got.Start != want.Start || got.Length != want.Length {
				t.Errorf("the last partition is %d+%d, want %d+%d", got.Start, got.Length, want.Start, want.Length)
			}
			last := p.lastReport(t)
			if step := slices.ContainsFunc(last.Steps, func(s event.Step) bool { return s.Name == event.PhaseGrow }); step != tt.step || len(last.Warnings) > 0 {
				t.Errorf("last report %+v", last)
			}
			if out := tool(t, "sgdisk", "-v", file); !strings.Contains(out, "No problems found") {
				t.Error(out)
			}
		})
	}
}
