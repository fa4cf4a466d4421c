// Package durable changes folders so that the change is still there after a power cut. A rename, or a new folder, is an entry of the
// folder above: fsync of the file does not write it, fsync of that folder does (fsync(2), Notes).
package durable

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// WriteFile puts data in place of the file at path. After a power cut the old file is there or the new one, whole; once WriteFile has
// returned nil, the new one.
func WriteFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := renameio.WriteFile(path, data, 0o644, renameio.WithTempDir(dir)); err != nil {
		return err
	}
	return SyncDir(dir)
}

// MkdirAll makes a folder and those above it that are missing.
func MkdirAll(dir string) error {
	if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MkdirAll(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		if fi, serr := os.Stat(dir); serr != nil || !fi.IsDir() { // nobody else has made it meanwhile
			return err
		}
	}
	return SyncDir(parent)
}

// SyncDir returns when the entries of a folder are on the disk.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	// Some network file systems know no fsync of folders and say EINVAL: there is nothing to wait for.
	if err := d.Sync(); !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}
