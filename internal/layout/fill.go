package layout

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"swarmboot/imagefmt"
	"swarmboot/internal/disk"
)

// site is where a Fill goes.
type site struct {
	on       Ref
	size     int64  // bytes
	sector   int    // logical, in bytes
	kind     string // partition type GUID
	number   int    // of the disk in its set, from 1
	several  bool   // other disks get the same
	identity string // what GUIDs are made from
	name     string // for people
}

// source is a part of the image.
type source struct {
	Source imagefmt.Extent
	number int
	part   *imagefmt.Partition // nil for the whole, and where the image is not known
}

// source finds what Fill.Image means.
func (b *builder) source(text string) (source, error) {
	m := b.im.Manifest
	n, err := strconv.Atoi(text)
	switch {
	case text == "":
		return source{}, nil
	case m == nil:
		return source{number: n}, nil
	case text == "whole" && m.Table.Kind == imagefmt.TableNone:
		return source{Source: imagefmt.Extent{Len: m.DiskSize}}, nil
	case text == "whole":
		return source{}, &RefusedError{Reason: "image: whole means a bare file system; this image has a partition table"}
	case m.Table.Kind == imagefmt.TableNone:
		return source{}, &RefusedError{Reason: fmt.Sprintf("image: %q: this image has no partition table, it is a bare file system: image: whole", text)}
	}
	var found []*imagefmt.Partition
	for i := range m.Table.Partitions {
		p := &m.Table.Partitions[i]
		if err == nil && p.Number == n || err != nil && (p.Label == text || p.FSLabel == text) {
			found = append(found, p)
		}
	}
	switch {
	case len(found) == 0:
		return source{}, &RefusedError{Reason: fmt.Sprintf("image: %q: the image has no such partition", text)}
	case len(found) > 1:
		return source{}, &RefusedError{Reason: fmt.Sprintf("image: %q: %d partitions of the image have this label", text, len(found))}
	case found[0].Extended():
		return source{}, &RefusedError{Reason: fmt.Sprintf("image: %q is an extended partition, which holds others", text)}
	}
	p := found[0]
	return source{imagefmt.Extent{Off: p.Start, Len: p.Length}, p.Number, p}, nil
}

// fill plans what goes to a place.
func (b *builder) fill(f Fill, at site) error {
	if f.Image != "" {
		return b.fillImage(f, at)
	}
	if f.FS == "" {
		if at.kind == types["raid"] || f.empty() {
			return nil
		}
		b.mount(f, at.on, at.number, "")
		return nil
	}
	c := Content{On: at.on, FS: f.FS, Label: numberIn(f.FSLabel, at.number), UUID: strings.ToLower(f.FSUUID)}
	if f.FSUUID == "" {
		c.UUID = derived("file system", at.identity, f.FS)
	}
	if f.FS == "vfat" {
		c.UUID = strings.ToUpper(f.FSUUID)
		if f.FSUUID == "" {
			id := strings.ToUpper(derived("file system", at.identity, f.FS))
			c.UUID = id[:4] + "-" + id[4:8]
		}
	}
	b.plan.Contents = append(b.plan.Contents, c)
	b.mount(f, at.on, at.number, f.FS)
	return nil
}

// readByFirmware says whether firmware, or the boot code that it starts, reads partitions of this type.
func readByFirmware(kind string) bool {
	return slices.Contains([]string{types["esp"], types["bios"], types["prep"]}, kind)
}

// fillImage plans a part of the image. Several disks get a copy only of what firmware reads: two file systems with one UUID
// are a trap.
func (b *builder) fillImage(f Fill, at site) error {
	src, err := b.source(f.Image)
	if err != nil {
		return err
	}
	firmware := readByFirmware(at.kind)
	if at.several && !firmware {
		return &RefusedError{Reason: fmt.Sprintf("%s: several disks would hold image: %s, with one UUID: make an array of them", at.name, f.Image)}
	}
	if src.Source.Len > at.size {
		return fmt.Errorf("%s: image: %s does not fit: %w", at.name, f.Image, &disk.TooSmallError{Device: at.name, Size: at.size, Need: src.Source.Len})
	}
	fsType := "auto"
	if src.part != nil {
		if err := convertible(b.im.Manifest, *src.part, at.sector); err != nil {
			return &RefusedError{Reason: fmt.Sprintf("%s: %v", at.name, err)}
		}
		fsType = src.part.FileSystem
	}
	if b.used[src.number] && !firmware && src.Source.Len > 0 {
		return &RefusedError{Reason: fmt.Sprintf("%s: image: %s has another place already, with the same UUID", at.name, f.Image)}
	}
	b.used[src.number] = true
	b.whole = b.whole || f.Image == "whole"
	b.plan.Contents = append(b.plan.Contents, Content{On: at.on, Source: src.Source, Image: src.number, Grow: f.Grow})
	b.mount(f, at.on, at.number, fsType)
	return nil
}

// mount adds the hint for the deployed fstab, if one is asked for; swap always has one.
func (b *builder) mount(f Fill, on Ref, n int, fsType string) {
	if fsType == "" {
		fsType = "auto"
	}
	switch {
	case f.FS == "swap":
		b.plan.Mounts = append(b.plan.Mounts, Mount{On: on, Path: "none", FSType: "swap", Options: f.Options})
	case f.Mount != "":
		b.plan.Mounts = append(b.plan.Mounts, Mount{On: on, Path: numberIn(f.Mount, n), FSType: fsType, Options: f.Options})
	}
}

// complete looks at what of the image has no place: the root file system must have one.
func (b *builder) complete() error {
	m := b.im.Manifest
	if m == nil || b.whole {
		return nil
	}
	if m.Table.Kind == imagefmt.TableNone || m.Boot.Root != 0 && !b.used[m.Boot.Root] {
		what := fmt.Sprintf("partition %d of the image, its root file system", m.Boot.Root)
		if m.Table.Kind == imagefmt.TableNone {
			what = "the image"
		}
		return &RefusedError{Reason: fmt.Sprintf("nothing holds %s", what)}
	}
	for _, p := range m.Table.Partitions {
		if !b.used[p.Number] && !p.Extended() {
			note := fmt.Sprintf("partition %d of the image", p.Number)
			for _, s := range []string{p.Label, p.FileSystem} {
				if s != "" {
					note += ", " + s
				}
			}
			b.plan.Notes = append(b.plan.Notes, note+": has no place")
		}
	}
	if m.Table.Kind == imagefmt.TableMBR && m.Table.BootCode != nil {
		b.plan.Notes = append(b.plan.Notes, "the image's MBR boot code is not used: these disks have a GPT, and start by UEFI only")
	}
	return nil
}
