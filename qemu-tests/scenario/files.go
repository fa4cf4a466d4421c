// Package scenario sets up what the machine tests and the demo have in common: an image
// of the Debian test disk, a server in a namespace of its own, and machines that boot from it.
package scenario

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Files is what make has built.
type Files struct {
	Build     string // the build directory
	Kernel    string // that nodes boot
	Initramfs string
	Disk      string // the Debian test disk, raw

	// What a system that was deployed from Disk says of itself.
	RootPARTUUID, KnownSHA256, Hostname string
}

// Find looks for the build directory of the module that the working directory is in.
func Find() (*Files, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("working directory: %w", err)
	}
	for !exists(filepath.Join(dir, "go.mod")) {
		if dir == "/" {
			return nil, errors.New("not inside swarmboot's source tree")
		}
		dir = filepath.Dir(dir)
	}
	build := filepath.Join(dir, "build")
	f := &Files{
		Build:     build,
		Kernel:    filepath.Join(build, "kernel", "generic", "vmlinuz"),
		Initramfs: filepath.Join(build, "initramfs.cpio.zst"),
		Disk:      filepath.Join(build, "debian", "debian.raw"),
	}
	for _, file := range []string{f.Kernel, f.Initramfs, f.Disk, f.Program("swarmboot"), f.Program("deploy")} {
		if !exists(file) {
			return nil, fmt.Errorf("%s is missing: run make build initramfs image", file)
		}
	}
	return f, f.readExpected(filepath.Join(build, "debian", "debian.env"))
}

// Program is the path of one of our programs.
func (f *Files) Program(name string) string { return filepath.Join(f.Build, "bin", name) }

func (f *Files) readExpected(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("what the test disk says of itself: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch name {
		case "ROOT_PARTUUID":
			f.RootPARTUUID = value
		case "KNOWN_SHA256":
			f.KnownSHA256 = value
		case "HOSTNAME":
			f.Hostname = value
		}
	}
	if f.RootPARTUUID == "" || f.KnownSHA256 == "" || f.Hostname == "" {
		return fmt.Errorf("%s: not all values are there", path)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
