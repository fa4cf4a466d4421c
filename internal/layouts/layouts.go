// Package layouts reads the layouts of disks from a server's directory: NAME.yaml is the layout NAME.
package layouts

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"swarmboot/imagefmt"
	"swarmboot/internal/layout"
	"swarmboot/internal/strictyaml"
)

const suffix = ".yaml"

// ValidName says whether a layout can have this name: those that images can have, as the parameter swarmboot.layout takes them.
func ValidName(s string) bool { return imagefmt.ValidName(s) }

// Parse reads one layout from YAML, strictly, and checks it; file is its name for errors. Every error is a *strictyaml.Error, joined.
func Parse(file string, b []byte) (*layout.Layout, error) {
	l := &layout.Layout{}
	doc, err := strictyaml.Read(file, b, layout.MaxLayout, l)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, e := range l.Check() {
		errs = append(errs, doc.Error(e))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	// The node's limit is for JSON, which may be longer: it writes < as \u003c.
	if b, err := json.Marshal(l); err != nil || len(b) > layout.MaxLayout {
		return nil, &strictyaml.Error{File: file, Reason: fmt.Sprintf("more than %d bytes as JSON, as nodes get it", layout.MaxLayout)}
	}
	return l, nil
}

// ReadFile reads and checks one file.
func ReadFile(file string) (*layout.Layout, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, layout.MaxLayout+1))
	if err != nil {
		return nil, err
	}
	return Parse(filepath.Base(file), b)
}

// JSON returns the layout with this name as the node gets it. One that does not exist is an error that wraps fs.ErrNotExist.
func JSON(dir, layoutName string) ([]byte, error) {
	if !ValidName(layoutName) {
		return nil, fmt.Errorf("layout %.100q: %w", layoutName, os.ErrNotExist)
	}
	l, err := ReadFile(filepath.Join(dir, layoutName+suffix))
	if err != nil {
		return nil, err
	}
	return json.Marshal(l)
}

// CheckDir checks every layout of a directory. It returns how many there are and all errors, joined; a file whose name no layout
// can have is one.
func CheckDir(dir string) (files int, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, e := range entries {
		base, ok := strings.CutSuffix(e.Name(), suffix)
		if strings.HasSuffix(e.Name(), ".yml") {
			errs = append(errs, fmt.Errorf("%s: is not read: name it %s%s", e.Name(), strings.TrimSuffix(e.Name(), ".yml"), suffix))
		}
		if !ok || strings.HasPrefix(base, ".") {
			continue
		}
		if files++; !ValidName(base) {
			errs = append(errs, fmt.Errorf("%s: is not read: no layout can have this name", e.Name()))
			continue
		}
		_, err := ReadFile(filepath.Join(dir, e.Name()))
		errs = append(errs, err)
	}
	return files, errors.Join(errs...)
}
