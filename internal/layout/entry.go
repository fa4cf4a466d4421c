package layout

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"swarmboot/imagefmt"
)

// number numbers the partitions of a set: those that are kept as they were, those that have a number, and the others in
// order with what is free.
func number(s *DiskSet, old map[int]imagefmt.Partition, path string) ([]int, error) {
	used := map[int]string{}
	numbers := make([]int, len(s.Partitions))
	claim := func(i, n int) error {
		if other, ok := used[n]; ok {
			return &RefusedError{Device: path, Reason: fmt.Sprintf("partitions %q and %q would both have the number %d", other, s.Partitions[i].Name, n)}
		}
		numbers[i], used[n] = n, s.Partitions[i].Name
		return nil
	}
	for i := range s.Partitions {
		if o, ok := old[i]; ok {
			if err := claim(i, o.Number); err != nil {
				return nil, err
			}
		}
	}
	for i := range s.Partitions {
		if n := s.Partitions[i].Number; n > 0 && numbers[i] == 0 {
			if err := claim(i, n); err != nil {
				return nil, err
			}
		}
	}
	next := 1
	for i := range s.Partitions {
		if numbers[i] != 0 {
			continue
		}
		for used[next] != "" {
			next++
		}
		numbers[i], used[next] = next, s.Partitions[i].Name
	}
	for i, n := range numbers {
		if n > maxNumber {
			return nil, &RefusedError{Device: path, Reason: fmt.Sprintf("partition %q would have the number %d: %d is the most", s.Partitions[i].Name, n, maxNumber)}
		}
	}
	return numbers, nil
}

// kindOf is the type of a partition: what the layout says, what the image has, or what the content asks for.
func (b *builder) kindOf(p *Partition) string {
	if guid, ok := typeGUID(p.Type); ok && guid != "" {
		return guid
	}
	if kind := b.imageKind(p.Image); kind != "" {
		return kind
	}
	for _, s := range b.k.Disks {
		if i := slices.IndexFunc(s.Partitions, func(q Partition) bool { return q.Name == p.Name }); i >= 0 && &s.Partitions[i] == p && b.k.raidOf(s.Name+"/"+p.Name) {
			return types["raid"]
		}
	}
	if p.FS == "swap" {
		return types["swap"]
	}
	return types["linux"]
}

// imageKind is the type that a partition of the image has in a GPT; "" where that has none, or the image is not known.
func (b *builder) imageKind(image string) string {
	src, err := b.source(image)
	switch {
	case err != nil || src.part == nil:
		return ""
	case b.im.Manifest.Table.Kind == imagefmt.TableGPT:
		return strings.ToUpper(src.part.Type)
	}
	return types[mbrTypes[src.part.Type]]
}

// partition makes the entry of a new partition, without its place.
func (b *builder) partition(p *Partition, where string, n int, several bool) imagefmt.Partition {
	out := imagefmt.Partition{Type: b.kindOf(p), Label: numberIn(p.label(), n), UUID: strings.ToUpper(p.UUID)}
	src, err := b.source(p.Image)
	if err == nil && src.part != nil {
		out.FileSystem = src.part.FileSystem
		if b.im.Manifest.Table.Kind == imagefmt.TableGPT {
			out.Attributes = src.part.Attributes
			if out.UUID == "" && !several {
				out.UUID = src.part.UUID
			}
		}
		if p.Label == "" && src.part.Label != "" {
			out.Label = src.part.Label
		}
	}
	if p.FS != "" {
		out.FileSystem = p.FS
	}
	if out.UUID == "" {
		out.UUID = strings.ToUpper(derived("partition", where, p.Name))
	}
	for _, name := range p.Attributes {
		bit, _ := attribute(name)
		out.Attributes |= bit
	}
	return out
}

// distinct sees to it that a partition which is kept is the only one with its UUID.
func (b *builder) distinct(l *layoutOf, where string) {
	seen := map[string]bool{}
	for _, p := range l.table.Partitions {
		if slices.Contains(l.kept, p.Number) {
			seen[strings.ToUpper(p.UUID)] = true
		}
	}
	for i := range l.table.Partitions {
		p := &l.table.Partitions[i]
		if slices.Contains(l.kept, p.Number) {
			continue
		}
		for round := 0; seen[p.UUID]; round++ {
			p.UUID = strings.ToUpper(derived("partition", where, strconv.Itoa(i), strconv.Itoa(round)))
		}
		seen[p.UUID] = true
	}
}

func numberIn(s string, n int) string { return strings.ReplaceAll(s, "{n}", strconv.Itoa(n)) }
