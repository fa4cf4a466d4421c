package deploy

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"swarmboot/imagefmt"
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
	p := &params.Profile{NewUUIDs: &yes}
	segment := imagefmt.VolumeSegment{Off: 0, Len: 512}
	for _, tt := range []struct {
		o    Options
		v    *imagefmt.Volume
		want string
	}{
		{Options{}, nil, ""},
		{Options{Layout: "raid1"}, nil, "not together with a layout"},
		{Options{}, &imagefmt.Volume{Name: "vg/root", Segments: []imagefmt.VolumeSegment{segment, segment}}, "lies in 2 pieces"},
	} {
		e := &engine{o: tt.o, m: &imagefmt.Manifest{Boot: imagefmt.Boot{Volume: tt.v}}}
		if err := e.prepareUUIDs(p); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
}
