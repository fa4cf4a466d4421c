package deploy

import (
	"maps"
	"os"
	"regexp"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/layout"
	"swarmboot/internal/params"
	"swarmboot/internal/target"
)

func TestNewTable(t *testing.T) {
	guid := regexp.MustCompile(`^[0-9A-F]{8}-[0-9A-F]{4}-8[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}$`)
	derive := func(what string) [16]byte { return target.DeriveUUID("node", what) }
	changed := map[string]string{}
	gpt := imagefmt.Table{Kind: imagefmt.TableGPT, GUID: "X", Partitions: []imagefmt.Partition{{Number: 1, UUID: "AA"}, {Number: 7, UUID: "BB"}}}
	freshTable(&gpt, derive, changed)
	if !guid.MatchString(gpt.GUID) || !guid.MatchString(gpt.Partitions[1].UUID) || gpt.Partitions[0].UUID == gpt.Partitions[1].UUID ||
		changed["bb"] != strings.ToLower(gpt.Partitions[1].UUID) || len(changed) != 2 {
		t.Errorf("%+v, %v", gpt, changed)
	}
	changed = map[string]string{}
	mbr := imagefmt.Table{Kind: imagefmt.TableMBR, DiskSignature: "5a3b0001", Partitions: []imagefmt.Partition{{Number: 5, UUID: "5a3b0001-05"}}}
	freshTable(&mbr, derive, changed)
	if !regexp.MustCompile(`^[0-9a-f]{8}$`).MatchString(mbr.DiskSignature) || mbr.DiskSignature == "5a3b0001" || changed["5a3b0001-05"] != mbr.DiskSignature+"-05" {
		t.Errorf("%+v, %v", mbr, changed)
	}
}

// What cannot be done is refused before anything is.
func TestPrepareUUIDs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	yes := true
	lvm := imagefmt.Table{Kind: imagefmt.TableGPT, Partitions: []imagefmt.Partition{{Number: 1, FileSystem: "ext4"}, {Number: 2, FileSystem: "LVM2_member"}}}
	p := &params.Profile{NewUUIDs: &yes}
	segment := imagefmt.VolumeSegment{Off: 0, Len: 512}
	for _, tt := range []struct {
		o    Options
		t    imagefmt.Table
		v    *imagefmt.Volume
		want string
	}{
		{Options{}, imagefmt.Table{}, nil, ""},
		{Options{Layout: "raid1"}, imagefmt.Table{}, nil, ""},
		{Options{}, lvm, nil, "partition 2 of the image holds LVM volumes"},
		{Options{}, imagefmt.Table{}, &imagefmt.Volume{Name: "vg/root", Segments: []imagefmt.VolumeSegment{segment, segment}}, "the root is the logical volume vg/root"},
	} {
		e := &engine{o: tt.o, m: &imagefmt.Manifest{Table: tt.t, Boot: imagefmt.Boot{Volume: tt.v}}}
		if err := e.prepareUUIDs(p); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
}

// Files name what the image's partitions have become, by their new names where these exist.
func TestFollowPlaces(t *testing.T) {
	m := rootedImage()
	e := &engine{m: m, changed: map[string]string{}}
	freshTable(&m.Table, func(what string) [16]byte { return target.DeriveUUID("node", what) }, e.changed)
	fresh := strings.ToLower(m.Table.Partitions[0].UUID)
	old := strings.ToLower(imageRoot)
	same, moved := planOn("/dev/x"), planOn("/dev/x")
	same.Disks[0].Table.Partitions[0].UUID, moved.Disks[0].Table.Partitions[0].UUID = fresh, otherUUID
	for name, c := range map[string]struct {
		plan *layout.Plan
		want map[string]string
	}{
		"as the table says": {same, map[string]string{old: fresh}},
		"as a layout says":  {moved, map[string]string{old: strings.ToLower(otherUUID)}},
		"in an array":       {onArray(planOn("/dev/x")), map[string]string{"PARTUUID=" + old: "UUID=" + rootFS, "/dev/disk/by-partuuid/" + old: "/dev/disk/by-uuid/" + rootFS}},
	} {
		e := &engine{m: m, w: &planned{m: m, plan: c.plan}, changed: map[string]string{old: fresh}}
		if e.followPlaces(); !maps.Equal(e.changed, c.want) {
			t.Errorf("%s: %v, want %v", name, e.changed, c.want)
		}
	}
}
