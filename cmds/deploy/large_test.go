package main

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/filetest"
	"swarmboot/internal/looptest"
)

// largeLayout has the image's partitions, file systems of terabytes, and a partition behind them that is kept.
const largeLayout = `{"candidates": [{"name": "one", "disks": [{"name": "disk", "select": [%q], "partitions": [
	{"name": "esp", "image": "1", "type": "esp"}, {"name": "root", "image": "2"}, {"name": "swap", "size": "4G", "fs": "swap"},
	{"name": "ext4", "size": "500G", "fs": "ext4", "fsLabel": "small"}, {"name": "xfs", "size": "%s", "fs": "xfs", "fsLabel": "large"},
	{"name": "data", "keep": "yes"}]}]}]}`

// TestLargeDisks deploys to sparse files of 3, 10 and 100 TB with a kept partition beyond 2 TiB: the protective MBR, both headers and the
// table are what sgdisk and sfdisk want, and the file systems are as large as their partitions.
func TestLargeDisks(t *testing.T) {
	s := newServer(t, 0)
	im := s.publish(t, "img", 24*mib, imagefmt.Packed, nil)
	const tb = int64(1e12)
	for _, size := range []int64{3 * tb, 10 * tb, 100 * tb} {
		t.Run(fmt.Sprintf("%d TB", size/tb), func(t *testing.T) {
			size = size / 512 * 512
			disk := sparse(t, size)
			at := (size - 64<<30) / mib * mib
			tool(t, "sgdisk", "--clear", "--new=1:1M:+8M", "--change-name=1:old", fmt.Sprintf("--new=3:%d:+32G", at/512), "--change-name=3:data", disk)
			kept := []byte(strings.Repeat("kept ", 1<<20))
			filetest.Write(t, disk, at+5<<30, kept)
			before := largeParts(t, disk)["data"]
			p := startLayout(t, s, layoutFile(t, fmt.Sprintf(largeLayout, disk, "70%")), "--verify", "readback")
			if c := p.code(); c != cli.CodeDone {
				t.Fatalf("code %d\n%s", c, p.err.String())
			}
			if out := tool(t, "sgdisk", "--verify", disk); !strings.Contains(out, "No problems found") {
				t.Error(out)
			}
			tool(t, "sfdisk", "--verify", disk)
			parts := largeParts(t, disk)
			if len(parts) != 6 || parts["data"] != before || before[0]*512 <= 2<<40 {
				t.Errorf("the kept partition was %v, the table is %v", before, parts)
			}
			if string(filetest.Read(t, disk, at+5<<30, int64(len(kept)))) != string(kept) {
				t.Error("the kept bytes have changed")
			}
			for i, name := range []string{"esp", "root"} {
				from := im.Manifest.Table.Partitions[i]
				if parts[name][1]*512 != from.Length {
					t.Errorf("%s has %d sectors", name, parts[name][1])
				}
			}
			checkLargeMBR(t, disk, size)
			x := parts["xfs"]
			if want := size / 100 * 70; x[1]*512 > want || x[1]*512 < want-4*mib || x[0]%2048 != 0 {
				t.Errorf("xfs has sectors %v of %d bytes", x, size)
			}
			if got := xfsBytes(t, disk, x[0]*512, x[1]*512); got > x[1]*512 || got < x[1]*512-mib {
				t.Errorf("XFS has %d bytes, its partition %d", got, x[1]*512)
			}
			e := parts["ext4"]
			tool(t, "e2fsck", "-fn", fmt.Sprintf("%s?offset=%d", disk, e[0]*512))
		})
	}
}

// largeParts are first sector and length of the partitions.
func largeParts(t *testing.T, disk string) map[string][2]int64 {
	t.Helper()
	all := map[string][2]int64{}
	for _, p := range sfdisk(t, disk) {
		all[p.Name] = [2]int64{p.Start, p.Size}
	}
	return all
}

// checkLargeMBR looks for one protective partition over all that 32 bits can say (UEFI 2.10, table 5.4).
func checkLargeMBR(t *testing.T, disk string, size int64) {
	t.Helper()
	b := filetest.Read(t, disk, 446, 66)
	sectors := min(uint64(size/512-1), 0xffffffff)
	if b[4] != 0xee || binary.LittleEndian.Uint32(b[8:]) != 1 || uint64(binary.LittleEndian.Uint32(b[12:])) != sectors || strings.Trim(string(b[16:64]), "\x00") != "" {
		t.Errorf("the MBR has %x", b)
	}
}

// xfsBytes is the size of an XFS as xfs_db sees it. xfs_repair would look at thousands of allocation groups.
func xfsBytes(t *testing.T, disk string, off, size int64) int64 {
	t.Helper()
	part, detach := looptest.AttachFor(t, disk, "-r", "-o", fmt.Sprint(off), "--sizelimit", fmt.Sprint(size))
	defer detach()
	out := tool(t, "xfs_db", "-r", "-c", "sb 0", "-c", "p dblocks blocksize", part)
	var blocks, length int64
	if _, err := fmt.Sscanf(out, "dblocks = %d\nblocksize = %d", &blocks, &length); err != nil {
		t.Fatalf("xfs_db: %v\n%s", err, out)
	}
	return blocks * length
}
