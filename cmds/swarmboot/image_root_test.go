package main

import (
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/imagesrc"
)

func TestChooseRoot(t *testing.T) {
	const mib = 1 << 20
	lv := func(name, fs string, size int64) imagesrc.LogicalVolume {
		return imagesrc.LogicalVolume{Group: "vg", Name: name, FileSystem: fs, Segments: []imagesrc.Segment{{Partition: 3, Off: mib, Len: size}}}
	}
	esp := imagefmt.Partition{Number: 1, Length: 64 * mib, Type: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", FileSystem: "vfat"}
	boot := imagefmt.Partition{Number: 2, Length: 512 * mib, Type: typeLinuxData, FileSystem: "ext4"}
	pv := imagefmt.Partition{Number: 3, Length: 9000 * mib, FileSystem: "LVM2_member"}
	typed := imagefmt.Partition{Number: 2, Length: 512 * mib, Type: typeLinuxRootX8664, FileSystem: "ext4"}
	for _, tt := range []struct {
		name, asked string
		parts       []imagefmt.Partition
		volumes     []imagesrc.LogicalVolume
		root        int
		volume      string
		fails       bool
	}{
		{"named", "", []imagefmt.Partition{esp, boot, pv}, []imagesrc.LogicalVolume{lv("home", "ext4", 4000*mib), lv("root", "ext4", 100*mib), lv("swap", "swap", 8000*mib)}, 3, "vg/root", false},
		{"named, unknown file system", "", []imagefmt.Partition{esp, boot, pv}, []imagesrc.LogicalVolume{lv("home", "ext4", 4000*mib), lv("lv_root", "", 100*mib)}, 3, "vg/lv_root", false},
		{"swap is no root", "", []imagefmt.Partition{esp, boot, pv}, []imagesrc.LogicalVolume{lv("rootswap", "swap", 100*mib)}, 2, "", false},
		{"larger than boot", "", []imagefmt.Partition{esp, boot, pv}, []imagesrc.LogicalVolume{lv("sys", "ext4", 1000*mib)}, 3, "vg/sys", false},
		{"smaller than the root", "", []imagefmt.Partition{esp, boot, pv}, []imagesrc.LogicalVolume{lv("data", "ext4", 100*mib)}, 2, "", false},
		{"typed", "", []imagefmt.Partition{esp, typed, pv}, []imagesrc.LogicalVolume{lv("root", "ext4", 1000*mib)}, 2, "", false},
		{"no volumes", "", []imagefmt.Partition{esp, boot, pv}, nil, 2, "", false},
		{"asked for", "vg/home", []imagefmt.Partition{esp, boot, pv}, []imagesrc.LogicalVolume{lv("home", "ext4", 40*mib), lv("root", "ext4", 100*mib)}, 3, "vg/home", false},
		{"partition asked for", "2", []imagefmt.Partition{esp, boot, pv}, []imagesrc.LogicalVolume{lv("root", "ext4", 100*mib)}, 2, "", false},
		{"asked for and not there", "vg/x", []imagefmt.Partition{esp, boot, pv}, nil, 0, "", true},
		{"no number", "x", []imagefmt.Partition{esp}, nil, 0, "", true},
		{"negative", "-1", []imagefmt.Partition{esp}, nil, 0, "", true},
	} {
		m := &imagefmt.Manifest{Table: imagefmt.Table{Kind: imagefmt.TableGPT, Partitions: tt.parts}}
		err := chooseRoot(m, tt.volumes, tt.asked)
		name := ""
		if m.Boot.Volume != nil {
			name = m.Boot.Volume.Name
		}
		if (err != nil) != tt.fails || !tt.fails && (m.Boot.Root != tt.root || name != tt.volume) {
			t.Errorf("%s: partition %d, volume %q, %v", tt.name, m.Boot.Root, name, err)
		}
	}
}
