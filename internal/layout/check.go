package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"swarmboot/internal/disk"
	"swarmboot/internal/field"
)

// Bounds of a layout; nobody comes near them.
const (
	maxCandidates = 32
	maxSets       = 16
	maxSelectors  = 64
	maxRaids      = 32
)

// Parse reads a layout from JSON, strictly, and checks it.
func Parse(b []byte) (*Layout, error) {
	if len(b) > MaxLayout {
		return nil, fmt.Errorf("layout: more than %d bytes", MaxLayout)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	l := &Layout{}
	if err := d.Decode(l); err != nil {
		return nil, fmt.Errorf("layout: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("layout: data after the JSON object")
	}
	if errs := l.Check(); len(errs) > 0 {
		return nil, fmt.Errorf("layout: %w", errs[0])
	}
	return l, nil
}

// checker knows what fields of layouts have in common.
type checker struct{ field.Checker }

func (c checker) in(path ...any) checker { return checker{c.In(path...)} }

func (c checker) oneOf(v string, values ...string) {
	if v != "" && !slices.Contains(values, v) {
		c.Fail("%.40q: want one of %s", v, strings.Join(values, ", "))
	}
}

// bounded says whether a list of n may be looked at.
func (c checker) bounded(n, limit int) bool {
	if n > limit {
		c.Fail("%d entries, at most %d are taken", n, limit)
	}
	return n <= limit
}

var (
	nameRE      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,30}$`)
	candidateRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 .,+_-]{0,63}$`)
)

// name checks a name and that it is new among those seen.
func (c checker) name(v string, re *regexp.Regexp, seen map[string]bool) {
	switch {
	case v == "":
		c.Fail("is missing")
	case !re.MatchString(v):
		c.Fail("%.80q: want letters, digits and ._-, a letter or digit first", v)
	case seen[v]:
		c.Fail("%q: stands here twice", v)
	}
	seen[v] = true
}

// printable says whether s can stand in a table, a message or an fstab.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// Check returns everything that is wrong with the layout itself, whatever machine it is for.
func (l *Layout) Check() []*field.Error {
	var errs []*field.Error
	c := checker{field.New(&errs)}.in("candidates")
	if len(l.Candidates) == 0 {
		c.Fail("is missing: a layout needs at least one candidate")
	}
	if c.bounded(len(l.Candidates), maxCandidates) {
		seen := map[string]bool{}
		for i := range l.Candidates {
			c.in(i, "name").name(l.Candidates[i].Name, candidateRE, seen)
			l.Candidates[i].check(c.in(i))
		}
	}
	return errs
}

func (k *Candidate) check(c checker) {
	d := c.in("disks")
	if len(k.Disks) == 0 {
		d.Fail("is missing: a candidate needs at least one set of disks")
	}
	if !d.bounded(len(k.Disks), maxSets) || !c.in("raid").bounded(len(k.Raid), maxRaids) {
		return
	}
	seen, scaled := map[string]bool{}, 0
	for i := range k.Disks {
		s := &k.Disks[i]
		d.in(i, "name").name(s.Name, nameRE, seen)
		s.check(d.in(i), k.raidOf(s.Name))
		if s.Scale != "" {
			scaled++
		}
	}
	if scaled > 1 {
		d.Fail("scale: stands in %d sets: the image's own table goes to one disk", scaled)
	}
	seen, used := map[string]bool{}, map[string]bool{}
	for i := range k.Raid {
		r := &k.Raid[i]
		c.in("raid", i, "name").name(r.Name, nameRE, seen)
		if used[r.Of] {
			c.in("raid", i, "of").Fail("%q: belongs to another array of this candidate already", r.Of)
		}
		used[r.Of] = true
		r.check(c.in("raid", i), k)
	}
	if scaled > 0 && k.usesImage() {
		c.Fail("image: and scale: exclude each other: scale: puts the whole image on one disk")
	}
	// One disk stands for all that a set has at least; of sets that may be empty, such as alternatives, the plan knows more.
	least := func(s *DiskSet) int {
		n, _, _ := parseCount(s.Count)
		return min(n, 1)
	}
	k.shared(least, func(value string, path ...any) { c.in(path...).Fail("%q: another place has this too", value) })
}

// shared tells refuse of mount paths and UUIDs that two places of a machine would have. disks says how many a set has.
func (k *Candidate) shared(disks func(*DiskSet) int, refuse func(value string, path ...any)) {
	seen := map[string]bool{}
	once := func(field, value string, path ...any) {
		if value != "" && seen[field+" "+value] {
			refuse(value, append(path, field)...)
		}
		seen[field+" "+value] = true
	}
	fill := func(f *Fill, n int, path ...any) {
		once("mount", numberIn(f.Mount, n), path...)
		once("fsUUID", strings.ToLower(f.FSUUID), path...)
	}
	for i := range k.Disks {
		s := &k.Disks[i]
		for n := 1; n <= disks(s); n++ {
			fill(&s.Fill, n, "disks", i)
			for j := range s.Partitions {
				fill(&s.Partitions[j].Fill, n, "disks", i, "partitions", j)
				once("uuid", strings.ToLower(s.Partitions[j].UUID), "disks", i, "partitions", j)
			}
		}
	}
	for i := range k.Raid {
		fill(&k.Raid[i].Fill, 1, "raid", i)
	}
}

// raidOf says whether an array is made of the disks of a set as a whole.
func (k *Candidate) raidOf(set string) bool {
	return slices.ContainsFunc(k.Raid, func(r Raid) bool { return r.Of == set })
}

func (k *Candidate) usesImage() bool {
	for _, s := range k.Disks {
		if s.Image != "" || slices.ContainsFunc(s.Partitions, func(p Partition) bool { return p.Image != "" }) {
			return true
		}
	}
	return slices.ContainsFunc(k.Raid, func(r Raid) bool { return r.Image != "" })
}

func (s *DiskSet) check(c checker, whole bool) {
	if c.in("select").bounded(len(s.Select), maxSelectors) {
		for i, text := range s.Select {
			if _, err := disk.ParseSelector(text); err != nil {
				c.in("select", i).Fail("%v", err)
			}
		}
	}
	_, most, err := parseCount(s.Count)
	if err != nil {
		c.in("count").Fail("%v", err)
	}
	c.in("pick").oneOf(s.Pick, "smallest", "largest", "first")
	c.in("wipe").oneOf(s.Wipe, string(disk.WipeNone), string(disk.WipeDiscard), string(disk.WipeZero))
	c.in("scale").oneOf(s.Scale, "last", "proportional", "exact")
	uses := 0
	for _, used := range []bool{len(s.Partitions) > 0, s.Scale != "", !s.empty(), whole} {
		if used {
			uses++
		}
	}
	switch {
	case uses == 0:
		c.Fail("nothing is to be done with these disks: want partitions, scale, image, fs, or an array of them")
	case uses > 1:
		c.Fail("partitions, scale, image or fs, and an array of whole disks exclude each other")
	}
	if s.Scale != "" && s.Count != "" && s.Count != "1" {
		c.in("count").Fail("%.20q: the image's own table goes to exactly one disk", s.Count)
	}
	s.Fill.check(c, most, false)
	s.checkPartitions(c.in("partitions"), most)
}

// Raid is checked in the light of the set that it is made of.
func (r *Raid) check(c checker, k *Candidate) {
	rule, known := levels[r.Level]
	if !known {
		c.in("level").Fail("%d: want 0, 1, 4, 5, 6 or 10", r.Level)
	}
	c.in("metadata").oneOf(r.Metadata, "1.2", "1.0")
	if chunk, err := parseSize(r.Chunk); r.Chunk != "" {
		switch {
		case err != nil:
			c.in("chunk").Fail("%v", err)
		case r.Level == 1:
			c.in("chunk").Fail("level 1 has no chunks")
		case chunk < 4<<10 || chunk > 128<<20 || chunk&(chunk-1) != 0:
			c.in("chunk").Fail("%.20q: want a power of two from 4K to 128M", r.Chunk)
		}
	}
	if r.Bitmap != nil && *r.Bitmap && r.Level == 0 {
		c.in("bitmap").Fail("level 0 has nothing to bring in line")
	}
	if r.Spares < 0 || r.Spares > 0 && r.Level == 0 {
		c.in("spares").Fail("%d: level %d cannot use them", r.Spares, r.Level)
	}
	r.Fill.check(c, 1, false)
	set, part := k.find(r.Of)
	if set == nil {
		c.in("of").Fail("%.80q: want the name of a set of disks, or SET/PARTITION", r.Of)
		return
	}
	least, _, err := parseCount(set.Count)
	if err == nil && known && least-max(r.Spares, 0) < rule.members {
		c.in("of").Fail("%q has %d disks at least, %d of them spares: level %d needs %d", set.Name, least, r.Spares, r.Level, rule.members)
	}
	if part == nil {
		return
	}
	if !part.Fill.empty() || part.Keep != "" {
		c.in("of").Fail("%q: a part of an array holds nothing else and is not kept", r.Of)
	}
	if kind, _ := typeGUID(part.Type); kind == types["esp"] && (r.Level != 1 || r.Metadata != "1.0") {
		c.in("metadata").Fail("firmware reads an ESP in an array of level 1 with metadata \"1.0\" only")
	}
}

// find returns what Raid.Of means; part is nil for the disks as a whole.
func (k *Candidate) find(of string) (set *DiskSet, part *Partition) {
	name, partition, inside := strings.Cut(of, "/")
	i := slices.IndexFunc(k.Disks, func(s DiskSet) bool { return s.Name == name })
	if i < 0 {
		return nil, nil
	}
	set = &k.Disks[i]
	if !inside {
		return set, nil
	}
	j := slices.IndexFunc(set.Partitions, func(p Partition) bool { return p.Name == partition })
	if j < 0 {
		return nil, nil
	}
	return set, &set.Partitions[j]
}
