// Package profiles reads the profiles of nodes from a server's directory: default.yaml for all, and one file for a
// node, which says what is different there.
package profiles

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"swarmboot/internal/params"
)

const (
	suffix      = ".yaml"
	defaultName = "default"
)

var nodeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// fileName is the name, without suffix, of a node's own file: aa-bb-cc-dd-ee-ff for a MAC address, else the node's name.
func fileName(node string) (string, error) {
	if mac, err := net.ParseMAC(node); err == nil && len(mac) == 6 {
		return strings.ReplaceAll(mac.String(), ":", "-"), nil
	}
	if !nodeName.MatchString(node) {
		return "", fmt.Errorf("node %.100q is neither a MAC address nor a host name", node)
	}
	return node, nil
}

// Name returns the first of a node's names that has a file of its own, and the first of all if none has.
func Name(dir, node string, others ...string) string {
	for _, n := range append([]string{node}, others...) {
		name, err := fileName(n)
		if err != nil {
			continue
		}
		if _, err := os.Lstat(filepath.Join(dir, name+suffix)); !errors.Is(err, fs.ErrNotExist) {
			return n
		}
	}
	return node
}

// For returns the profile of a node: its own file over default.yaml. The files are read at every call. Neither has to exist:
// without any the profile is empty. Errors name file, line and field.
func For(dir, node string, rules ...Rule) (*params.Profile, error) {
	name, err := fileName(node)
	if err != nil {
		return nil, err
	}
	p, err := optional(filepath.Join(dir, defaultName+suffix), rules...)
	if err != nil || name == defaultName {
		return p, err
	}
	own, err := optional(filepath.Join(dir, name+suffix), rules...)
	if err != nil {
		return nil, err
	}
	merged := p.Merge(own)
	if errs := check(merged, rules); len(errs) > 0 { // what only shows when the two are put together
		return nil, fmt.Errorf("%s over %s: %w", name+suffix, defaultName+suffix, errs[0])
	}
	return merged, nil
}

// JSON returns what For does as the node gets it.
func JSON(dir, node string) ([]byte, error) {
	p, err := For(dir, node)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(p)
	if err == nil && len(b) > params.MaxProfile {
		err = fmt.Errorf("profile of %s: %d bytes, at most %d are taken", node, len(b), params.MaxProfile)
	}
	return b, err
}

func optional(file string, rules ...Rule) (*params.Profile, error) {
	p, err := ReadFile(file, rules...)
	if errors.Is(err, fs.ErrNotExist) {
		return &params.Profile{}, nil
	}
	return p, err
}

// ReadFile reads and checks one file.
func ReadFile(file string, rules ...Rule) (*params.Profile, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, params.MaxProfile+1))
	if err != nil {
		return nil, err
	}
	return Parse(filepath.Base(file), b, rules...)
}

// CheckDir checks every file of a directory, and every node's merged with default.yaml. It returns the paths of the files
// that it read and all errors, joined; a name that no node can have is one.
func CheckDir(dir string, rules ...Rule) (files []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var errs []error
	_, defaultErr := optional(filepath.Join(dir, defaultName+suffix), rules...)
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if strings.HasSuffix(name, ".yml") {
			errs = append(errs, fmt.Errorf("%s: is not read: name it %s%s", name, strings.TrimSuffix(name, ".yml"), suffix))
		}
		if !ok || strings.HasPrefix(name, ".") {
			continue
		}
		files = append(files, filepath.Join(dir, e.Name()))
		errs = append(errs, checkFile(dir, name, defaultErr, rules))
	}
	return files, errors.Join(errs...)
}

// checkFile checks one file, and what comes of it over default.yaml if that is good.
func checkFile(dir, name string, defaultErr error, rules []Rule) error {
	if name == defaultName {
		return defaultErr
	}
	if err := checkName(name); err != nil {
		return err
	}
	if _, err := ReadFile(filepath.Join(dir, name+suffix), rules...); err != nil || defaultErr != nil {
		return err
	}
	_, err := For(dir, name, rules...)
	return err
}

var almostMAC = regexp.MustCompile(`^[0-9A-Fa-f]{2}([-:]?[0-9A-Fa-f]{2}){5}$`)

// checkName says when a file is never read because of its name.
func checkName(name string) error {
	if almostMAC.MatchString(name) {
		hex := strings.ToLower(strings.NewReplacer(":", "", "-", "").Replace(name))
		want := strings.Join([]string{hex[:2], hex[2:4], hex[4:6], hex[6:8], hex[8:10], hex[10:]}, "-")
		if want != name {
			return fmt.Errorf("%s%s: is not read: name it %s%s", name, suffix, want, suffix)
		}
	}
	if !nodeName.MatchString(name) {
		return fmt.Errorf("%s%s: is not read: no node can have this name", name, suffix)
	}
	return nil
}
