package main

import (
	"strconv"
	"strings"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/imagesrc"
)

// chooseRoot fills in which partition or logical volume of m is the root: the one asked for ("": none asked for), else a
// partition of the type for it, else the logical volume or partition that looks most like one.
func chooseRoot(m *imagefmt.Manifest, volumes []imagesrc.LogicalVolume, asked string) error {
	if strings.Contains(asked, "/") {
		for _, v := range volumes {
			if v.Group+"/"+v.Name == asked && usable(v) {
				setVolume(m, v)
				return nil
			}
		}
		return cli.Usagef("image create: --root %s: the disk has no such linear logical volume", asked)
	}
	number := -1
	if asked != "" {
		n, err := strconv.Atoi(asked)
		if err != nil || n < 0 {
			return cli.Usagef("image create: --root %q: want the number of a partition, or GROUP/VOLUME", asked)
		}
		number = n
	}
	var err error
	if m.Boot.Root, err = rootPartition(m.Table, number); err != nil || number >= 0 {
		return err
	}
	var part imagefmt.Partition
	for _, p := range m.Table.Partitions {
		if p.Number == m.Boot.Root {
			part = p
		}
	}
	if v := likeliest(volumes); v != nil && part.Type != typeLinuxRootX8664 && (isRootName(v.Name) || !isExt(part.FileSystem) || length(*v) > part.Length) {
		setVolume(m, *v)
	}
	return nil
}

// likeliest is the volume with "root" in its name, else the largest ext file system; nil without any.
func likeliest(volumes []imagesrc.LogicalVolume) *imagesrc.LogicalVolume {
	var best *imagesrc.LogicalVolume
	for i := range volumes {
		v := &volumes[i]
		named := isRootName(v.Name) && (isExt(v.FileSystem) || v.FileSystem == "") // such as XFS, which is not known here
		if !usable(*v) || !named && !isExt(v.FileSystem) {
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
