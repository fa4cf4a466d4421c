package main

import (
	"fmt"
	"strconv"
	"strings"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/imagesrc"
	"swarmboot/internal/progress"
)

// GPT partition types (Discoverable Partitions Specification; Linux file system data) and those of an MBR.
const (
	typeLinuxRootX8664 = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
	typeLinuxData      = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
	typeLinuxSwap      = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"
	mbrLinuxData       = "0x83"
	mbrLinuxSwap       = "0x82"
)

// chooseRoot fills in which partition or logical volume of m is the root: the one asked for ("": none asked for), else a
// partition of the type for it, else the logical volume or partition that looks most like one. foreign is Source.Foreign.
func chooseRoot(m *imagefmt.Manifest, volumes []imagesrc.LogicalVolume, foreign map[int]string, asked string) error {
	if asked != "" {
		return askedRoot(m, volumes, asked)
	}
	part := rootPartition(m.Table, foreign)
	m.Boot.Root = part.Number
	if part.Type == typeLinuxRootX8664 {
		return nil
	}
	mountable := canBeRoot(part.FileSystem, foreign[part.Number])
	if v := likeliest(volumes); v != nil && (isRootName(v.Name) || !mountable || length(*v) > part.Length) {
		setVolume(m, *v)
		return nil
	}
	for _, p := range m.Table.Partitions {
		// An encrypted root beside its /boot, say: to guess wrong costs every node its disk.
		if mountable && isLinuxData(p) && p.FileSystem == "" && !canBeRoot("", foreign[p.Number]) && p.Length > part.Length {
			return cli.Usagef("image create: is partition %s or the larger partition %s the root? --root says it",
				describePartition(part, foreign), describePartition(p, foreign))
		}
	}
	return nil
}

// askedRoot takes the number of a partition, 0 for a disk without a table, or GROUP/VOLUME.
func askedRoot(m *imagefmt.Manifest, volumes []imagesrc.LogicalVolume, asked string) error {
	if strings.Contains(asked, "/") {
		for _, v := range volumes {
			if v.Group+"/"+v.Name == asked && usable(v) {
				setVolume(m, v)
				return nil
			}
		}
		return cli.Usagef("image create: --root %s: the disk has no such linear logical volume", asked)
	}
	number, err := strconv.Atoi(asked)
	if err != nil || number < 0 {
		return cli.Usagef("image create: --root %q: want the number of a partition, or GROUP/VOLUME", asked)
	}
	m.Boot.Root = number
	for _, p := range m.Table.Partitions {
		if p.Number == number {
			return nil
		}
	}
	if number == 0 && len(m.Table.Partitions) == 0 {
		return nil
	}
	return cli.Usagef("image create: --root %d: the disk has no such partition", number)
}

// rootPartition is the partition that holds the system: by type, else the largest with a file system that nodes can take for a
// root, else the largest that may have another one; the zero value without partitions.
func rootPartition(t imagefmt.Table, foreign map[int]string) imagefmt.Partition {
	mountable := func(p imagefmt.Partition) bool { return canBeRoot(p.FileSystem, foreign[p.Number]) }
	for _, match := range []func(imagefmt.Partition) bool{
		func(p imagefmt.Partition) bool { return p.Type == typeLinuxRootX8664 },
		func(p imagefmt.Partition) bool { return isLinuxData(p) && mountable(p) },
		mountable,
		func(p imagefmt.Partition) bool { return isLinuxData(p) && p.FileSystem == "" },
		func(p imagefmt.Partition) bool {
			return p.FileSystem == "" && p.Type != typeLinuxSwap && p.Type != mbrLinuxSwap
		},
		func(imagefmt.Partition) bool { return true },
	} {
		var best imagefmt.Partition
		for _, p := range t.Partitions {
			if !p.Extended() && match(p) && p.Length > best.Length {
				best = p
			}
		}
		if best.Number != 0 {
			return best
		}
	}
	return imagefmt.Partition{}
}

func isLinuxData(p imagefmt.Partition) bool { return p.Type == typeLinuxData || p.Type == mbrLinuxData }

// canBeRoot says whether nodes mount what is there to look for a kernel; foreign is Source.Foreign's word on it.
func canBeRoot(fileSystem, foreign string) bool {
	return isExt(fileSystem) || foreign == "XFS" || foreign == "Btrfs"
}

// likeliest is the volume with "root" in its name, else the largest with a file system for it; nil without any.
func likeliest(volumes []imagesrc.LogicalVolume) *imagesrc.LogicalVolume {
	var best *imagesrc.LogicalVolume
	for i := range volumes {
		v := &volumes[i]
		named := isRootName(v.Name) && (isExt(v.FileSystem) || v.FileSystem == "")
		if !usable(*v) || !named && !canBeRoot(v.FileSystem, v.Foreign) {
			continue
		}
		if best == nil || named && !isRootName(best.Name) || named == isRootName(best.Name) && length(*v) > length(*best) {
			best = v
		}
	}
	return best
}

func isRootName(name string) bool { return strings.Contains(strings.ToLower(name), "root") }

func isExt(fileSystem string) bool {
	return fileSystem == "ext2" || fileSystem == "ext3" || fileSystem == "ext4"
}

func usable(v imagesrc.LogicalVolume) bool {
	return len(v.Segments) > 0 && len(v.Segments) <= imagefmt.MaxVolumeSegments
}

func length(v imagesrc.LogicalVolume) (n int64) {
	for _, s := range v.Segments {
		n += s.Len
	}
	return n
}

func setVolume(m *imagefmt.Manifest, v imagesrc.LogicalVolume) {
	m.Boot.Root = v.Segments[0].Partition
	m.Boot.Volume = &imagefmt.Volume{Name: v.Group + "/" + v.Name}
	for _, s := range v.Segments {
		m.Boot.Volume.Segments = append(m.Boot.Volume.Segments, imagefmt.VolumeSegment{Partition: s.Partition, Off: s.Off, Len: s.Len})
	}
}

// describeRoot is the root that was chosen, with what is on it.
func describeRoot(m *imagefmt.Manifest, volumes []imagesrc.LogicalVolume, foreign map[int]string) string {
	if m.Boot.Volume != nil {
		for _, v := range volumes {
			if v.Group+"/"+v.Name == m.Boot.Volume.Name {
				return fmt.Sprintf("%s (%s, %s)", rootText(m), content(v.FileSystem, v.Foreign), progress.Bytes(length(v)))
			}
		}
	}
	for _, p := range m.Table.Partitions {
		if p.Number == m.Boot.Root {
			return "partition " + describePartition(p, foreign)
		}
	}
	return rootText(m)
}

func describePartition(p imagefmt.Partition, foreign map[int]string) string {
	return fmt.Sprintf("%d (%s, %s)", p.Number, content(p.FileSystem, foreign[p.Number]), progress.Bytes(p.Length))
}

func content(fileSystem, foreign string) string {
	return orText(fileSystem, orText(foreign, "unknown content"))
}
