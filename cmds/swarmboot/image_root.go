package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

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

// candidate is a partition or a logical volume with a file system that nodes can take for a root.
type candidate struct {
	part   imagefmt.Partition
	volume *imagesrc.LogicalVolume // nil: the partition itself
	top    []string                // names in its root directory; nil where they are not known
}

// chooseRoot fills in which partition or logical volume of m is the root: the one asked for ("": none asked for), else a
// partition of the type for it, else the one that can be it. Where that is more than one and neither what is in them nor their names tell, it is
// an error that lists them: to guess wrong costs every node its disk. foreign and top are Source.Foreign and Source.Top.
func chooseRoot(m *imagefmt.Manifest, volumes []imagesrc.LogicalVolume, foreign map[int]string, top map[int][]string, asked string) error {
	if asked != "" {
		return askedRoot(m, volumes, asked)
	}
	if typed := largest(m.Table, func(p imagefmt.Partition) bool { return p.Type == typeLinuxRootX8664 }); typed.Number != 0 {
		m.Boot.Root = typed.Number
		return nil
	}
	list := likely(candidates(m.Table, volumes, foreign, top))
	if len(list) == 2 && (list[0].volume == nil) != (list[1].volume == nil) { // a /boot and a system on LVM, or a system and a volume of it
		slices.SortFunc(list, func(a, b candidate) int { return cmp.Compare(b.length(), a.length()) })
		list = list[:1]
	}
	switch {
	case len(list) == 0:
		m.Boot.Root = unknownRoot(m.Table).Number
		return nil
	case len(list) > 1:
		var texts []string
		for _, c := range list {
			texts = append(texts, c.describe(foreign))
		}
		return cli.Usagef("image create: which is the root: %s? --root says it", strings.Join(texts, ", "))
	case list[0].volume != nil:
		setVolume(m, *list[0].volume)
		return nil
	}
	part := list[0].part
	m.Boot.Root = part.Number
	for _, p := range m.Table.Partitions {
		if isLinuxData(p) && p.FileSystem == "" && !canBeRoot("", foreign[p.Number]) && p.Length > part.Length { // an encrypted root beside its /boot, say
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

// candidates are the partitions of Linux, else of any type, and the logical volumes that have a file system for a root.
func candidates(t imagefmt.Table, volumes []imagesrc.LogicalVolume, foreign map[int]string, top map[int][]string) []candidate {
	var list, others []candidate
	for _, p := range t.Partitions {
		switch {
		case p.Extended() || !canBeRoot(p.FileSystem, foreign[p.Number]):
		case isLinuxData(p):
			list = append(list, candidate{part: p, top: top[p.Number]})
		default:
			others = append(others, candidate{part: p, top: top[p.Number]})
		}
	}
	if len(list) == 0 {
		list = others
	}
	for i := range volumes {
		v := &volumes[i]
		if usable(*v) && (canBeRoot(v.FileSystem, v.Foreign) || v.FileSystem == "" && isRootName(v.Name)) {
			list = append(list, candidate{volume: v, top: v.Top})
		}
	}
	return list
}

// likely drops those that hold something else than a system, as long as others are left, and keeps of the others those whose names say that
// they are a root, else those whose names say nothing.
func likely(list []candidate) []candidate {
	if maybe := slices.DeleteFunc(slices.Clone(list), func(c candidate) bool { return c.top != nil && !c.system() }); len(maybe) > 0 {
		list = maybe
	}
	var roots, rest []candidate
	for _, c := range list {
		root, other := false, false
		for _, name := range c.names() {
			root, other = root || isRootName(name), other || isOtherName(name)
		}
		switch {
		case root && !other:
			roots = append(roots, c)
		case root == other:
			rest = append(rest, c)
		}
	}
	switch {
	case len(list) < 2, len(roots)+len(rest) == 0:
		return list
	case len(roots) > 0:
		return roots
	}
	return rest
}

// system says whether there is a system for sure; /boot, /home and a file system that is empty have no such directories.
func (c candidate) system() bool {
	return slices.Contains(c.top, "etc") && slices.ContainsFunc([]string{"usr", "bin", "sbin", "lib"}, func(name string) bool { return slices.Contains(c.top, name) })
}

func (c candidate) names() []string {
	if c.volume != nil {
		return []string{c.volume.Name}
	}
	return []string{c.part.Label, c.part.FSLabel}
}

func (c candidate) length() int64 {
	if c.volume != nil {
		return length(*c.volume)
	}
	return c.part.Length
}

func (c candidate) describe(foreign map[int]string) string {
	if v := c.volume; v != nil {
		return "logical volume " + describeVolume(*v)
	}
	return "partition " + describePartition(c.part, foreign)
}

// unknownRoot is the largest partition that may hold a system of which nothing is known; the zero value without partitions.
func unknownRoot(t imagefmt.Table) imagefmt.Partition {
	for _, match := range []func(imagefmt.Partition) bool{
		func(p imagefmt.Partition) bool { return isLinuxData(p) && p.FileSystem == "" },
		func(p imagefmt.Partition) bool {
			return p.FileSystem == "" && p.Type != typeLinuxSwap && p.Type != mbrLinuxSwap
		},
		func(imagefmt.Partition) bool { return true },
	} {
		if p := largest(t, match); p.Number != 0 {
			return p
		}
	}
	return imagefmt.Partition{}
}

// largest is the zero value where no partition matches.
func largest(t imagefmt.Table, match func(imagefmt.Partition) bool) (best imagefmt.Partition) {
	for _, p := range t.Partitions {
		if !p.Extended() && match(p) && p.Length > best.Length {
			best = p
		}
	}
	return best
}

func isLinuxData(p imagefmt.Partition) bool { return p.Type == typeLinuxData || p.Type == mbrLinuxData }

// canBeRoot says whether nodes mount what is there to look for a kernel; foreign is Source.Foreign's word on it.
func canBeRoot(fileSystem, foreign string) bool {
	return isExt(fileSystem) || foreign == "XFS" || foreign == "Btrfs"
}

func isRootName(name string) bool { return strings.Contains(strings.ToLower(name), "root") }

// isOtherName says whether a word of a label or name is what people call file systems that are not the root.
func isOtherName(name string) bool {
	return slices.ContainsFunc(strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return !unicode.IsLetter(r) }), func(word string) bool {
		return slices.Contains([]string{"backup", "backups", "boot", "cache", "data", "docker", "home", "log", "logs", "media", "opt", "scratch", "srv", "storage", "tmp", "usr", "var"}, word)
	})
}

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
				return "logical volume " + describeVolume(v)
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

func describeVolume(v imagesrc.LogicalVolume) string {
	return fmt.Sprintf("%s/%s (%s, %s)", v.Group, v.Name, content(v.FileSystem, v.Foreign), progress.Bytes(length(v)))
}

func describePartition(p imagefmt.Partition, foreign map[int]string) string {
	text := fmt.Sprintf("%d (%s, %s", p.Number, content(p.FileSystem, foreign[p.Number]), progress.Bytes(p.Length))
	for _, name := range slices.Compact([]string{p.Label, p.FSLabel}) {
		if name != "" {
			text += fmt.Sprintf(", %q", name)
		}
	}
	return text + ")"
}

func content(fileSystem, foreign string) string {
	return orText(fileSystem, orText(foreign, "unknown content"))
}
