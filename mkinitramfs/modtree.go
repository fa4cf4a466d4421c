package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"swarmboot/internal/drivers"
)

// tree is a kernel's folder of modules, /lib/modules/VERSION.
type tree struct {
	dir     string
	version string
	files   map[string]string // canonical name → path relative to dir
	builtin []string
}

// openTree lists the modules under dir. Only dir/kernel and modules.builtin are needed: no depmod.
func openTree(dir string) (*tree, error) {
	// A link to lib/modules/VERSION is as good: the version is in the name of what it leads to.
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("list modules: %w", err)
	}
	t := &tree{dir: dir, version: filepath.Base(filepath.Clean(dir)), files: map[string]string{}}
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := moduleName(p)
		if name == "" || !d.Type().IsRegular() {
			return nil
		}
		rel, err := filepath.Rel(dir, p)
		if err == nil {
			t.files[name] = rel
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list modules: %w", err)
	}
	if len(t.files) == 0 {
		return nil, fmt.Errorf("list modules: no .ko file under %s", dir)
	}
	data, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, line := range strings.Fields(string(data)) {
		if name := moduleName(line); name != "" {
			t.builtin = append(t.builtin, name)
		}
	}
	return t, nil
}

// picked is a module chosen for the archive.
type picked struct {
	modinfo
	image []byte // the ELF file
}

// pick returns the modules that want asks for and all they depend on, by name. A name in extra that is neither
// a module nor built in is an error; one that only want asks for may be missing, since kernels differ.
func (t *tree) pick(want func(rel string) bool, extra []string) ([]picked, error) {
	p := picker{tree: t, chosen: map[string]*picked{}}
	for _, name := range sortedKeys(t.files) {
		if want(t.files[name]) {
			if err := p.add(name); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range extra {
		name = drivers.Canonical(name)
		if t.files[name] == "" && !slices.Contains(t.builtin, name) {
			return nil, fmt.Errorf("module %s: not in %s", name, t.dir)
		}
		if err := p.add(name); err != nil {
			return nil, err
		}
	}
	var out []picked
	for _, name := range sortedKeys(p.chosen) {
		out = append(out, *p.chosen[name])
	}
	return out, nil
}

type picker struct {
	tree   *tree
	chosen map[string]*picked
}

// add chooses a module with its dependencies, hard and soft. A built-in module needs nothing.
func (p *picker) add(name string) error {
	rel := p.tree.files[name]
	if rel == "" || p.chosen[name] != nil {
		return nil
	}
	image, err := readModule(filepath.Join(p.tree.dir, rel))
	if err != nil {
		return err
	}
	info, err := parseModule(image)
	if err != nil {
		return fmt.Errorf("read %s: %w", rel, err)
	}
	info.Name = name
	info.Path = strings.TrimSuffix(rel, filepath.Ext(rel))
	if filepath.Ext(rel) == ".ko" {
		info.Path = rel
	}
	p.chosen[name] = &picked{info, image}
	for _, d := range info.Depends {
		if p.tree.files[d] == "" && !slices.Contains(p.tree.builtin, d) {
			return fmt.Errorf("module %s needs %s, which is not in %s", name, d, p.tree.dir)
		}
		if err := p.add(d); err != nil {
			return err
		}
	}
	for _, d := range slices.Concat(info.Pre, info.Post) {
		if err := p.add(drivers.Canonical(d)); err != nil {
			return err
		}
	}
	return nil
}

// builtinOnly keeps the index small: the built-in names that a chosen module or its soft dependencies name.
func (t *tree) builtinOnly(mods []picked) []string {
	needed := map[string]bool{}
	for _, m := range mods {
		for _, d := range slices.Concat(m.Depends, m.Pre, m.Post) {
			needed[drivers.Canonical(d)] = true
		}
	}
	var out []string
	for _, b := range t.builtin {
		if needed[b] || isWanted(b) {
			out = append(out, b)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// firmwareFiles returns the files under dir that the modules name, relative to dir. A missing file
// is left out: most drivers run without, or name files of many generations of a device.
func firmwareFiles(dir string, mods []picked) ([]string, error) {
	if dir == "" {
		return nil, nil
	}
	found := map[string]bool{}
	for _, m := range mods {
		for _, fw := range m.firmware {
			for _, suffix := range []string{"", ".xz", ".zst"} {
				info, err := os.Stat(filepath.Join(dir, fw+suffix))
				if err == nil && info.Mode().IsRegular() {
					found[fw+suffix] = true
					break
				}
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					return nil, err
				}
			}
		}
	}
	return sortedKeys(found), nil
}

// kernelVersion reads the version out of a bzImage (Documentation/arch/x86/boot.rst: kernel_version).
func kernelVersion(image []byte) string {
	const header = 0x200
	if len(image) < 0x210 || string(image[0x202:0x206]) != "HdrS" {
		return ""
	}
	off := header + int(image[0x20e]) + int(image[0x20f])<<8
	if off >= len(image) {
		return ""
	}
	text, _, _ := bytes.Cut(image[off:min(off+256, len(image))], []byte{0})
	version, _, _ := strings.Cut(string(text), " ")
	return version
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
