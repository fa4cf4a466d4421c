package layout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"swarmboot/imagefmt"
	"swarmboot/internal/disk"
)

// chosen is a set with the disks that fill it.
type chosen struct {
	set   *DiskSet
	disks []disk.Inventory
}

// chooser looks for a candidate.
type chooser struct {
	layout *Layout
	inv    []disk.Inventory // by name, as people count: nvme2 before nvme10
}

// choose returns the first candidate whose sets can all be filled. reasons has a line for every candidate up to that one.
func (l *Layout) choose(inv []disk.Inventory) (k *Candidate, sets []chosen, reasons []string, err error) {
	ch := chooser{l, slices.Clone(inv)}
	slices.SortStableFunc(ch.inv, func(a, b disk.Inventory) int { return natural(a.Path, b.Path) })
	ch.inv = slices.CompactFunc(ch.inv, func(a, b disk.Inventory) bool { return a.Path == b.Path })
	for i := range l.Candidates {
		k := &l.Candidates[i]
		sets, why, err := ch.fill(k)
		if err != nil {
			return nil, nil, nil, err
		}
		if why == "" {
			return k, sets, append(reasons, taken(k, sets)), nil
		}
		reasons = append(reasons, fmt.Sprintf("candidate %q: not taken: %s", k.Name, why))
	}
	return nil, nil, reasons, &NoCandidateError{reasons}
}

func taken(k *Candidate, sets []chosen) string {
	var parts []string
	for _, s := range sets {
		parts = append(parts, fmt.Sprintf("%s = %s", s.set.Name, paths(s.disks)))
	}
	return fmt.Sprintf("candidate %q: taken: %s", k.Name, strings.Join(parts, "; "))
}

func paths(disks []disk.Inventory) string {
	if len(disks) == 0 {
		return "no disk"
	}
	list := make([]string, len(disks))
	for i, d := range disks {
		list[i] = d.Path
	}
	return strings.Join(list, ", ")
}

// fill fills the sets of a candidate in their order; why says which one cannot be filled.
func (ch *chooser) fill(k *Candidate) (sets []chosen, why string, err error) {
	owner := map[string]string{} // path → set
	for i := range k.Disks {
		s := &k.Disks[i]
		fits, others, err := ch.matching(k, s, owner)
		if err != nil {
			return nil, "", fmt.Errorf("candidate %q, disks %q: %w", k.Name, s.Name, err)
		}
		disks, why := s.pick(fits)
		if why != "" {
			why = fmt.Sprintf("disks %q: %s", s.Name, why)
			if len(others) > 0 {
				why += "; others: " + strings.Join(others, ", ")
			}
			return nil, why, nil
		}
		for _, d := range disks {
			owner[d.Path] = s.Name
		}
		sets = append(sets, chosen{s, disks})
	}
	return sets, "", nil
}

// matching returns the disks that can be meant by a set, and why the others are not.
func (ch *chooser) matching(k *Candidate, s *DiskSet, owner map[string]string) (fits []disk.Inventory, others []string, err error) {
	selectors, err := s.selectors()
	if err != nil {
		return nil, nil, err
	}
	recreate := s.Recreate || slices.ContainsFunc(k.Raid, func(r Raid) bool {
		name, _, _ := strings.Cut(r.Of, "/")
		return r.Recreate && name == s.Name
	})
	for _, d := range ch.inv {
		why := ""
		if err := d.Check(); err != nil {
			why = err.Error()
		} else if set := owner[d.Path]; set != "" {
			why = "belongs to disks " + set
		}
		if why == "" && recreate && len(d.Arrays) > 0 {
			d.InUse = "" // only by those arrays
		}
		if why == "" {
			why = anyMatches(selectors, d.Disk)
		}
		if why == "" {
			why = ch.protected(s, d)
		}
		if why == "" && !recreate {
			why = s.member(d)
		}
		if why != "" {
			others = append(others, fmt.Sprintf("%s (%s)", d.Path, why))
			continue
		}
		fits = append(fits, d)
	}
	return fits, others, nil
}

// anyMatches returns "" when one of the selectors means the disk, else why not: what the first says.
func anyMatches(selectors []disk.Selector, d disk.Disk) string {
	first := ""
	for i, s := range selectors {
		why := s.Why(d)
		if why == "" {
			return ""
		}
		if i == 0 {
			first = why
		}
	}
	return first
}

// member says which array the disk belongs to, in a part that is not kept.
func (s *DiskSet) member(d disk.Inventory) string {
	for _, m := range d.Members {
		if p, ok := numbered(d.Table, m.Partition); ok && s.keeps(p) {
			continue
		}
		where := "it"
		if m.Partition > 0 {
			where = fmt.Sprintf("partition %d", m.Partition)
		}
		return fmt.Sprintf("%s belongs to the array %s: recreate: true would overwrite it", where, arrayName(m))
	}
	return ""
}

func arrayName(m disk.Member) string {
	if m.Name != "" {
		return fmt.Sprintf("%q", m.Name)
	}
	return m.Array
}

func numbered(t imagefmt.Table, n int) (imagefmt.Partition, bool) {
	i := slices.IndexFunc(t.Partitions, func(p imagefmt.Partition) bool { return p.Number == n })
	if i < 0 {
		return imagefmt.Partition{}, false
	}
	return t.Partitions[i], true
}

// protected says why a disk must not be taken for a set: it holds a partition that the layout keeps, in another set or
// candidate. Where the old table cannot be read nobody knows whether it does.
func (ch *chooser) protected(s *DiskSet, d disk.Inventory) string {
	for _, k := range ch.layout.Candidates {
		for _, other := range k.Disks {
			for i := range other.Partitions {
				p := &other.Partitions[i]
				if p.Keep == "" {
					continue
				}
				if d.TableError != "" {
					return fmt.Sprintf("its partition table cannot be trusted (%s), and this layout keeps partitions", d.TableError)
				}
				if old, ok := other.labelled(p, d.Table); ok && !s.keeps(old) {
					return fmt.Sprintf("its partition %d, %q, is kept", old.Number, old.Label)
				}
			}
		}
	}
	return ""
}

// labelled finds a partition that is to be kept by its label; one that is meant by its number alone could be any.
func (s *DiskSet) labelled(p *Partition, t imagefmt.Table) (imagefmt.Partition, bool) {
	if p.Label == "" && p.Number > 0 {
		return imagefmt.Partition{}, false
	}
	for _, old := range t.Partitions {
		if p.means(old) {
			return old, true
		}
	}
	return imagefmt.Partition{}, false
}

// keeps says whether the set keeps a partition of the old table.
func (s *DiskSet) keeps(old imagefmt.Partition) bool {
	return slices.ContainsFunc(s.Partitions, func(p Partition) bool { return p.Keep != "" && p.means(old) })
}

// means says whether a partition of the old table is the one that p keeps: by its label, its number, or both.
func (p *Partition) means(old imagefmt.Partition) bool {
	if p.Number > 0 && p.Number != old.Number {
		return false
	}
	if p.Label == "" && p.Number > 0 {
		return true
	}
	before, after, numbered := strings.Cut(p.label(), "{n}")
	if !numbered {
		return old.Label == p.label()
	}
	// The number that a disk had in its set is not known; any will do.
	digits, ok := strings.CutPrefix(old.Label, before)
	digits, ok2 := strings.CutSuffix(digits, after)
	return ok && ok2 && digits != "" && strings.Trim(digits, "0123456789") == ""
}

// pick returns the disks that the set takes of those that match, or why it cannot.
func (s *DiskSet) pick(fits []disk.Inventory) (disks []disk.Inventory, why string) {
	least, most, err := parseCount(s.Count)
	if err != nil {
		return nil, err.Error()
	}
	if s.Equal {
		if fits, why = s.pickEqual(fits, least, most); why != "" {
			return nil, why
		}
	}
	switch {
	case len(fits) < least:
		return nil, fmt.Sprintf("%s: wanted %s", count(fits, "match"), s.wanted())
	case len(fits) <= most:
		return fits, ""
	case s.Pick == "":
		return nil, fmt.Sprintf("%s: wanted %s, and no pick says which", count(fits, "match"), s.wanted())
	}
	if s.Pick != "first" {
		slices.SortStableFunc(fits, func(a, b disk.Inventory) int {
			if s.Pick == "largest" {
				a, b = b, a
			}
			return cmp.Compare(a.Size, b.Size)
		})
		if fits[most-1].Size == fits[most].Size {
			return nil, fmt.Sprintf("%s and %s are alike: %s does not say which", fits[most-1].Path, fits[most].Path, s.Pick)
		}
	}
	fits = fits[:most]
	slices.SortStableFunc(fits, func(a, b disk.Inventory) int { return natural(a.Path, b.Path) })
	return fits, ""
}

func (s *DiskSet) wanted() string {
	if s.Count == "" {
		return "1"
	}
	return s.Count
}

func count(disks []disk.Inventory, verb string) string {
	switch len(disks) {
	case 0:
		return "no disk " + verb + "es"
	case 1:
		return "1 disk " + verb + "es: " + disks[0].Path
	}
	return fmt.Sprintf("%d disks %s: %s", len(disks), verb, paths(disks))
}

// pickEqual returns the group of like disks that the set can be filled from. Of several it is the one with most
// disks; when that is undecided, Pick must say.
func (s *DiskSet) pickEqual(fits []disk.Inventory, least, most int) (group []disk.Inventory, why string) {
	groups := slices.DeleteFunc(alike(fits), func(g []disk.Inventory) bool {
		return len(g) < least || len(g) > most && s.Pick == ""
	})
	if len(groups) == 0 {
		if least == 0 && len(fits) == 0 {
			return nil, ""
		}
		return nil, fmt.Sprintf("%s, but no %s of them are equal", count(fits, "match"), s.wanted())
	}
	slices.SortStableFunc(groups, func(a, b []disk.Inventory) int {
		switch s.Pick {
		case "smallest":
			return cmp.Compare(a[0].Size, b[0].Size)
		case "largest":
			return cmp.Compare(b[0].Size, a[0].Size)
		}
		return cmp.Compare(len(b), len(a))
	})
	if len(groups) > 1 && s.Pick == "" && len(groups[0]) == len(groups[1]) {
		return nil, fmt.Sprintf("%s are equal, and so are %s: nothing says which", paths(groups[0]), paths(groups[1]))
	}
	return groups[0], ""
}

// alike groups disks of one kind, transport, sector size and size within 1 %.
func alike(disks []disk.Inventory) [][]disk.Inventory {
	bySize := slices.Clone(disks)
	slices.SortStableFunc(bySize, func(a, b disk.Inventory) int { return cmp.Compare(b.Size, a.Size) })
	var groups [][]disk.Inventory
	for _, d := range bySize {
		i := slices.IndexFunc(groups, func(g []disk.Inventory) bool {
			h := g[0]
			return d.Rotational == h.Rotational && d.Transport == h.Transport && d.LogicalSector == h.LogicalSector && h.Size-d.Size <= h.Size/100
		})
		if i < 0 {
			groups = append(groups, []disk.Inventory{d})
			continue
		}
		groups[i] = append(groups[i], d)
	}
	for _, g := range groups {
		slices.SortStableFunc(g, func(a, b disk.Inventory) int { return natural(a.Path, b.Path) })
	}
	return groups
}

// natural compares paths so that numbers in them count: nvme2n1 comes before nvme10n1, sdz before sdaa.
func natural(a, b string) int {
	for a != "" && b != "" {
		x, y := run(a), run(b)
		if x[0] <= '9' && x[0] >= '0' && y[0] <= '9' && y[0] >= '0' {
			x0, y0 := strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if c := cmp.Or(cmp.Compare(len(x0), len(y0)), strings.Compare(x0, y0)); c != 0 {
				return c
			}
		} else if x != y {
			if sx, ok := strings.CutPrefix(x, "/dev/sd"); ok && strings.HasPrefix(y, "/dev/sd") {
				return cmp.Or(cmp.Compare(len(sx), len(y)-len("/dev/sd")), strings.Compare(x, y))
			}
			return strings.Compare(x, y)
		}
		a, b = a[len(x):], b[len(y):]
	}
	return cmp.Compare(len(a), len(b))
}

// run is the longest start of s that is all digits, or has none.
func run(s string) string {
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	n := 1
	for n < len(s) && digit(s[n]) == digit(s[0]) {
		n++
	}
	return s[:n]
}
