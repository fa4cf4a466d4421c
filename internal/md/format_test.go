package md

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"swarmboot/internal/looptest"
)

const tib = 1 << 40

// TestMdadmAgrees has mdadm read what Format wrote, for every level, both versions, with and without bitmap and spare, on disks of many sizes
// and both sector sizes.
func TestMdadmAgrees(t *testing.T) {
	for level, rule := range levelRules {
		for _, metadata := range []string{"1.0", "1.2"} {
			for _, bitmap := range []bool{false, true} {
				for i, size := range []int64{64 * mib, 64*mib + 5*512, 1 * gib, 9 * gib, 300 * gib, 10 * tib} {
					if level == 0 && bitmap {
						continue
					}
					sector := []int{512, 4096}[i%2]
					if size%int64(sector) != 0 {
						sector = 512
					}
					spec := Spec{Shape: Shape{Level: level, Metadata: metadata, Bitmap: bitmap}, Name: "root", Homehost: "node7"}
					spares := i % 2
					if level == 0 {
						spares = 0
					}
					name := fmt.Sprintf("level %d/%s/bitmap %v/%d", level, metadata, bitmap, size)
					t.Run(name, func(t *testing.T) { agrees(t, spec, repeat(size, rule.members+i%2), spares, sector) })
				}
			}
		}
	}
}

func agrees(t *testing.T, spec Spec, sizes []int64, spares, sector int) {
	t.Helper()
	all := append(sizes, repeat(sizes[0], spares)...)
	devices, paths := disks(t, sector, all...)
	spec.Members, spec.Spares = paths[:len(sizes)], paths[len(sizes):]
	spec.UUID = UUID{1, 2, 3, 4, 5, 0xab, 15: 0xff}
	before := time.Now().Add(-time.Second)
	g, err := Format(context.Background(), spec, devices)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range devices {
		sb, err := Read(d, d.Size())
		if err != nil {
			t.Fatal(err)
		}
		if sb.Created.Before(before) || sb.Created.After(time.Now()) {
			t.Errorf("created %s", sb.Created)
		}
		said := fields(tool(t, "mdadm", "--examine", "--verbose", paths[i]))
		for key, want := range expected(&spec, g, sb, i) {
			got := said[key]
			if n := len(want); key != "Checksum" && n < len(got) && (got[n] == ' ' || got[n] == '(') {
				got = got[:n] // what follows is the same in other words
			}
			if key == "Checksum" {
				got = got[strings.LastIndexByte(got, ' ')+1:]
			}
			if got != want {
				t.Errorf("device %d: mdadm says %s %q, want %q", i, key, said[key], want)
			}
		}
		for _, key := range []string{"Internal Bitmap", "Data Offset", "Used Dev Size"} {
			if _, ok := expected(&spec, g, sb, i)[key]; !ok && said[key] != "" {
				t.Errorf("device %d: mdadm says %s %q", i, key, said[key])
			}
		}
	}
}

// expected is what mdadm should say; sizes come from the geometry, not from the superblock.
func expected(spec *Spec, g Geometry, sb *Superblock, i int) map[string]string {
	sectors := func(n int64) string { return strconv.FormatInt(n/512, 10) + " sectors" }
	want := map[string]string{
		"Magic": "a92b4efc", "Version": spec.Metadata, "Array UUID": "01020304:05ab0000:00000000:000000ff", "Name": "node7:root",
		"Raid Level": fmt.Sprintf("raid%d", spec.Level), "Raid Devices": strconv.Itoa(g.disks), "State": "active", "Checksum": "correct", "Events": "0",
		"Avail Dev Size": sectors(sb.DataSize), "Super Offset": sectors(sb.SuperOffset),
		"Device Role": fmt.Sprintf("Active device %d", i), "Array State": strings.Repeat("A", g.disks),
		"Bad Block Log": fmt.Sprintf("512 entries available at offset %d sectors", sb.BadLogOffset/512), "Device UUID": sb.DeviceUUID.String(),
		"Creation Time": sb.Created.Local().Format(time.ANSIC), "Feature Map": "0x0",
	}
	if i >= g.disks {
		want["Device Role"] = "spare"
	}
	if spec.Metadata == "1.2" {
		want["Data Offset"] = sectors(g.DataOffset)
		want["Super Offset"] = "8 sectors"
	}
	if spec.Level == 0 {
		want["State"] = "clean"
	} else {
		want["Array Size"] = fmt.Sprintf("%d KiB", g.Size>>10)
		if spec.Level == 10 { // the kernel, other than mdadm here, leaves out half a chunk of an odd number
			want["Array Size"] = fmt.Sprintf("%d KiB", g.Used*int64(g.disks)/2>>10)
		}
		if sb.DataSize != g.Used {
			want["Used Dev Size"] = sectors(g.Used)
		}
	}
	switch spec.Level {
	case 5, 6:
		want["Layout"] = "left-symmetric"
	case 10:
		want["Layout"] = "near=2"
	}
	if spec.Level != 1 {
		want["Chunk Size"] = fmt.Sprintf("%dK", g.Chunk>>10)
	}
	if spec.Bitmap {
		want["Feature Map"] = "0x1"
		want["Internal Bitmap"] = fmt.Sprintf("%d sectors from superblock", sb.BitmapOffset/512)
	}
	return want
}

// TestBitmapOnDevices has mdadm read bitmaps; it does so from block devices only. The disks have sectors of 512 and of 4096 bytes.
func TestBitmapOnDevices(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs loop devices: root")
	}
	for _, tt := range []struct {
		shape  Shape
		size   int64
		sector int
		chunk  string
	}{
		{Shape{Level: 1, Metadata: "1.2", Bitmap: true}, 1 * gib, 512, "64 MB"},
		{Shape{Level: 5, Metadata: "1.0", Bitmap: true}, 300 * gib, 4096, "64 MB"},
		{Shape{Level: 10, Metadata: "1.2", Bitmap: true}, 10 * tib, 4096, "64 MB"},
		{Shape{Level: 10, Metadata: "1.2", Bitmap: true, Chunk: 64 << 10}, 7 * gib, 512, "64 MB"},
	} {
		devices, paths := disks(t, tt.sector, repeat(tt.size, 4)...)
		spec := Spec{Shape: tt.shape, Name: "x", Members: paths}
		g, err := Format(context.Background(), spec, devices)
		if err != nil {
			t.Fatal(err)
		}
		loop := looptest.Attach(t, paths[2], "--sector-size", strconv.Itoa(tt.sector))
		said := fields(tool(t, "mdadm", "--examine-bitmap", loop))
		covers := g.Used
		if tt.shape.Level == 10 {
			covers = g.Size
		}
		for key, want := range map[string]string{
			"Magic": "6d746962", "Version": "4", "Events": "0", "Events Cleared": "0", "State": "OK", "Daemon": "5s flush period",
			"Chunksize": tt.chunk, "Sync Size": strconv.FormatInt(covers>>10, 10),
		} {
			if got := said[key]; got != want && !strings.HasPrefix(got, want+" ") {
				t.Errorf("%+v: mdadm says %s %q, want %q", tt.shape, key, got, want)
			}
		}
		bits := (covers + g.bitmap.chunk - 1) / g.bitmap.chunk
		if want := fmt.Sprintf("%d bits (chunks), %d dirty (100.0%%)", bits, bits); said["Bitmap"] != want {
			t.Errorf("%+v: mdadm says %q, want %q", tt.shape, said["Bitmap"], want)
		}
		sb, err := Examine(loop)
		if err != nil || sb.Role() != 2 {
			t.Errorf("examine %s: %v, %v", loop, sb, err)
		}
	}
}

// TestNoOldSuperblockIsLeft writes one array after the other, of other versions and sizes, over the same disks.
func TestNoOldSuperblockIsLeft(t *testing.T) {
	devices, paths := disks(t, 512, repeat(200*mib+512*7, 2)...)
	old := make([]byte, 4096)
	le.PutUint32(old, magic)
	for _, metadata := range []string{"1.0", "1.2", "1.0"} {
		off := roundDown(devices[0].Size(), 64<<10) - 64<<10 // version 0.90
		if _, err := devices[0].(*file).File.WriteAt(old, off); err != nil {
			t.Fatal(err)
		}
		spec := Spec{Shape: Shape{Level: 1, Metadata: metadata, Bitmap: true}, Name: "x", Members: paths}
		if _, err := Format(context.Background(), spec, devices); err != nil {
			t.Fatal(err)
		}
		if _, err := devices[0].ReadAt(old[:8], off); err != nil || le.Uint32(old) == magic {
			t.Errorf("the superblock of version 0.90 is still there: %v", err)
		}
		le.PutUint32(old, magic)
		for minor := range 3 {
			_, err := readAt(devices[0], devices[0].Size(), minor)
			if is := err == nil; is != (fmt.Sprintf("1.%d", minor) == metadata) {
				t.Errorf("after %s: version 1.%d: %v", metadata, minor, err)
			}
		}
	}
}

// TestPowerCut ends Format at every write. What is left is what Create may overwrite without being asked, or a whole array.
func TestPowerCut(t *testing.T) {
	for n := 0; ; n++ {
		devices, paths := disks(t, 512, repeat(64*mib, 4)...)
		spec := Spec{Shape: Shape{Level: 5, Bitmap: true}, Name: "x", Members: paths[:3], Spares: paths[3:]}
		if n%2 == 1 { // another array was there
			other := spec
			other.Name = "old"
			if _, err := Format(context.Background(), other, devices); err != nil {
				t.Fatal(err)
			}
		}
		left := n / 2
		for _, d := range devices {
			d.(*file).writes = &left
		}
		_, err := Format(context.Background(), spec, devices)
		done := err == nil
		for _, d := range devices {
			d.(*file).writes = nil
		}
		if !done && !strings.Contains(err.Error(), "power cut") {
			t.Fatal(err)
		}
		if err := spec.check(); err != nil {
			t.Fatal(err)
		}
		g, err := spec.geometry(devices)
		if err != nil {
			t.Fatal(err)
		}
		reuse, err := spec.judge(g, superblocksOf(devices))
		if stillOld := n%2 == 1 && left == 0 && err != nil && strings.Contains(err.Error(), "old"); (err != nil || reuse != done) && !stillOld {
			t.Errorf("after %d writes: reuse %v, %v", n/2, reuse, err)
		}
		if done && n%2 == 1 {
			return
		}
	}
}

func superblocksOf(devices []Device) []found {
	var all []found
	for _, d := range devices {
		all = append(all, look(d.Path(), d, d.Size()))
	}
	return all
}
