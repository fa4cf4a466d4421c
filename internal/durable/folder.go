package durable

import (
	"errors"
	"fmt"
	"os"
)

// ErrReplaced says that a path leads to another folder than it did.
var ErrReplaced = errors.New("was mounted, unmounted or replaced meanwhile")

// Folder is what was found at a path. What lies there later may be something else: a file system is mounted late, or goes away and leaves
// its empty mount point.
type Folder struct {
	path string
	dir  *os.File // stays open: the number of its inode is given to no other one, and FUSE and overlayfs give it no other number
}

// OpenFolder holds on to the folder that is at path now.
func OpenFolder(path string) (*Folder, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &Folder{path: path, dir: dir}, nil
}

// Same returns an error that wraps ErrReplaced when another folder is at the path now, and another one when that cannot be said. Of nil, which is
// any folder, it returns nil.
func (f *Folder) Same() error {
	if f == nil {
		return nil
	}
	was, err := f.dir.Stat()
	if err != nil {
		return err
	}
	is, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	if !os.SameFile(was, is) {
		return fmt.Errorf("%s %w", f.path, ErrReplaced)
	}
	return nil
}

// Close lets go of the folder.
func (f *Folder) Close() error { return f.dir.Close() }
