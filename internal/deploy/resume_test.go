package deploy

import (
	"testing"

	"swarmboot/imagefmt"
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
