package main

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"swarmboot/internal/drivers"
)

// maxModule bounds an unpacked module, in bytes.
const maxModule = 64 << 20

// moduleSuffixes are the names that kernel modules have (CONFIG_MODULE_COMPRESS_*).
var moduleSuffixes = []string{".ko", ".ko.gz", ".ko.xz", ".ko.zst"}

// moduleName returns a file's canonical module name, "" when it is not a module.
func moduleName(file string) string {
	for _, s := range moduleSuffixes {
		if base, ok := strings.CutSuffix(path.Base(file), s); ok {
			return drivers.Canonical(base)
		}
	}
	return ""
}

// readModule returns a module's ELF image, unpacked by its name's suffix.
func readModule(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	switch path.Ext(file) {
	case ".gz":
		r, err = gzip.NewReader(f)
	case ".xz":
		r, err = xz.NewReader(f)
	case ".zst":
		var d *zstd.Decoder
		if d, err = zstd.NewReader(f, zstd.WithDecoderMaxMemory(maxModule)); err == nil {
			defer d.Close()
			r = d
		}
	}
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", file, err)
	}
	image, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", file, err)
	}
	if len(image) > maxModule {
		return nil, fmt.Errorf("unpack %s: more than %d bytes", file, maxModule)
	}
	return image, nil
}

// modinfo is what a module says of itself in its .modinfo section (include/linux/moduleparam.h).
type modinfo struct {
	drivers.Module
	firmware []string
}

// parseModule reads the .modinfo section of a module's ELF image.
func parseModule(image []byte) (modinfo, error) {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return modinfo{}, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return modinfo{}, fmt.Errorf("no .modinfo section")
	}
	data, err := s.Data()
	if err != nil {
		return modinfo{}, fmt.Errorf("read .modinfo: %w", err)
	}
	return parseModinfo(data), nil
}

// parseModinfo reads KEY=VALUE strings, each ended by a NUL.
func parseModinfo(data []byte) modinfo {
	var m modinfo
	for _, field := range strings.Split(string(data), "\x00") {
		key, value, ok := strings.Cut(field, "=")
		if ok {
			m.add(key, value)
		}
	}
	slices.Sort(m.Aliases)
	m.Aliases = slices.Compact(m.Aliases)
	return m
}

func (m *modinfo) add(key, value string) {
	switch key {
	case "depends":
		for _, d := range strings.Split(value, ",") {
			if d != "" {
				m.Depends = append(m.Depends, drivers.Canonical(d))
			}
		}
	case "alias":
		if value != "" && !strings.ContainsAny(value, " \n") {
			m.Aliases = append(m.Aliases, value)
		}
	case "softdep":
		m.addSoft(value)
	case "firmware":
		m.firmware = append(m.firmware, value)
	}
}

// addSoft reads "pre: a b post: c" (modprobe.d(5), softdep).
func (m *modinfo) addSoft(value string) {
	var into *[]string
	for _, word := range strings.Fields(value) {
		switch {
		case word == "pre:":
			into = &m.Pre
		case word == "post:":
			into = &m.Post
		case into != nil:
			*into = append(*into, word)
		}
	}
}
