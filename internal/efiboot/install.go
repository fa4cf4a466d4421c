package efiboot

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// Place is where in the boot order an entry goes.
type Place string

// The places.
const (
	First        Place = "first"
	AfterNetwork Place = "after-network" // behind the network entry that the machine was booted from; first of all when it was not
)

// Entry is a boot entry that Install makes.
type Entry struct {
	Label     string
	Partition Partition // the ESP
	Loader    string    // path on it, with backslashes
}

// Request says what Install does.
type Request struct {
	Entries []Entry // in their order
	Place   Place

	// Gone are partitions that were on the disks that were overwritten. Entries that start from one of them are deleted,
	// unless it is the partition of one of Entries.
	Gone []ID
	// Present says whether a partition is on a disk of this machine. An entry with the label of one of Entries that starts
	// from a partition that is not present is deleted: it is that system's of an earlier deployment. nil: no such entry is.
	Present func(ID) bool
}

// Change is what Install did.
type Change struct {
	Numbers []uint16 // of the entries, as in Boot0001
	Behind  string   // description of the network entry that they are behind, "" when they are first
	Removed []string // number and description of entries that were deleted
	Written bool     // false: the entries were there, at their place
}

// option is a boot entry of the firmware. opt is nil when it cannot be read.
type option struct {
	number uint16
	raw    []byte
	opt    *LoadOption
}

func (o option) String() string { return fmt.Sprintf("%s %q", entryName(o.number), o.opt.Description) }

// Install puts boot entries into the firmware. An entry that starts the same file of the same partition is taken over, others
// that do so are deleted; entries that are neither that nor meant by Gone or Present stay as they are, in their order.
//
// After a *FullError nothing was added; what had to be deleted is.
func (v *Vars) Install(r Request) (c Change, err error) {
	options, err := v.options()
	if err != nil {
		return c, err
	}
	order, err := v.words("BootOrder")
	if err != nil {
		return c, err
	}
	keep, remove := r.assign(options, order)
	for _, o := range remove {
		if err := v.remove(entryName(o.number)); err != nil {
			return c, err
		}
		c.Removed, c.Written = append(c.Removed, o.String()), true
	}
	gone := func(n uint16) bool {
		return slices.ContainsFunc(remove, func(o option) bool { return o.number == n })
	}
	if err := v.forgetNext(gone); err != nil {
		return c, err
	}
	before := slices.Clone(order)
	order = slices.DeleteFunc(order, gone)
	for i, e := range r.Entries {
		n, written, err := v.put(e, keep[i], options, c.Numbers)
		if err != nil {
			// The order must not name what was deleted, whatever else fails.
			if !slices.Equal(order, before) {
				_ = v.writeWords("BootOrder", order)
			}
			return c, err
		}
		c.Numbers, c.Written = append(c.Numbers, n), c.Written || written
	}
	order, c.Behind = v.arrange(order, c.Numbers, r.Place, options)
	if slices.Equal(order, before) {
		return c, nil
	}
	c.Written = true
	return c, v.setOrder(order)
}

// options reads all boot entries.
func (v *Vars) options() ([]option, error) {
	numbers, err := v.numbers()
	if err != nil {
		return nil, err
	}
	var list []option
	for _, n := range numbers {
		o := option{number: n}
		if o.raw, err = v.read(entryName(n)); err == nil {
			o.opt, _ = ParseLoadOption(o.raw) // what cannot be understood is not ours, but its number is taken
		}
		list = append(list, o)
	}
	return list, nil
}

// assign finds for each entry the option that it takes over, nil if there is none, and the options to delete.
func (r Request) assign(options []option, order []uint16) (keep []*option, remove []option) {
	keep = make([]*option, len(r.Entries))
	// Of several, the one that the firmware would take first stays.
	rank := func(o option) int {
		if i := slices.Index(order, o.number); i >= 0 {
			return i
		}
		return len(order)
	}
	sorted := slices.Clone(options)
	slices.SortStableFunc(sorted, func(a, b option) int { return rank(a) - rank(b) })
	for _, o := range sorted {
		if o.opt == nil {
			continue
		}
		p, path, ok := file(o.opt.Path)
		if !ok {
			continue
		}
		i := slices.IndexFunc(r.Entries, func(e Entry) bool { return e.Partition.same(p) && strings.EqualFold(e.Loader, path) })
		switch {
		case i >= 0 && keep[i] == nil:
			keep[i] = &o
		case i >= 0 || r.dead(p, o.opt.Description):
			remove = append(remove, o)
		}
	}
	return keep, remove
}

// dead says whether an entry that starts from p with this description is to be deleted.
func (r Request) dead(p Partition, description string) bool {
	if slices.ContainsFunc(r.Entries, func(e Entry) bool { return e.Partition.ID == p.ID }) {
		return false
	}
	if slices.Contains(r.Gone, p.ID) {
		return true
	}
	return r.Present != nil && !r.Present(p.ID) && slices.ContainsFunc(r.Entries, func(e Entry) bool { return e.Label == description })
}

// same says whether two entries of a table are the same: an MBR's signature is that of the whole disk.
func (p Partition) same(o Partition) bool {
	return p.ID == o.ID && (p.Kind == SignatureGUID || p.Number == o.Number)
}

// forgetNext deletes BootNext when it names an entry that is gone.
func (v *Vars) forgetNext(gone func(uint16) bool) error {
	next, err := v.words("BootNext")
	if err != nil || !slices.ContainsFunc(next, gone) {
		return err
	}
	return v.remove("BootNext")
}

// put writes an entry, unless it is there as it should be, and returns its number.
func (v *Vars) put(e Entry, old *option, options []option, taken []uint16) (n uint16, written bool, err error) {
	o := LoadOption{Attributes: loadActive, Description: e.Label, Path: []Node{hardDriveNode(e.Partition), fileNode(e.Loader)}}
	raw, err := o.Marshal()
	if err != nil {
		return 0, false, err
	}
	if old != nil {
		if bytes.Equal(old.raw, raw) {
			return old.number, false, nil
		}
		return old.number, true, v.write(entryName(old.number), raw)
	}
	used := func(n uint16) bool {
		return slices.Contains(taken, n) || slices.ContainsFunc(options, func(o option) bool { return o.number == n })
	}
	for used(n) {
		if n++; n == 0 {
			return 0, false, fmt.Errorf("all 65536 numbers of boot entries are taken")
		}
	}
	return n, true, v.write(entryName(n), raw)
}

// arrange puts numbers at their place in the order, each once.
func (v *Vars) arrange(order, numbers []uint16, place Place, options []option) (arranged []uint16, behind string) {
	var rest []uint16
	for _, n := range order {
		if !slices.Contains(numbers, n) && !slices.Contains(rest, n) {
			rest = append(rest, n)
		}
	}
	at := 0
	if place == AfterNetwork {
		current, _ := v.words("BootCurrent") // firmware without it is firmware that does not say
		for _, o := range options {
			if len(current) == 1 && o.number == current[0] && o.opt != nil && network(o.opt.Path) {
				if at = slices.Index(rest, o.number) + 1; at > 0 {
					behind = o.opt.Description
				}
			}
		}
	}
	return slices.Insert(rest, at, numbers...), behind
}

// setOrder writes the boot order and reads it back: some firmware takes it and forgets it.
func (v *Vars) setOrder(order []uint16) error {
	if err := v.writeWords("BootOrder", order); err != nil {
		return err
	}
	got, err := v.words("BootOrder")
	if err == nil && !slices.Equal(got, order) {
		err = fmt.Errorf("the firmware took the boot order %04X and returns %04X", order, got)
	}
	return err
}
