package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
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
		err := chooseRoot(m, tt.volumes, nil, nil, tt.asked)
		name := ""
		if m.Boot.Volume != nil {
			name = m.Boot.Volume.Name
		}
		if (err != nil) != tt.fails || !tt.fails && (m.Boot.Root != tt.root || name != tt.volume) {
			t.Errorf("%s: partition %d, volume %q, %v", tt.name, m.Boot.Root, name, err)
		}
	}
}

// TestChooseRootByTop: what is in file systems says more than their names, as far as they can be looked into.
func TestChooseRootByTop(t *testing.T) {
	const gib = 1 << 30
	boot, system, home := []string{"lost+found", "grub", "vmlinuz-6.1"}, []string{"lost+found", "etc", "usr", "bin"}, []string{"lost+found", "alice"}
	for _, tt := range []struct {
		name    string
		labels  [3]string // of partitions 1 to 3, each larger than the one before
		top     map[int][]string
		foreign int // the partition that is XFS, 0: none
		want    string
	}{
		{"a system", [3]string{}, map[int][]string{1: boot, 2: system, 3: home}, 0, ""},
		{"two systems, one says root", [3]string{"", "root", "spare"}, map[int][]string{1: boot, 2: system, 3: system}, 0, ""},
		{"two systems", [3]string{"root", "", ""}, map[int][]string{1: boot, 2: system, 3: system}, 0,
			"image create: which is the root: partition 2 (ext4, 2.0 GiB), partition 3 (ext4, 3.0 GiB)? --root says it"},
		{"XFS beside ext4 of other things", [3]string{}, map[int][]string{1: boot, 3: home}, 2, ""},
		{"a system beside XFS", [3]string{}, map[int][]string{1: boot, 2: system}, 3,
			"image create: which is the root: partition 2 (ext4, 2.0 GiB), partition 3 (XFS, 3.0 GiB)? --root says it"},
		{"a system beside XFS of a name", [3]string{"", "", "home"}, map[int][]string{1: boot, 2: system}, 3, ""},
		{"a label that lies", [3]string{"root"}, map[int][]string{1: boot, 2: system, 3: home}, 0, ""},
		{"nothing in any", [3]string{"", "root", "home"}, map[int][]string{1: {"lost+found"}, 2: {"lost+found"}, 3: {"lost+found"}}, 0, ""},
	} {
		m := &imagefmt.Manifest{Table: imagefmt.Table{Kind: imagefmt.TableGPT}}
		foreign := map[int]string{}
		for i, label := range tt.labels {
			p := imagefmt.Partition{Number: i + 1, Start: int64(i*i) * gib, Length: int64(i+1) * gib, Type: typeLinuxData, FileSystem: "ext4", Label: label}
			if p.Number == tt.foreign {
				p.FileSystem, foreign[p.Number] = "", "XFS"
			}
			m.Table.Partitions = append(m.Table.Partitions, p)
		}
		err := chooseRoot(m, nil, foreign, tt.top, "")
		if tt.want == "" && (err != nil || m.Boot.Root != 2) || tt.want != "" && (err == nil || err.Error() != tt.want) {
			t.Errorf("%s: partition %d, %v, want %q", tt.name, m.Boot.Root, err, tt.want)
		}
	}
}

// TestImageRoot: a disk with a /home that is larger than the root, by the names that sfdisk and mkfs gave, and by what is in it.
func TestImageRoot(t *testing.T) {
	dir := t.TempDir()
	disk, name := filepath.Join(dir, "disk"), filepath.Join(dir, "img")
	for _, tt := range []struct {
		root, home string // the ends of sfdisk's lines
		code       int
		want       string
	}{
		{", name=root", ", name=home", cli.CodeDone, `root: partition 2 (ext4, 8.0 MiB, "root")`},
		{"", ", name=home", cli.CodeDone, "root: partition 2 (ext4, 8.0 MiB)"},
		{"", "", cli.CodeUsage, "which is the root: partition 2 (ext4, 8.0 MiB), partition 3 (ext4, 24.0 MiB)? --root says it"},
	} {
		makeDisk(t, disk, 40*mib, "label: gpt\nstart=1MiB, size=2MiB, type=uefi\nstart=3MiB, size=8MiB, type=L"+tt.root+"\nstart=11MiB, size=24MiB, type=L"+tt.home+"\n",
			[]part{{1 * mib, 2 * mib, ""}})
		for _, offset := range []int{3, 11} {
			judge(t, "", "mkfs.ext4", "-q", "-F", "-E", fmt.Sprintf("offset=%d", offset*mib), disk, map[int]string{3: "8M", 11: "24M"}[offset])
		}
		if code, _, msg := runTool(t, "image", "create", "--overwrite", disk, name); code != tt.code || !strings.Contains(msg, tt.want) {
			t.Errorf("%q and %q: code %d: %s", tt.root, tt.home, code, msg)
		}
	}
	mustRun(t, "image", "create", "--overwrite", "--root", "2", disk, name)
	system := filepath.Join(dir, "system")
	for _, d := range []string{"etc", "usr/bin"} {
		if err := os.MkdirAll(filepath.Join(system, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	judge(t, "", "mkfs.ext4", "-q", "-F", "-d", system, "-E", fmt.Sprintf("offset=%d", 3*mib), disk, "8M")
	if _, msg := mustRun(t, "image", "create", "--overwrite", disk, name); !strings.Contains(msg, "root: partition 2 (ext4, 8.0 MiB)") {
		t.Error(msg)
	}
}

// TestChooseRootByContent has disks as installers of several systems leave them.
func TestChooseRootByContent(t *testing.T) {
	const gib = 1 << 30
	part := func(number int, size int64, kind, fs string) imagefmt.Partition {
		return imagefmt.Partition{Number: number, Length: size, Type: kind, FileSystem: fs}
	}
	labelled := func(p imagefmt.Partition, label, fsLabel string) imagefmt.Partition {
		p.Label, p.FSLabel = label, fsLabel
		return p
	}
	list := func(p ...imagefmt.Partition) []imagefmt.Partition { return p }
	const espType, biosBoot = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "21686148-6449-6E6F-744E-656564454649"
	sys := imagesrc.LogicalVolume{Group: "vg", Name: "sys", Foreign: "XFS", Segments: []imagesrc.Segment{{Partition: 2, Off: 1 << 20, Len: 20 * gib}}}
	more := sys
	more.Name = "more"
	for _, tt := range []struct {
		name    string
		kind    string
		parts   []imagefmt.Partition
		volumes []imagesrc.LogicalVolume
		foreign map[int]string
		want    string // of describeRoot, or the error
	}{
		{"Debian of the demo", "gpt", list(part(14, 1<<20, biosBoot, ""), part(15, 64<<20, espType, "vfat"), part(1, 2*gib, typeLinuxRootX8664, "ext4")), nil,
			nil, "partition 1 (ext4, 2.0 GiB)"},
		{"/boot ext4, / XFS", "gpt", list(part(1, gib, espType, "vfat"), labelled(part(2, gib, typeLinuxData, "ext4"), "", "boot"), part(3, 20*gib, typeLinuxData, "")), nil,
			map[int]string{3: "XFS"}, "partition 3 (XFS, 20.0 GiB)"},
		{"/boot ext4, / btrfs", "gpt", list(part(1, gib, typeLinuxData, "ext4"), labelled(part(2, 20*gib, typeLinuxData, ""), "Root Partition", "")), nil, map[int]string{2: "Btrfs"},
			`partition 2 (Btrfs, 20.0 GiB, "Root Partition")`},
		{"XFS and more swap", "mbr", list(part(1, 20*gib, mbrLinuxData, ""), part(2, 64*gib, mbrLinuxSwap, "swap")), nil, map[int]string{1: "XFS"},
			"partition 1 (XFS, 20.0 GiB)"},
		{"logical", "mbr", list(labelled(part(1, gib, mbrLinuxData, "ext4"), "", "/boot"), part(2, 40*gib, "0x0f", ""), part(5, 20*gib, mbrLinuxData, "")), nil, map[int]string{5: "XFS"},
			"partition 5 (XFS, 20.0 GiB)"},
		{"not known, and more hibernated swap", "mbr", list(part(1, 20*gib, "0xa5", ""), part(2, 64*gib, mbrLinuxSwap, ""), part(3, 90*gib, "0x85", "")), nil, nil,
			"partition 1 (unknown content, 20.0 GiB)"},
		{"NTFS", "gpt", list(part(1, gib, espType, "vfat"), part(3, 40*gib, "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", "")), nil, map[int]string{3: "NTFS"},
			"partition 3 (NTFS, 40.0 GiB)"},
		{"only FAT", "mbr", list(part(1, gib, "0x0c", "vfat")), nil, nil, "partition 1 (vfat, 1.0 GiB)"},
		{"encrypted", "gpt", list(part(2, gib, typeLinuxData, "ext4"), part(3, 20*gib, typeLinuxData, "")), nil, map[int]string{3: "LUKS"},
			"image create: is partition 2 (ext4, 1.0 GiB) or the larger partition 3 (LUKS, 20.0 GiB) the root? --root says it"},
		{"never formatted", "mbr", list(part(1, gib, mbrLinuxData, "ext4"), part(2, 20*gib, mbrLinuxData, "")), nil, nil,
			"image create: is partition 1 (ext4, 1.0 GiB) or the larger partition 2 (unknown content, 20.0 GiB) the root? --root says it"},
		{"smaller unknown", "gpt", list(part(2, 9*gib, typeLinuxData, "ext4"), part(3, gib, typeLinuxData, "")), nil, nil, "partition 2 (ext4, 9.0 GiB)"},
		{"/boot XFS, / XFS in LVM", "gpt", list(part(1, gib, typeLinuxData, ""), part(2, 40*gib, "", "LVM2_member")), []imagesrc.LogicalVolume{sys},
			map[int]string{1: "XFS"}, "logical volume vg/sys (XFS, 20.0 GiB)"},
		{"a larger /home", "gpt", list(part(1, gib, espType, "vfat"), labelled(part(2, gib, typeLinuxData, "ext4"), "root", ""), labelled(part(3, 9*gib, typeLinuxData, "ext4"), "home", "")),
			nil, nil, `partition 2 (ext4, 1.0 GiB, "root")`},
		{"labels of file systems", "mbr", list(labelled(part(1, gib, mbrLinuxData, "ext4"), "", "cloudimg-rootfs"), labelled(part(2, 9*gib, mbrLinuxData, "ext4"), "", "work")), nil, nil,
			`partition 1 (ext4, 1.0 GiB, "cloudimg-rootfs")`},
		{"all others are named", "gpt", list(labelled(part(1, gib, typeLinuxData, "ext4"), "BOOT", ""), part(2, 2*gib, typeLinuxData, "ext4"),
			labelled(part(3, 9*gib, typeLinuxData, "ext4"), "", "var-log"), labelled(part(4, 9*gib, typeLinuxData, ""), "lv_home", "")), nil, map[int]string{4: "XFS"}, "partition 2 (ext4, 2.0 GiB)"},
		{"no names", "gpt", list(part(1, gib, espType, "vfat"), part(2, gib, typeLinuxData, "ext4"), part(3, 9*gib, typeLinuxData, "")), nil, map[int]string{3: "XFS"},
			"image create: which is the root: partition 2 (ext4, 1.0 GiB), partition 3 (XFS, 9.0 GiB)? --root says it"},
		{"two roots", "gpt", list(labelled(part(2, gib, typeLinuxData, "ext4"), "root-a", ""), labelled(part(3, gib, typeLinuxData, "ext4"), "root-b", ""), part(4, 9*gib, typeLinuxData, "ext4")), nil, nil,
			`image create: which is the root: partition 2 (ext4, 1.0 GiB, "root-a"), partition 3 (ext4, 1.0 GiB, "root-b")? --root says it`},
		{"names that contradict", "gpt", list(labelled(part(2, gib, typeLinuxData, "ext4"), "root", "old data"), part(3, 9*gib, typeLinuxData, "ext4")), nil, nil,
			`image create: which is the root: partition 2 (ext4, 1.0 GiB, "root", "old data"), partition 3 (ext4, 9.0 GiB)? --root says it`},
		{"none by name", "gpt", list(labelled(part(2, gib, typeLinuxData, "ext4"), "boot", ""), labelled(part(3, 9*gib, typeLinuxData, "ext4"), "data", "")), nil, nil,
			`image create: which is the root: partition 2 (ext4, 1.0 GiB, "boot"), partition 3 (ext4, 9.0 GiB, "data")? --root says it`},
		{"volumes", "gpt", list(part(1, gib, typeLinuxData, "ext4"), part(2, 40*gib, "", "LVM2_member")), []imagesrc.LogicalVolume{sys, more}, nil,
			"image create: which is the root: partition 1 (ext4, 1.0 GiB), logical volume vg/sys (XFS, 20.0 GiB), logical volume vg/more (XFS, 20.0 GiB)? --root says it"},
		{"a root beside LVM with data", "gpt", list(labelled(part(1, gib, typeLinuxData, "ext4"), "", "root"), part(2, 40*gib, "", "LVM2_member")), []imagesrc.LogicalVolume{sys, more}, nil,
			`partition 1 (ext4, 1.0 GiB, "root")`},
		{"no table", "none", nil, nil, nil, "the whole disk"},
	} {
		m := &imagefmt.Manifest{Table: imagefmt.Table{Kind: tt.kind, Partitions: tt.parts}}
		var got string
		if err := chooseRoot(m, tt.volumes, tt.foreign, nil, ""); err != nil {
			got = err.Error()
		} else {
			got = describeRoot(m, tt.volumes, tt.foreign)
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
