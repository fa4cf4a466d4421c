package layout

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf16"

	"swarmboot/internal/disk"
)

// maxNumber is the size of the partition arrays that are written (UEFI 2.10, 5.3).
const maxNumber = 128

var (
	uuidRE   = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
	volumeRE = regexp.MustCompile(`^[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}$`)
)

// labelLimits is how many bytes the label of a file system may have.
var labelLimits = map[string]int{"ext4": 16, "xfs": 12, "swap": 15, "vfat": 11}

func (s *DiskSet) checkPartitions(c checker, most int) {
	if !c.bounded(len(s.Partitions), maxNumber) {
		return
	}
	names, numbers, labels := map[string]bool{}, map[int]bool{}, map[string]bool{}
	rest, percent := 0, 0.0
	for i := range s.Partitions {
		p, c := &s.Partitions[i], c.in(i)
		c.in("name").name(p.Name, nameRE, names)
		size, err := parsePartitionSize(p.Size)
		switch {
		case err != nil:
			c.in("size").Fail("%v", err)
		case size.rest:
			rest++
		}
		percent += size.percent
		if p.Number < 0 || p.Number > maxNumber || p.Number > 0 && numbers[p.Number] {
			c.in("number").Fail("%d: want a number from 1 to %d that no other partition has", p.Number, maxNumber)
		}
		numbers[p.Number] = true
		if p.Keep != "" && labels[p.label()] {
			c.in("label").Fail("%q: another partition that is kept has this label", p.label())
		}
		labels[p.label()] = labels[p.label()] || p.Keep != ""
		p.check(c, most)
	}
	if rest > 1 {
		c.Fail("size: rest stands in %d partitions", rest)
	}
	if percent > 100 {
		c.Fail("%g %% of the disk are given away", percent)
	}
}

// label is the partition's name in the table, before {n} is filled in.
func (p *Partition) label() string {
	if p.Label != "" {
		return p.Label
	}
	return p.Name
}

func (p *Partition) check(c checker, most int) {
	if _, ok := typeGUID(p.Type); !ok {
		c.in("type").Fail("%.60q: want a GUID or one of %s", p.Type, strings.Join(TypeNames(), ", "))
	}
	if !printable(p.Label) || len(utf16.Encode([]rune(p.Label))) > 36 {
		c.in("label").Fail("%.80q: want at most 36 printable characters", p.Label)
	}
	switch {
	case p.UUID != "" && !uuidRE.MatchString(p.UUID):
		c.in("uuid").Fail("%.60q: not a UUID", p.UUID)
	case p.UUID != "" && most > 1:
		c.in("uuid").Fail("several disks would have partitions with this UUID")
	}
	for i, a := range p.Attributes {
		if _, ok := attribute(a); !ok {
			c.in("attributes", i).Fail("%.40q: want one of %s", a, strings.Join(attributeNames(), ", "))
		}
	}
	c.in("keep").oneOf(string(p.Keep), string(KeepYes), string(KeepOrCreate))
	if p.Keep == KeepYes {
		for field, set := range map[string]bool{
			"size": p.Size != "", "type": p.Type != "", "uuid": p.UUID != "", "attributes": len(p.Attributes) > 0,
			"image": p.Image != "", "fs": p.FS != "", "fsLabel": p.FSLabel != "", "fsUUID": p.FSUUID != "",
		} {
			if set {
				c.in(field).Fail("the partition is kept as it is: this goes with keep: or-create only")
			}
		}
	}
	if p.Keep != "" && p.Image != "" {
		c.in("image").Fail("a partition that is kept holds nothing of the image")
	}
	if p.Keep != KeepYes && p.Size == "" && p.Image == "" {
		c.in("size").Fail("is missing: want 512M, 30%%, rest, or an image's partition to be as large as")
	}
	p.Fill.check(c, most, p.Keep != "")
}

// empty says whether nothing is asked for.
func (f *Fill) empty() bool { return *f == Fill{} }

func (f *Fill) check(c checker, most int, kept bool) {
	if f.Image != "" && f.FS != "" {
		c.in("fs").Fail("image and fs exclude each other")
	}
	if !printable(f.Image) || len(f.Image) > 144 {
		c.in("image").Fail("%.80q: want the number or the label of a partition of the image, or whole", f.Image)
	}
	if f.Grow && f.Image == "" {
		c.in("grow").Fail("goes with image only: an empty file system is made as large as its place")
	}
	f.checkFS(c, most)
	f.checkMount(c, most, kept)
}

func (f *Fill) checkFS(c checker, most int) {
	limit, known := labelLimits[f.FS]
	switch {
	case f.FS == "":
		if f.FSLabel != "" {
			c.in("fsLabel").Fail("goes with fs only")
		}
		if f.FSUUID != "" {
			c.in("fsUUID").Fail("goes with fs only")
		}
		return
	case !known:
		c.in("fs").Fail("%.40q: want one of ext4, swap, vfat, xfs", f.FS)
		return
	}
	if !printable(f.FSLabel) || len(strings.ReplaceAll(f.FSLabel, "{n}", "999")) > limit {
		c.in("fsLabel").Fail("%.80q: %s has room for %d bytes", f.FSLabel, f.FS, limit)
	}
	re := uuidRE
	if f.FS == "vfat" {
		re = volumeRE
	}
	switch {
	case f.FSUUID != "" && !re.MatchString(f.FSUUID):
		c.in("fsUUID").Fail("%.60q: not a UUID of %s", f.FSUUID, f.FS)
	case f.FSUUID != "" && most > 1:
		c.in("fsUUID").Fail("several disks would have file systems with this UUID")
	}
}

func (f *Fill) checkMount(c checker, most int, kept bool) {
	if f.Mount != "" && f.Image == "" && f.FS == "" && !kept {
		c.in("mount").Fail("there is nothing to mount: want image or fs")
	}
	if f.Options != "" && f.Mount == "" && f.FS != "swap" {
		c.in("options").Fail("goes with mount only")
	}
	if !printable(f.Options) || strings.ContainsAny(f.Options, " #") || len(f.Options) > 1024 {
		c.in("options").Fail("%.80q: want words joined by commas", f.Options)
	}
	switch {
	case f.Mount == "":
	case f.FS == "swap":
		c.in("mount").Fail("swap is not mounted")
	case !strings.HasPrefix(f.Mount, "/") || path.Clean(f.Mount) != f.Mount || !printable(f.Mount) || strings.ContainsAny(f.Mount, " #\\") || len(f.Mount) > 1024:
		c.in("mount").Fail("%.80q: not an absolute path in its shortest form without blanks", f.Mount)
	case most > 1 && !strings.Contains(f.Mount, "{n}"):
		c.in("mount").Fail("%q: several disks would be mounted there: {n} stands for the number of the disk", f.Mount)
	}
}

// Files returns the selectors that are nothing but a path, in order: those of regular files name disks that no
// inventory lists on its own (disk.ReadInventory).
func (l *Layout) Files() []string {
	var paths []string
	for _, k := range l.Candidates {
		for _, s := range k.Disks {
			for _, text := range s.Select {
				if strings.HasPrefix(text, "/") && !strings.Contains(text, ",") && !slices.Contains(paths, text) {
					paths = append(paths, text)
				}
			}
		}
	}
	return paths
}

// selectors parses what Check has found to be good.
func (s *DiskSet) selectors() ([]disk.Selector, error) {
	texts := s.Select
	if len(texts) == 0 {
		texts = Selectors{"only"}
	}
	var list []disk.Selector
	for _, text := range texts {
		sel, err := disk.ParseSelector(text)
		if err != nil {
			return nil, err
		}
		list = append(list, sel)
	}
	return list, nil
}
