package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestFolderIsTheSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "images")
	mkdir := func() {
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mkdir()
	f, err := OpenFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Same(); err != nil {
		t.Error(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := f.Same(); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrReplaced) {
		t.Errorf("no folder: %v", err)
	}
	mkdir() // many file systems give the number of an inode again
	if err := f.Same(); !errors.Is(err, ErrReplaced) {
		t.Errorf("another folder: %v", err)
	}
	if _, err := OpenFolder(path + "2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if err := (*Folder)(nil).Same(); err != nil {
		t.Error(err)
	}
}
