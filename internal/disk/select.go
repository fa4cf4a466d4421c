package disk

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Selector says which disk is meant: terms that must all match.
type Selector struct {
	text  string
	terms []term
	named bool // names one disk by path, serial or WWN, so removable media are meant too
	path  bool
}

// term says why a disk does not match, "" = it does.
type term func(Disk) string

// ParseSelector reads a selector: terms joined by commas, all of which must match.
//
//	only             the only usable disk (also "")
//	/dev/PATH        a device node or a link to it; names of /dev/disk/by-id also without udev; a regular file
//	serial=S wwn=W   exact, upper and lower case alike
//	model=PATTERN    with * ? [a-z]; a blank may be written as _
//	transport=T      nvme, sata, sas, fc, iscsi, usb, virtio, mmc, sd, loop
//	rotational=V     yes (hard disks) or no (flash)
//	size=A..B        bounds included, either may be left out; size=A within 1 % of A; units: see ParseSize
//
// Removable media (and everything on USB) match only by path, serial or WWN; loop devices and files only by path.
// A disk that is mounted, holds swap, belongs to an array or map, or is read-only never matches.
func ParseSelector(s string) (Selector, error) {
	sel := Selector{text: s}
	if strings.TrimSpace(s) == "" {
		sel.text = "only"
		return sel, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		if err := sel.add(strings.TrimSpace(part)); err != nil {
			return Selector{}, fmt.Errorf("disk selector %.200q: %w", s, err)
		}
	}
	return sel, nil
}

func (s *Selector) add(text string) error {
	key, value, has := strings.Cut(text, "=")
	var t term
	var err error
	switch {
	case text == "only":
		return nil
	case strings.HasPrefix(text, "/"):
		t, s.named, s.path = byPath(text), true, true
	case !has:
		err = fmt.Errorf("%.80q is neither only, an absolute path nor KEY=VALUE", text)
	case value == "":
		err = fmt.Errorf("%s= needs a value", key)
	case key == "serial":
		t, s.named = equal("serial number", func(d Disk) string { return d.Serial }, value), true
	case key == "wwn":
		t, s.named = equal("WWN", func(d Disk) string { return d.WWN }, trimWWN(value)), true
	case key == "transport":
		t = equal("transport", func(d Disk) string { return d.Transport }, value)
	case key == "model":
		t, err = byModel(value)
	case key == "size":
		t, err = bySize(value)
	case key == "rotational":
		t, err = byRotation(value)
	default:
		err = fmt.Errorf("no such key %.80q; known: serial, wwn, model, transport, rotational, size", key)
	}
	s.terms = append(s.terms, t)
	return err
}

// String returns the selector as it was written.
func (s Selector) String() string { return s.text }

func equal(what string, field func(Disk) string, want string) term {
	return func(d Disk) string {
		switch got := field(d); {
		case got == "":
			return "has no " + what
		case !strings.EqualFold(got, want):
			return fmt.Sprintf("%s %s", what, got)
		}
		return ""
	}
}

func byModel(pattern string) (term, error) {
	blanks := strings.NewReplacer(" ", "_")
	pattern = blanks.Replace(pattern)
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, fmt.Errorf("model=%s: %w", pattern, err)
	}
	return func(d Disk) string {
		// "/" means nothing in a model, but path.Match does not let * cross it.
		m := strings.ReplaceAll(blanks.Replace(d.Model), "/", "_")
		if ok, _ := path.Match(strings.ReplaceAll(pattern, "/", "_"), m); !ok {
			return fmt.Sprintf("model %q", d.Model)
		}
		return ""
	}, nil
}

func byRotation(value string) (term, error) {
	if value != "yes" && value != "no" {
		return nil, fmt.Errorf("rotational=%.40s: want yes or no", value)
	}
	return func(d Disk) string {
		switch {
		case d.Rotational == (value == "yes"):
			return ""
		case d.Rotational:
			return "rotational"
		}
		return "not rotational"
	}, nil
}

func bySize(value string) (term, error) {
	low, high := int64(0), int64(1)<<62
	a, b, isRange := strings.Cut(value, "..")
	var err error
	if a != "" {
		low, err = ParseSize(a)
	}
	if err == nil && b != "" {
		high, err = ParseSize(b)
	}
	if err != nil {
		return nil, err
	}
	if !isRange {
		// A disk is never exactly as large as its label says.
		low, high = low-low/100, low+low/100
	}
	if low > high || value == ".." {
		return nil, fmt.Errorf("size=%s: empty range", value)
	}
	return func(d Disk) string {
		switch {
		case d.Size < low:
			return "smaller than " + FormatSize(low)
		case d.Size > high:
			return "larger than " + FormatSize(high)
		}
		return ""
	}, nil
}

// byPath matches the disk that a path leads to. /dev/disk/by-id is made by udev, which
// an initramfs does not have: there the name itself is compared.
func byPath(p string) term {
	p = filepath.Clean(p)
	target, err := filepath.EvalSymlinks(p)
	if err != nil {
		target = p
	}
	id, isID := strings.CutPrefix(p, "/dev/disk/by-id/")
	return func(d Disk) string {
		if d.Path == target || (isID && err != nil && hasID(d, id)) {
			return ""
		}
		return "is not " + p
	}
}

// hasID says whether udev's rules (60-persistent-storage.rules) would name d id.
func hasID(d Disk, id string) bool {
	kind, rest, ok := strings.Cut(id, "-")
	if !ok {
		return false
	}
	blank := func(s string) string { return strings.ReplaceAll(s, " ", "_") }
	switch kind {
	case "wwn", "nvme":
		if d.WWN != "" && (strings.HasPrefix(rest, "0x") || strings.HasPrefix(rest, "eui.") || strings.HasPrefix(rest, "uuid.")) {
			return trimWWN(rest) == d.WWN
		}
	case "virtio":
		return d.Serial != "" && d.Transport == "virtio" && rest == blank(d.Serial)
	}
	matches := kind == d.Transport || (kind == "ata" && d.Transport == "sata") || kind == "scsi"
	return matches && d.Serial != "" && rest == blank(d.Model)+"_"+blank(d.Serial)
}

// SelectError says why a selector did not name exactly one usable disk.
type SelectError struct {
	Selector   string
	Candidates []Candidate // every disk of the machine
}

// Candidate is a disk that a selector looked at.
type Candidate struct {
	Disk
	Why string // why it was not taken; "" = it matched
}

// Matches counts the disks that matched: 0 or more than 1.
func (e *SelectError) Matches() int {
	n := 0
	for _, c := range e.Candidates {
		if c.Why == "" {
			n++
		}
	}
	return n
}

// Error lists every disk with what is known of it and why it was not taken, one a line.
func (e *SelectError) Error() string {
	var b strings.Builder
	switch n := e.Matches(); {
	case len(e.Candidates) == 0:
		fmt.Fprintf(&b, "disk selector %q: this machine has no disk (is its driver loaded?)", e.Selector)
	case n == 0:
		fmt.Fprintf(&b, "disk selector %q matches no disk:", e.Selector)
	default:
		fmt.Fprintf(&b, "disk selector %q matches %d disks:", e.Selector, n)
	}
	for _, c := range e.Candidates {
		why := c.Why
		if why == "" {
			why = "matches"
		}
		fmt.Fprintf(&b, "\n  %s: %s", c.String(), why)
	}
	return b.String()
}

// String describes a disk in one line: path, size, model, serial number, transport.
func (d Disk) String() string {
	s := d.Path + " " + FormatSize(d.Size)
	for _, f := range []struct{ name, value string }{
		{"", d.Model}, {"serial=", d.Serial}, {"wwn=", d.WWN}, {"", d.Transport},
	} {
		if f.value != "" {
			s += " " + f.name + f.value
		}
	}
	return s
}

// Select returns the one disk that matches, else *SelectError.
func (s Selector) Select(disks []Disk) (Disk, error) {
	e := &SelectError{Selector: s.text}
	var found Disk
	for _, d := range disks {
		c := Candidate{d, s.Why(d)}
		if c.Why == "" {
			found = d
		}
		e.Candidates = append(e.Candidates, c)
	}
	if e.Matches() != 1 {
		return Disk{}, e
	}
	return found, nil
}

// Why says why a disk is not meant, "" = it matches.
func (s Selector) Why(d Disk) string {
	for _, t := range s.terms {
		if r := t(d); r != "" {
			return r
		}
	}
	switch {
	case d.InUse != "":
		return "in use: " + d.InUse
	case d.ReadOnly:
		return "read-only"
	case d.Transport == "loop" && !s.path:
		return "a loop device: taken only when named by path"
	case d.Removable && !s.named:
		return "removable: taken only when named by path, serial or WWN"
	}
	return ""
}

// Find lists the disks of this machine and selects one. A selector that is the path of a regular
// file selects that file: Transport "file".
func Find(selector string) (Disk, error) {
	s, err := ParseSelector(selector)
	if err != nil {
		return Disk{}, err
	}
	if s.path && len(s.terms) == 1 {
		fi, err := os.Stat(selector)
		if err == nil && fi.Mode().IsRegular() {
			return Disk{Path: selector, Name: filepath.Base(selector), Transport: "file", Size: fi.Size(), LogicalSector: 512, PhysicalSector: 512}, nil
		}
		if errors.Is(err, os.ErrPermission) {
			return Disk{}, fmt.Errorf("disk selector: %w", err)
		}
	}
	disks, err := List()
	if err != nil {
		return Disk{}, err
	}
	return s.Select(disks)
}
