package deploy

import (
	"bytes"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/disk"
	"swarmboot/internal/filetest"
)

// TestUnfinished: a disk is recognized between the first table and the last, by the image's own identity.
func TestUnfinished(t *testing.T) {
	t.Parallel()
	tables := map[string]imagefmt.Table{
		"gpt": {Kind: imagefmt.TableGPT, GUID: "0FC63DAF-8483-4772-8E79-3D69D8477DE4", Partitions: []imagefmt.Partition{
			{Number: 1, Start: mib, Length: 4 * mib, Type: "0FC63DAF-8483-4772-8E79-3D69D8477DE5", UUID: "0FC63DAF-8483-4772-8E79-3D69D8477DE6"}}},
		"mbr": {Kind: imagefmt.TableMBR, DiskSignature: "1a2b3c4d", Partitions: []imagefmt.Partition{{Number: 1, Start: mib, Length: 4 * mib, Type: "0x83"}}},
	}
	others := map[string]imagefmt.Table{
		"gpt": {Kind: imagefmt.TableGPT, GUID: "0FC63DAF-8483-4772-8E79-3D69D8477DE9"},
		"mbr": {Kind: imagefmt.TableMBR, DiskSignature: "1a2b3c4e"},
	}
	for name, table := range tables {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, imagefmt.Packed, diskSize)
			m := *f.Manifest
			m.Table = table
			w := f.planned(t, &m, f.target)
			want := func(when string, want bool) {
				t.Helper()
				if got := w.unfinished(); got != want {
					t.Errorf("%s: unfinished is %v", when, got)
				}
			}
			want("strange disk", false)
			if err := w.stageTable(); err != nil {
				t.Fatal(err)
			}
			want("first table", true)
			d := w.disks[0]
			d.Table = others[name]
			want("another image", false)
			d.Table = imagefmt.Table{Kind: imagefmt.TableNone}
			want("an image without a table", false)
			d.Table = table
			if err := w.finishTable(); err != nil {
				t.Fatal(err)
			}
			want("finished", false)
		})
	}
}

// A run that was cut off, or failed, while it cleared a disk leaves the table of one that was cut off later, and so does one for another layout or
// image: the next one clears the disk, and all of it.
func TestClearedAgain(t *testing.T) {
	junk := bytes.Repeat([]byte{0xee}, mib)
	const free = 40 * mib
	for mode, clears := range map[disk.WipeMode]bool{disk.WipeNone: false, disk.WipeDiscard: true, disk.WipeZero: true} {
		plan := planOn(sparseFile(t, 64*mib))
		d := &plan.Disks[0]
		d.Wipe, d.Kept, plan.Contents = mode, []int{2}, plan.Contents[:1]
		old := d.Table
		old.Partitions = old.Partitions[1:]
		dev := openDisk(t, d.Disk.Path)
		if err := disk.WriteTable(dev, old); err != nil {
			t.Fatal(err)
		}
		if err := dev.Close(); err != nil {
			t.Fatal(err)
		}
		filetest.Write(t, d.Disk.Path, free, junk)
		filetest.Write(t, d.Disk.Path, d.Table.Partitions[1].Start, junk)
		w, err := newPlanned(rootedImage(), plan, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.close() }) //nolint:errcheck // a test's own
		if got := w.unfinished(); got == clears {
			t.Errorf("wipe: %s: unfinished is %v", mode, got)
		}
		if err := w.wipe(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := filetest.Read(t, d.Disk.Path, free, mib); bytes.Equal(got, junk) == clears || clears && !allZero(got) {
			t.Errorf("wipe: %s: there is %x...", mode, got[:16])
		}
		if !bytes.Equal(filetest.Read(t, d.Disk.Path, d.Table.Partitions[1].Start, mib), junk) {
			t.Errorf("wipe: %s: what is kept has changed", mode)
		}
	}
}
