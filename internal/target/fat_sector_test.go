package target

import (
	"strings"
	"testing"

	"swarmboot/internal/looptest"
)

// mountable has the kernel say what CheckSector should have said.
func TestCheckSectorIsRight(t *testing.T) {
	for _, tt := range []struct {
		kind   string
		mkfs   string
		size   int64
		sector string
		want   string
	}{
		{"ext4", "mkfs.ext4 -q -b 1024", 64 * mib, "4096", "blocks of 1024 bytes"},
		{"ext4", "mkfs.ext4 -q -b 1024", 64 * mib, "512", ""},
		{"ext4", "mkfs.ext4 -q -b 4096", 64 * mib, "4096", ""},
		{"xfs", "mkfs.xfs -q -s size=512", 320 * mib, "4096", "sectors of 512 bytes"},
		{"xfs", "mkfs.xfs -q -s size=4096", 320 * mib, "4096", ""},
		{"xfs", "mkfs.xfs -q -s size=4096", 320 * mib, "512", ""},
		{"btrfs", "mkfs.btrfs -q", 128 * mib, "4096", ""},
	} {
		t.Run(tt.mkfs+" on "+tt.sector, func(t *testing.T) {
			p := sparseFile(t, tt.size)
			args := append(strings.Fields(tt.mkfs), p)
			run(t, args[0], args[1:]...)
			sector := 512
			if tt.sector == "4096" {
				sector = 4096
			}
			before := hash(t, p)
			d := openHollow(t, p)
			err := FitSector(t.Context(), d, tt.size, sector)
			if cerr := CheckSector(d, tt.size, sector); (err == nil) != (cerr == nil) {
				t.Errorf("CheckSector says %v, FitSector %v", cerr, err)
			}
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if hash(t, p) != before {
				t.Error("it was written to")
			}
			dev := looptest.Attach(t, p, "-b", tt.sector)
			dir := t.TempDir()
			_, merr := cmdOutput("mount", "-t", tt.kind, dev, dir)
			if merr == nil {
				run(t, "umount", dir)
			}
			if (merr == nil) != (err == nil) {
				t.Errorf("the kernel says %v, we %v", merr, err)
			}
		})
	}
	if err := CheckSector(openHollow(t, sparseFile(t, mib)), mib, 4096); err != nil {
		t.Errorf("nothing: %v", err)
	}
	p := sparseFile(t, 64*mib)
	run(t, "mkfs.fat", "-F", "16", p)
	if err := FitSector(t.Context(), openHollow(t, p), 64*mib, 4096); err != nil {
		t.Error(err)
	}
	if got := number(t, checkFAT(t, p), `(\d+) bytes per logical sector`); got != 4096 {
		t.Errorf("sectors of %d bytes", got)
	}
}

// What we make for disks with sectors of 4096 bytes can be mounted on one.
func TestScratch4Kn(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs"} {
		p := sparseFile(t, gib)
		s := Scratch{Kind: kind, Size: gib, Sector: 4096, Label: "scratch", UUID: formatUUID(testUUID[:])}
		if err := MakeScratch(t.Context(), openHollow(t, p), s); err != nil {
			t.Fatal(err)
		}
		checkIdentity(t, p, kind, "scratch", s.UUID)
		dev := looptest.Attach(t, p, "-b", "4096")
		fill(t, dev, kind)
		check(t, kind, dev)
	}
}

func TestMakeScratch(t *testing.T) {
	for _, s := range []Scratch{
		{Kind: "swap", Label: "swap", UUID: formatUUID(testUUID[:])}, {Kind: "vfat", Label: "ESP", UUID: "12AB-34CD"},
	} {
		p := sparseFile(t, gib)
		d := openHollow(t, p)
		dirtyEdges(t, d, gib)
		s.Size, s.Sector = gib, 512
		if err := MakeScratch(t.Context(), d, s); err != nil {
			t.Fatal(err)
		}
		checkIdentity(t, p, s.Kind, s.Label, s.UUID)
	}
	for want, s := range map[string]Scratch{
		"want ext4, swap": {Kind: "ntfs"}, "32 hex digits": {Kind: "xfs", UUID: "x"}, "XXXX-XXXX": {Kind: "vfat", UUID: "12345678"}, "too few": {Kind: "swap"},
	} {
		if err := MakeScratch(t.Context(), make(ramDisk, 0), s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}
