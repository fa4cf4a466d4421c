package identity

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	maxLinks = 40      // as the kernel's MAXSYMLINKS
	maxRead  = 4 << 20 // of a file in the image that is changed
	seLinux  = "security.selinux"
)

// tree is the deployed system's root file system. It is the whole world: absolute symlinks and ".." lead to its root at
// most (openat2(2), RESOLVE_IN_ROOT), as they do in the system once it runs, and nothing outside can be reached.
type tree struct {
	root   *os.File
	base   string       // path of root, as the kernel says
	mounts []mountPoint // where other file systems are mounted once the system runs, and are not now

	crosses bool // file systems of the system are mounted in it
}

func openTree(dir string) (*tree, error) {
	root, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	t := &tree{root: root}
	if t.base, err = os.Readlink(fdPath(root)); err != nil {
		root.Close()
		return nil, err
	}
	return t, nil
}

func (t *tree) close() { t.root.Close() }

func fdPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

func (t *tree) open(name string, flags uint64) (*os.File, error) {
	resolve := uint64(unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS)
	if !t.crosses {
		resolve |= unix.RESOLVE_NO_XDEV
	}
	fd, err := unix.Openat2(int(t.root.Fd()), name, &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: resolve})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// exists says whether name leads to anything.
func (t *tree) exists(name string) bool {
	f, err := t.open(name, unix.O_PATH)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// isLink says whether name itself is a symlink, wherever that leads.
func (t *tree) isLink(name string) bool {
	f, err := t.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return false
	}
	defer f.Close()
	fi, err := f.Stat()
	return err == nil && fi.Mode()&fs.ModeSymlink != 0
}

// read returns the content of a regular file.
func (t *tree) read(name string) ([]byte, error) {
	// O_NONBLOCK: a FIFO or device in the image must not hold us up.
	f, err := t.open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", name)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxRead+1))
	if err == nil && len(b) > maxRead {
		err = fmt.Errorf("%s: more than %d bytes", name, maxRead)
	}
	return b, err
}

// list returns the names in a directory, none when it is not there.
func (t *tree) list(dir string) ([]string, error) {
	f, err := t.open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// split cuts a path before its last element, without cleaning: ".." behind a symlink is not what it seems.
func split(name string) (dir, base string) {
	i := strings.LastIndexByte(name, '/')
	return name[:max(i, 1)], name[i+1:]
}

// dir opens a directory, and makes it and those above it when they are missing and create is set.
func (t *tree) dir(name string, create bool) (*os.File, error) {
	f, err := t.open(name, unix.O_RDONLY|unix.O_DIRECTORY)
	if !create || !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	above, base := split(strings.TrimRight(name, "/"))
	if base == "" || base == "." || base == ".." {
		return nil, err
	}
	parent, perr := t.dir(above, true)
	if perr != nil {
		return nil, perr
	}
	defer parent.Close()
	if err := mkdirIn(parent, base, owner{mode: 0o755}); err != nil {
		return nil, fmt.Errorf("make directory %s: %w", name, err)
	}
	return t.open(name, unix.O_RDONLY|unix.O_DIRECTORY)
}

// real is the path of an open directory in the tree, without symlinks.
func (t *tree) real(dir *os.File) (string, error) {
	p, err := os.Readlink(fdPath(dir))
	if err != nil {
		return "", err
	}
	rest, ok := strings.CutPrefix(p, strings.TrimRight(t.base, "/"))
	if !ok {
		return "", fmt.Errorf("%s: outside of the deployed system", p)
	}
	return path.Clean("/" + rest), nil
}

// place is where a file is: a directory and a name in it that is no symlink, or one that is to be replaced.
type place struct {
	dir  *os.File
	base string
	path string
}

// resolve finds the place of a file that is to be written, through symlinks, and makes missing directories. A symlink to
// where nothing is kept on the disk (/etc/resolv.conf to /run) is itself the place: the file is to take its stead.
func (t *tree) resolve(name string) (place, error) {
	var last place
	for range maxLinks {
		above, base := split(name)
		if base == "" || base == "." || base == ".." {
			last.close()
			return place{}, fmt.Errorf("%s: not the path of a file", name)
		}
		if last.dir != nil && volatile(path.Clean(name)) {
			return last, t.kept(last)
		}
		p, err := t.placeIn(above, base)
		last.close()
		if err != nil {
			return place{}, err
		}
		link, isLink := readLink(p)
		if !isLink {
			return p, t.kept(p)
		}
		last, name = p, link
		if !strings.HasPrefix(link, "/") {
			name = path.Dir(p.path) + "/" + link // not cleaned
		}
	}
	last.close()
	return place{}, &fs.PathError{Op: "open", Path: name, Err: unix.ELOOP}
}

func (t *tree) placeIn(above, base string) (place, error) {
	dir, err := t.dir(above, true)
	if err != nil {
		return place{}, err
	}
	real, err := t.real(dir)
	if err != nil {
		dir.Close()
		return place{}, err
	}
	return place{dir, base, path.Join(real, base)}, nil
}

func (p place) close() {
	if p.dir != nil {
		p.dir.Close()
	}
}

func readLink(p place) (string, bool) {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(p.dir.Fd()), p.base, b)
	if err != nil || n == 0 {
		return "", false
	}
	return string(b[:n]), true
}

func volatile(name string) bool {
	for _, dir := range []string{"/proc/", "/sys/", "/dev/", "/run/"} {
		if strings.HasPrefix(name, dir) {
			return true
		}
	}
	return false
}

// kept says whether a file is seen there once the system runs.
func (t *tree) kept(p place) error {
	if volatile(p.path) {
		p.close()
		return fmt.Errorf("%s: nothing is kept on the disk there", p.path)
	}
	for _, m := range t.mounts {
		if p.path == m.dir || strings.HasPrefix(p.path, m.dir+"/") {
			p.close()
			why := fmt.Sprintf("%s is none of the image's own partitions", m.device)
			if m.why != "" {
				why = m.why
			}
			return fmt.Errorf("%s: the system mounts another file system on %s, which would hide it (%s)", p.path, m.dir, why)
		}
	}
	return nil
}

// owner is what a new file or directory gets.
type owner struct {
	uid, gid int
	mode     uint32
	seType   string // SELinux type; "": the directory's
}

func temporary() string { return ".swarmboot-" + rand.Text() }
