package target

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"swarmboot/imagefmt"
)

// Tree is a mounted file system of the deployed disk.
type Tree struct {
	Partition int    // number in the table; 0 = the whole disk
	Dir       string // where it is mounted
}

// open opens a regular file of the tree for reading. The tree is its whole world:
// absolute symlinks and ".." lead to its root at most (openat2(2), RESOLVE_IN_ROOT).
func (t Tree) open(name string) (*os.File, error) {
	f, err := t.openAny(name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (t Tree) openAny(name string, flags uint64) (*os.File, error) {
	dir, err := os.Open(t.Dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	fd, err := unix.Openat2(int(dir.Fd()), name, &unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (t Tree) isFile(name string) bool {
	// Without opening it for reading, which a device in the image could notice.
	f, err := t.openAny(name, unix.O_PATH)
	if err != nil {
		return false
	}
	defer f.Close()
	fi, err := f.Stat()
	return err == nil && fi.Mode().IsRegular() && fi.Size() > 0
}

// list returns the names in a directory of the tree, nil when there is none.
func (t Tree) list(dir string) []string {
	f, err := t.openAny(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ := f.Readdirnames(maxNames) // what could be read
	return names
}

// maxNames bounds the memory that a hostile directory can take.
const maxNames = 10_000

// NoKernelError says that no kernel was found, or not the one that the boot entry names.
type NoKernelError struct {
	Wanted string // path, "" = any
	Looked []string
}

func (e *NoKernelError) Error() string {
	what := "no kernel"
	if e.Wanted != "" {
		what = "no file " + e.Wanted
	}
	return fmt.Sprintf("%s in %s of the deployed system", what, strings.Join(e.Looked, ", "))
}

// FindBoot finds kernel and initrd on the file systems of the deployed disk; the first tree is the root, the others
// are looked at because /boot may be one of them. What the boot entry names must be there; without a
// name it is the newest kernel that has an initrd, else (a kernel may do without) the newest. Not finding one is a *NoKernelError.
func FindBoot(trees []Tree, b imagefmt.Boot) (kernel, initrd File, err error) {
	if b.Kernel == "" {
		return newest(trees, b.Initrd)
	}
	kernel, tree, err := named(trees, b.Kernel)
	if err != nil {
		return File{}, File{}, err
	}
	if b.Initrd != "" {
		initrd, _, err = named(trees, b.Initrd)
		return kernel, initrd, err
	}
	if v, ok := version(path.Base(kernel.Path)); ok {
		initrd = initrdBeside(tree, path.Dir(kernel.Path), v)
	}
	return kernel, initrd, nil
}

// named finds a file by its path in the root. When /boot is a file system of its own, the path
// there lacks "/boot".
func named(trees []Tree, name string) (File, Tree, error) {
	e := &NoKernelError{Wanted: name}
	for i, t := range trees {
		p := path.Clean("/" + name)
		if i > 0 {
			rest, ok := strings.CutPrefix(p, "/boot/")
			if !ok {
				break
			}
			p = "/" + rest
		}
		if t.isFile(p) {
			return File{t.Partition, p}, t, nil
		}
		e.Looked = append(e.Looked, place(t, path.Dir(p)))
	}
	return File{}, Tree{}, e
}

func place(t Tree, dir string) string {
	if t.Partition == 0 {
		return dir
	}
	return fmt.Sprintf("%s on partition %d", dir, t.Partition)
}

func newest(trees []Tree, initrd string) (File, File, error) {
	e := &NoKernelError{}
	for i, t := range trees {
		dir := "/boot"
		if i > 0 {
			dir = "/"
		}
		k, ird, ok := newestIn(t, dir)
		if !ok {
			e.Looked = append(e.Looked, place(t, dir))
			continue
		}
		var err error
		if initrd != "" {
			ird, _, err = named(trees, initrd)
		}
		return k, ird, err
	}
	return File{}, File{}, e
}

func newestIn(t Tree, dir string) (kernel, initrd File, ok bool) {
	type candidate struct{ name, version string }
	var all []candidate
	for _, name := range t.list(dir) {
		if v, isKernel := version(name); isKernel && t.isFile(path.Join(dir, name)) {
			all = append(all, candidate{name, v})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		if c := compareVersions(b.version, a.version); c != 0 {
			return c
		}
		return strings.Compare(b.name, a.name)
	})
	for _, c := range all {
		if initrd = initrdBeside(t, dir, c.version); initrd.Path != "" {
			return File{t.Partition, path.Join(dir, c.name)}, initrd, true
		}
	}
	if len(all) == 0 {
		return File{}, File{}, false
	}
	return File{t.Partition, path.Join(dir, all[0].name)}, File{}, true
}

// version returns V of a kernel named vmlinuz-V or vmlinux-V. Rescue kernels and what package
// managers leave behind are not kernels to boot.
func version(name string) (v string, ok bool) {
	for _, prefix := range []string{"vmlinuz-", "vmlinux-"} {
		if v, ok = strings.CutPrefix(name, prefix); ok {
			break
		}
	}
	if !ok || v == "" || strings.Contains(v, "-rescue-") {
		return "", false
	}
	for _, suffix := range []string{".old", ".bak", ".dpkg-new", ".dpkg-tmp", ".dpkg-bak", ".rpmnew", ".rpmsave", ".sig", ".hmac", ".efi.signed", "~"} {
		if strings.HasSuffix(v, suffix) {
			return "", false
		}
	}
	return v, true
}

// initrdBeside finds the initrd of version v: Debian, Fedora and Arch, SUSE, Alpine.
func initrdBeside(t Tree, dir, v string) File {
	for _, name := range []string{"initrd.img-" + v, "initramfs-" + v + ".img", "initrd-" + v, "initramfs-" + v, "initrd-" + v + ".img"} {
		if p := path.Join(dir, name); t.isFile(p) {
			return File{t.Partition, p}
		}
	}
	return File{}
}
