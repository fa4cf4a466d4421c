package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/looptest"
)

// TestProportional: all partitions that can grow do, by one factor, their file systems with them; what cannot keeps its size and moves.
func TestProportional(t *testing.T) {
	program, dir, work := swarmbootProgram(t), t.TempDir(), t.TempDir()
	s := &testServer{URL: wholeServer(t, dir)}
	source := sparse(t, 512*mib)
	writeFiles(t, work, map[string]string{"script": "label: gpt\nstart=1MiB, size=128MiB, type=L\nstart=129MiB, size=8MiB, type=S\nstart=137MiB, size=256MiB, type=L\n"})
	tool(t, "sh", "-c", "sfdisk -q "+source+" <"+filepath.Join(work, "script"))
	before := sfdisk(t, source)
	for at, size := range map[int64]int64{1: 128, 137: 256} {
		attached(t, source, imagefmt.Partition{Start: at * mib, Length: size * mib}, func(dev string) { tool(t, "mkfs.btrfs", "-q", dev) })
		mounted(t, source, "btrfs", imagefmt.Partition{Start: at * mib, Length: size * mib}, func(dir string) {
			writeFiles(t, dir, map[string]string{"file": fmt.Sprint("at ", at)})
		})
	}
	attached(t, source, imagefmt.Partition{Start: 129 * mib, Length: 8 * mib}, func(dev string) { tool(t, "mkswap", "-q", dev) })
	imageOf(t, program, dir, "img", source, "--root", "3")
	file := sparse(t, 1024*mib)
	p := start(t, s, looptest.Attach(t, file), "--image", "img", "--node", "n", "--grow", "proportional", "--verify", "readback")
	if c := p.code(); c != cli.CodeDone {
		t.Fatalf("code %d\n%s", c, p.err.String())
	}
	if out := tool(t, "sgdisk", "-v", file); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
	after := sfdisk(t, file)
	var small, large, end int64
	for id, old := range before {
		now, ok := after[id]
		if !ok {
			t.Fatalf("partition %s is gone: %+v", id, after)
		}
		end = max(end, now.Start+now.Size)
		switch old.Size * 512 {
		case 8 * mib:
			if now.Size != old.Size {
				t.Errorf("swap has %d sectors, had %d", now.Size, old.Size)
			}
			continue
		case 128 * mib:
			small = now.Size
		default:
			large = now.Size
		}
		where := imagefmt.Partition{Start: now.Start * 512, Length: now.Size * 512}
		attached(t, file, where, func(dev string) { tool(t, "btrfs", "check", "--readonly", dev) })
		mounted(t, file, "btrfs", where, func(dir string) {
			var st unix.Statfs_t
			if err := unix.Statfs(dir, &st); err != nil {
				t.Fatal(err)
			}
			if got := int64(st.Blocks) * st.Bsize; got != where.Length/4096*4096 {
				t.Errorf("the file system has %d bytes, its partition %d", got, where.Length)
			}
			if b, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(b) != fmt.Sprint("at ", old.Start*512/mib) {
				t.Errorf("the file says %q, %v", b, err)
			}
		})
	}
	if d := large - 2*small; d < -8192 || d > 8192 {
		t.Errorf("%d and %d sectors: one is to be twice the other, within 4 MiB", small, large)
	}
	if free := 1024*mib - end*512; free > 4*mib {
		t.Errorf("%d bytes are left behind the last partition", free)
	}
}

// TestExact: the table as it is on a larger disk; on a smaller one it is cut where nothing used lies behind, and else refused.
func TestExact(t *testing.T) {
	program, dir, work := swarmbootProgram(t), t.TempDir(), t.TempDir()
	s := &testServer{URL: wholeServer(t, dir)}
	script := "label: gpt\nstart=1MiB, size=8MiB, type=S\nstart=9MiB, size=160MiB, type=L\n"
	writeFiles(t, work, map[string]string{"script": script})
	source := sparse(t, 200*mib)
	tool(t, "sh", "-c", "sfdisk -q "+source+" <"+filepath.Join(work, "script"))
	fs := filepath.Join(work, "fs")
	tool(t, "truncate", "-s", "64M", fs)
	tool(t, "mkfs.ext4", "-q", "-U", rootID, fs) // 64 MiB in a partition of 160
	tool(t, "dd", "if="+fs, "of="+source, "bs=1M", "seek=9", "conv=notrunc,sparse", "status=none")
	imageOf(t, program, dir, "fits", source, "--root", "2")
	f, err := os.OpenFile(source, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("something"), 180*mib); err != nil { // behind all partitions
		t.Fatal(err)
	}
	imageOf(t, program, dir, "behind", source, "--root", "2")
	for _, tt := range []struct {
		image, grow string
		size        int64
		code        int
		says        string
		length      int64 // of the last partition
	}{
		{"fits", "exact", 300 * mib, cli.CodeDone, "", 160 * mib},
		{"fits", "exact", 200 * mib, cli.CodeDone, "", 160 * mib},
		{"fits", "exact", 100 * mib, cli.CodeDone, "partition 2 of the image is cut", 91*mib - 33*512},
		{"fits", "exact", 70 * mib, cli.CodeTooSmall, "partition 2: its ext4 has 67108864 bytes", 0},
		{"fits", "none", 100 * mib, cli.CodeTooSmall, "too small", 0},
		{"fits", "last", 100 * mib, cli.CodeTooSmall, "too small", 0},
		{"fits", "proportional", 100 * mib, cli.CodeTooSmall, "too small", 0},
		{"behind", "exact", 100 * mib, cli.CodeTooSmall, "bytes are used up to 188747776", 0},
	} {
		name := fmt.Sprintf("%s %s on %d MiB", tt.image, tt.grow, tt.size/mib)
		file := makeTarget(t, tt.size)
		before := readFile(t, file)
		p := start(t, s, looptest.Attach(t, file), "--image", tt.image, "--node", "n", "--grow", tt.grow, "--verify", "readback")
		if c := p.code(); c != tt.code || !strings.Contains(p.err.String(), tt.says) {
			t.Errorf("%s: code %d, want %d and %q\n%s", name, c, tt.code, tt.says, p.err.String())
			continue
		}
		if tt.code != cli.CodeDone {
			if !bytes.Equal(before, readFile(t, file)) {
				t.Errorf("%s: the disk was written to", name)
			}
			continue
		}
		if out := tool(t, "sgdisk", "-v", file); !strings.Contains(out, "No problems found") {
			t.Errorf("%s: %s", name, out)
		}
		if got := lastPartition(t, file); got.Start != 9*mib || got.Length != tt.length {
			t.Errorf("%s: the last partition is %d+%d, want %d", name, got.Start, got.Length, tt.length)
		}
		tool(t, "e2fsck", "-fn", fmt.Sprintf("%s?offset=%d", file, 9*mib))
	}
	// The plan on the server's side says the same.
	inventory := filepath.Join(work, "inventory")
	for grow, want := range map[string]string{"exact": "partition 2 of the image is cut", "last": "too small"} {
		writeFiles(t, work, map[string]string{"inventory": fmt.Sprintf(`[{"path": "/dev/sda", "name": "sda", "size": %d, "logicalSector": 512, "physicalSector": 512, "table": {"kind": "none"}}]`, 100*mib)})
		out := tool(t, "sh", "-c", fmt.Sprintf("%s deploy plan --inventory %s --disk /dev/sda --image %s --grow %s 2>&1 || true", program, inventory, filepath.Join(dir, "fits"), grow))
		if !strings.Contains(out, want) {
			t.Errorf("%s: %s", grow, out)
		}
	}
}
