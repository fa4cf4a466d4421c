// Package lvm reads what LVM2 writes on its physical volumes: label, headers, and the text that describes a volume
// group. It says which bytes belong to which logical volume. Whatever is not plainly a linear volume of a whole and
// unlocked group comes with the reason why all of its bytes count as used.
//
// Source: lvm2's lib/label/label.h, lib/format_text/layout.h and import_vsn1.c; lvmtypes(7) for names.
package lvm

import "fmt"

// PV is a physical volume as its own headers describe it.
type PV struct {
	UUID     string // as LVM shows it: 6-4-4-4-4-4-6 letters and digits
	Size     int64  // bytes of the device that holds it
	Metadata []Area // the metadata areas

	texts []*node // the group as each area with valid metadata tells it
	bad   string  // why the metadata cannot be trusted, "" when it can
}

// Area is a run of bytes of a physical volume.
type Area struct{ Off, Len int64 }

// Segment is a run of bytes of a logical volume.
type Segment struct {
	PV  int // index in what Groups was given
	Off int64
	Len int64
}

// Group is a volume group, or a physical volume that is in none (Name "").
type Group struct {
	Name    string
	PVs     []int  // indices in what Groups was given
	Data    []Area // of each of PVs: where its physical extents lie; nil when Whole is set
	Whole   string // why all bytes of all PVs count as used; then there are no Volumes
	Volumes []Volume
}

// Volume is a logical volume.
type Volume struct {
	Name     string
	Size     int64
	Segments []Segment // in the order of the volume's addresses; where Whole is set, in any order
	Whole    string    // why its file system cannot be read through Segments: all of them count as used
}

// maxPVs bounds a group; more do not fit on a disk's partition table.
const maxPVs = 256

// Groups puts together the volume groups of a disk's physical volumes. Every one of them is in exactly one group.
func Groups(pvs []*PV) []Group {
	var groups []Group
	taken := make([]bool, len(pvs))
	for i, pv := range pvs {
		if taken[i] || len(pv.texts) == 0 {
			continue
		}
		g := assemble(pvs, pv.texts[0])
		var free []int // what a damaged text claims twice is left to the first
		for _, n := range g.PVs {
			if !taken[n] {
				taken[n], free = true, append(free, n)
			}
		}
		if len(free) < len(g.PVs) {
			g.Whole = "one of its physical volumes belongs to another group too"
		}
		if !taken[i] {
			taken[i], free = true, append(free, i)
			g.Whole = "its metadata does not list the physical volume that it stands on"
		}
		g.PVs = free
		if g.Whole != "" {
			g.Data, g.Volumes = nil, nil
		}
		groups = append(groups, g)
	}
	for i, pv := range pvs {
		if taken[i] {
			continue
		}
		why := "it is in no volume group"
		if pv.bad != "" {
			why = pv.bad
		}
		groups = append(groups, Group{PVs: []int{i}, Whole: why})
	}
	return groups
}

// assemble reads the group that a text describes and finds its physical volumes.
func assemble(pvs []*PV, text *node) Group {
	g := Group{Name: text.name}
	b := builder{pvs: pvs, vg: text, byName: map[string]*placed{}}
	data, err := b.build(&g)
	if err != nil {
		g.Whole, g.Volumes = err.Error(), nil
		return g
	}
	g.Data = data
	return g
}

// formatUUID groups the 32 characters of an ID.
func formatUUID(id string) string {
	if len(id) != 32 {
		return ""
	}
	return fmt.Sprintf("%s-%s-%s-%s-%s-%s-%s", id[:6], id[6:10], id[10:14], id[14:18], id[18:22], id[22:26], id[26:])
}
