package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// change says how a file is written.
type change struct {
	owner         // of a new file
	mode  *uint32 // else what is there is kept
	uid   *int
	gid   *int
}

// write replaces a file atomically: it has the old or the new content, on the disk, whatever happens. Owner, mode and
// SELinux label are those of the file that was there, of a new one those given and the directory's label.
func (t *tree) write(name string, data []byte, c change) error {
	p, err := t.resolve(name)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer p.close()
	if err := p.write(data, c); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func (p place) write(data []byte, c change) error {
	o, label, err := p.present(c.owner)
	if err != nil {
		return err
	}
	if c.mode != nil {
		o.mode = *c.mode
	}
	if c.uid != nil {
		o.uid = *c.uid
	}
	if c.gid != nil {
		o.gid = *c.gid
	}
	dir, tmp := int(p.dir.Fd()), temporary()
	fd, err := unix.Openat(dir, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), tmp)
	_, err = f.Write(data)
	err = errors.Join(err, o.set(f, label))
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = unix.Renameat(dir, tmp, dir, p.base)
	}
	if err != nil {
		_ = unix.Unlinkat(dir, tmp, 0)
		return err
	}
	return p.dir.Sync()
}

// present returns owner, mode and label of the file that is there, else those of a new one.
func (p place) present(fresh owner) (owner, string, error) {
	var st unix.Stat_t
	err := unix.Fstatat(int(p.dir.Fd()), p.base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) || err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return fresh, newLabel(p.dir, fresh.seType), nil
	}
	if err != nil {
		return owner{}, "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return owner{}, "", errors.New("what is there is not a regular file")
	}
	fd, err := unix.Openat(int(p.dir.Fd()), p.base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return owner{}, "", err
	}
	defer unix.Close(fd)
	return owner{uid: int(st.Uid), gid: int(st.Gid), mode: st.Mode & 0o7777}, getLabel(fd), nil
}

func (o owner) set(f *os.File, label string) error {
	if err := f.Chown(o.uid, o.gid); err != nil {
		return err
	}
	// After chown, which clears set-user-ID.
	if err := unix.Fchmod(int(f.Fd()), o.mode); err != nil {
		return err
	}
	if label == "" {
		return nil
	}
	if err := unix.Fsetxattr(int(f.Fd()), seLinux, []byte(label), 0); err != nil {
		return fmt.Errorf("set SELinux label: %w", err)
	}
	return nil
}

// getLabel returns a file's SELinux label, "" when it has none.
func getLabel(fd int) string {
	b := make([]byte, 4096)
	n, err := unix.Fgetxattr(fd, seLinux, b)
	if err != nil {
		return ""
	}
	return string(b[:n])
}

// newLabel is the label of a new file in dir: user, role and level of the directory's, and the type seType if given.
func newLabel(dir *os.File, seType string) string {
	label := getLabel(int(dir.Fd()))
	parts := strings.SplitN(label, ":", 4)
	if seType == "" || len(parts) < 3 {
		return label
	}
	parts[1], parts[2] = "object_r", seType
	if len(parts) == 3 { // no levels; the label may end with NUL
		parts[2] += strings.Repeat("\x00", strings.Count(label, "\x00"))
	}
	return strings.Join(parts, ":")
}

func mkdirIn(parent *os.File, name string, o owner) error {
	dir := int(parent.Fd())
	if err := unix.Mkdirat(dir, name, 0o700); err != nil {
		return err
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if err := o.set(f, newLabel(parent, o.seType)); err != nil {
		return err
	}
	return errors.Join(f.Sync(), parent.Sync())
}

// mkdir makes one directory if it is missing; the one above must be there.
func (t *tree) mkdir(name string, o owner) error {
	above, base := split(name)
	parent, err := t.dir(above, false)
	if err != nil {
		return err
	}
	defer parent.Close()
	if t.exists(name) {
		f, err := t.dir(name, false)
		if err == nil {
			f.Close()
		}
		return err
	}
	if err := mkdirIn(parent, base, o); err != nil {
		return fmt.Errorf("make directory %s: %w", name, err)
	}
	return nil
}

// remove removes a file or symlink, not what it leads to, if it is there.
func (t *tree) remove(name string) error {
	above, base := split(name)
	dir, err := t.dir(above, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Unlinkat(int(dir.Fd()), base, 0); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return dir.Sync()
}
