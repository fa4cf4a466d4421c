package layout

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"swarmboot/imagefmt"
	"swarmboot/internal/disk"
)

// Describe writes the plan for people: which candidate and why, what is lost, kept and made on every disk.
func (p *Plan) Describe(out io.Writer) error {
	var b strings.Builder
	for _, r := range p.Reasons {
		fmt.Fprintln(&b, r)
	}
	for i := range p.Disks {
		p.describeDisk(&b, i)
	}
	for i := range p.Arrays {
		p.describeArray(&b, i)
	}
	for _, m := range p.Mounts {
		fmt.Fprintf(&b, "mount %s: %s %s %s\n", p.Name(m.On), m.Path, m.FSType, or(m.Options, "defaults"))
	}
	for _, n := range p.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Name is the name of a place for people: /dev/sda2, array root.
func (p *Plan) Name(ref Ref) string {
	if ref.Array >= 0 {
		return "array " + p.Arrays[ref.Array].Name
	}
	return disk.PartitionPath(p.Disks[ref.Disk].Disk.Path, ref.Partition)
}

func (p *Plan) describeDisk(b *strings.Builder, i int) {
	d := &p.Disks[i]
	fmt.Fprintf(b, "\n%s\n", d.Disk.String())
	for _, a := range d.Stop {
		fmt.Fprintf(b, "  stop: array %s\n", a)
	}
	for _, l := range d.Lost {
		fmt.Fprintf(b, "  lost: %s\n", l)
	}
	if d.Wipe != disk.WipeNone {
		fmt.Fprintf(b, "  wipe: %s\n", d.Wipe)
	}
	if d.Table.Kind == imagefmt.TableNone {
		fmt.Fprintf(b, "  the disk as a whole: %s\n", p.use(Ref{Disk: i, Array: -1}, nil))
		return
	}
	fmt.Fprintf(b, "  table: %s, sectors of %d bytes\n", d.Table.Kind, d.Disk.LogicalSector)
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  NO\tSTART\tSIZE\tTYPE\tLABEL\tCONTENT")
	parts := slices.Clone(d.Table.Partitions)
	slices.SortFunc(parts, func(a, b imagefmt.Partition) int {
		if a.Start < b.Start {
			return -1
		}
		return 1
	})
	for _, q := range parts {
		fmt.Fprintf(w, "  %d\t%s\t%s\t%s\t%s\t%s\n", q.Number, disk.FormatSize(q.Start), disk.FormatSize(q.Length),
			typeName(q.Type), or(q.Label, "-"), p.use(Ref{Disk: i, Array: -1, Partition: q.Number}, &q))
	}
	w.Flush() // into a strings.Builder: it cannot fail
}

func (p *Plan) describeArray(b *strings.Builder, i int) {
	a := &p.Arrays[i]
	fmt.Fprintf(b, "\narray %s: level %d, metadata %s, %s", a.Name, a.Level, a.Metadata, disk.FormatSize(a.Size))
	if a.Chunk > 0 {
		fmt.Fprintf(b, ", chunks of %s", disk.FormatSize(a.Chunk))
	}
	if a.Bitmap {
		b.WriteString(", bitmap")
	}
	fmt.Fprintf(b, "\n  members: %s\n", p.names(a.Members))
	if len(a.Spares) > 0 {
		fmt.Fprintf(b, "  spares: %s\n", p.names(a.Spares))
	}
	fmt.Fprintf(b, "  content: %s\n", p.use(Ref{Disk: -1, Array: i}, nil))
}

func (p *Plan) names(refs []Ref) string {
	list := make([]string, len(refs))
	for i, r := range refs {
		list[i] = p.Name(r)
	}
	return strings.Join(list, ", ")
}

// use says what a place is for.
func (p *Plan) use(ref Ref, part *imagefmt.Partition) string {
	if part != nil && slices.Contains(p.Disks[ref.Disk].Kept, part.Number) {
		return "kept"
	}
	for _, a := range p.Arrays {
		if slices.Contains(a.Members, ref) {
			return "member of array " + a.Name
		}
		if slices.Contains(a.Spares, ref) {
			return "spare of array " + a.Name
		}
	}
	for _, c := range p.Contents {
		if c.On == ref {
			return c.describe()
		}
	}
	return "empty"
}

func (c *Content) describe() string {
	var s string
	switch {
	case c.FS != "":
		s = "new " + c.FS
		if c.Label != "" {
			s += fmt.Sprintf(" %q", c.Label)
		}
	case c.Image > 0:
		s = fmt.Sprintf("image partition %d", c.Image)
	default:
		s = "the image"
	}
	if c.Grow {
		s += ", grown"
	}
	return s
}
