// Package drivers loads the kernel modules that a node's devices ask for.
//
// The archive holds an index of the modules in it, made by mkinitramfs out of
// each module's .modinfo section: what modules.dep, modules.softdep,
// modules.alias and modules.builtin hold on an installed system (kmod,
// depmod(8)). Devices are matched by the modalias that sysfs shows
// (Documentation/ABI/testing/sysfs-bus-pci and its like).
package drivers

import (
	"bufio"
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// IndexName is the name of the index file in the modules' folder.
const IndexName = "swarmboot.index"

// maxIndex bounds the index file, in bytes; Debian's whole kernel needs 2 MiB.
const maxIndex = 16 << 20

const indexMagic = "swarmboot-modules 1"

// Module is what the index knows about one module. Names are canonical, see Canonical.
type Module struct {
	Name    string
	Path    string   // relative to the modules' folder; .zst: compressed
	Depends []string // must be loaded before it
	Pre     []string // softdep pre: wanted before it, may be missing
	Post    []string // softdep post: wanted after it, may be missing
	Aliases []string // patterns in the manner of fnmatch(3)
}

// Index is every module of an archive and every name built into its kernel.
type Index struct {
	Modules []Module
	Builtin []string

	byName  map[string]*Module
	builtin map[string]bool
	byBus   map[string][]pattern
}

type pattern struct {
	prefix string // the literal part in front of the first wildcard
	glob   string
	module *Module
}

// Canonical is a module's name as the kernel shows it: dashes become underscores.
func Canonical(name string) string { return strings.ReplaceAll(name, "-", "_") }

// Marshal returns the index as text, modules by name, the same bytes for the same modules.
func (ix *Index) Marshal() []byte {
	var b bytes.Buffer
	fmt.Fprintln(&b, indexMagic)
	for _, m := range ix.sorted() {
		fmt.Fprintf(&b, "module %s %s\n", m.Name, m.Path)
		writeList(&b, "depends", m.Depends)
		writeList(&b, "pre", m.Pre)
		writeList(&b, "post", m.Post)
		for _, a := range m.Aliases {
			fmt.Fprintf(&b, "alias %s\n", a)
		}
	}
	builtin := slices.Clone(ix.Builtin)
	slices.Sort(builtin)
	for _, n := range slices.Compact(builtin) {
		fmt.Fprintf(&b, "builtin %s\n", n)
	}
	return b.Bytes()
}

func (ix *Index) sorted() []Module {
	return slices.SortedFunc(slices.Values(ix.Modules), func(a, b Module) int { return strings.Compare(a.Name, b.Name) })
}

func writeList(b *bytes.Buffer, key string, names []string) {
	if len(names) > 0 {
		fmt.Fprintf(b, "%s %s\n", key, strings.Join(names, " "))
	}
}

// ParseIndex reads what Marshal wrote. The error names the line.
func ParseIndex(data []byte) (*Index, error) {
	if len(data) > maxIndex {
		return nil, fmt.Errorf("module index: %d bytes, more than %d", len(data), maxIndex)
	}
	ix := &Index{}
	sc := bufio.NewScanner(bytes.NewReader(data))
	if !sc.Scan() || sc.Text() != indexMagic {
		return nil, fmt.Errorf("module index: first line is not %q", indexMagic)
	}
	for n := 2; sc.Scan(); n++ {
		if err := ix.parseLine(sc.Text()); err != nil {
			return nil, fmt.Errorf("module index, line %d: %w", n, err)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("module index: %w", err)
	}
	return ix, ix.Build()
}

func (ix *Index) parseLine(line string) error {
	key, rest, _ := strings.Cut(line, " ")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return fmt.Errorf("%q has no value", key)
	}
	switch key {
	case "module":
		if len(fields) != 2 {
			return fmt.Errorf("module: %d fields, want name and path", len(fields))
		}
		ix.Modules = append(ix.Modules, Module{Name: fields[0], Path: fields[1]})
		return nil
	case "builtin":
		ix.Builtin = append(ix.Builtin, fields...)
		return nil
	}
	if len(ix.Modules) == 0 {
		return fmt.Errorf("%q before the first module", key)
	}
	m := &ix.Modules[len(ix.Modules)-1]
	switch key {
	case "depends":
		m.Depends = fields
	case "pre":
		m.Pre = fields
	case "post":
		m.Post = fields
	case "alias":
		m.Aliases = append(m.Aliases, rest)
	default:
		return fmt.Errorf("unknown key %q", key)
	}
	return nil
}

// Build makes the tables that Order and Match use. ParseIndex calls it; an Index put together by hand needs it.
func (ix *Index) Build() error {
	ix.byName = make(map[string]*Module, len(ix.Modules))
	ix.builtin = make(map[string]bool, len(ix.Builtin))
	ix.byBus = make(map[string][]pattern)
	for _, n := range ix.Builtin {
		ix.builtin[n] = true
	}
	for i := range ix.Modules {
		m := &ix.Modules[i]
		if ix.byName[m.Name] != nil {
			return fmt.Errorf("module index: module %s twice", m.Name)
		}
		ix.byName[m.Name] = m
		for _, a := range m.Aliases {
			p := pattern{prefix: literal(a), glob: a, module: m}
			bus := busOf(p.prefix)
			ix.byBus[bus] = append(ix.byBus[bus], p)
		}
	}
	return nil
}

// literal is the part of a pattern in front of its first wildcard.
func literal(glob string) string {
	if i := strings.IndexAny(glob, `*?[\`); i >= 0 {
		return glob[:i]
	}
	return glob
}

// busOf is the part of a modalias up to its first colon ("pci"), empty when there is none.
func busOf(s string) string {
	bus, _, ok := strings.Cut(s, ":")
	if !ok {
		return ""
	}
	return bus
}

// Lookup returns the module of that name, nil when the index has none.
func (ix *Index) Lookup(name string) *Module { return ix.byName[Canonical(name)] }

// IsBuiltin says whether the kernel has the module built in.
func (ix *Index) IsBuiltin(name string) bool { return ix.builtin[Canonical(name)] }

// Match returns the names of the modules with an alias that matches modalias, in the order of the index.
func (ix *Index) Match(modalias string) []string {
	var names []string
	seen := map[string]bool{}
	try := func(ps []pattern) {
		for _, p := range ps {
			if !seen[p.module.Name] && strings.HasPrefix(modalias, p.prefix) && fnmatch(p.glob, modalias) {
				seen[p.module.Name] = true
				names = append(names, p.module.Name)
			}
		}
	}
	bus := busOf(modalias)
	try(ix.byBus[bus])
	if bus != "" {
		try(ix.byBus[""]) // patterns with a wildcard in the bus, or none at all
	}
	return names
}

// Order returns the modules to load for name, in order: what it depends on, then itself, then
// softdep post. A hard dependency that is neither in the index nor built in is an error.
func (ix *Index) Order(name string) ([]*Module, error) {
	o := ordering{ix: ix, seen: map[string]bool{}}
	if err := o.add(Canonical(name)); err != nil {
		return nil, err
	}
	return o.out, nil
}

type ordering struct {
	ix   *Index
	seen map[string]bool
	out  []*Module
}

func (o *ordering) add(name string) error {
	if o.seen[name] || o.ix.builtin[name] {
		return nil
	}
	o.seen[name] = true
	m := o.ix.byName[name]
	if m == nil {
		return fmt.Errorf("module %s is not in this initramfs", name)
	}
	for _, p := range m.Pre {
		o.want(p)
	}
	for _, d := range m.Depends {
		if err := o.add(d); err != nil {
			return fmt.Errorf("module %s needs %w", name, err)
		}
	}
	o.out = append(o.out, m)
	for _, p := range m.Post {
		o.want(p)
	}
	return nil
}

// want adds a soft dependency, which may be a module or an alias ("crypto-crc32c", "crc32c"), or missing.
func (o *ordering) want(name string) {
	names := []string{name}
	if o.ix.byName[name] == nil {
		names = o.ix.Match(name)
	}
	for _, n := range names {
		saved := len(o.out)
		if o.add(n) != nil {
			o.out = o.out[:saved]
		}
	}
}
