package md

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// member is a block device that may become part of an array.
type member struct {
	f      *os.File
	path   string
	size   int64
	sector int
}

func (m *member) ReadAt(p []byte, off int64) (int, error)  { return m.f.ReadAt(p, off) }
func (m *member) WriteAt(p []byte, off int64) (int, error) { return m.f.WriteAt(p, off) }
func (m *member) Path() string                             { return m.path }
func (m *member) Size() int64                              { return m.size }
func (m *member) SectorSize() int                          { return m.sector }
func (m *member) Sync() error                              { return m.f.Sync() }

// memberSet is all members of an array, opened.
type memberSet struct{ all []*member }

func (s *memberSet) devices() []Device {
	var d []Device
	for _, m := range s.all {
		d = append(d, m)
	}
	return d
}

func (s *memberSet) superblocks() []found {
	var out []found
	for _, m := range s.all {
		out = append(out, look(m.path, m, m.size))
	}
	return out
}

// look reads the superblock of one member.
func look(path string, r io.ReaderAt, size int64) found {
	sb, err := Read(r, size)
	if errors.Is(err, ErrNoSuperblock) {
		err = nil
	}
	return found{path, sb, err}
}

// close may be called twice.
func (s *memberSet) close() error {
	var errs []error
	for _, m := range s.all {
		errs = append(errs, m.f.Close())
	}
	s.all = nil
	return errors.Join(errs...)
}

// open opens the members exclusively, openShared those of an array that runs, to look at them.
func (s *Spec) open() (*memberSet, error)       { return s.openAs(os.O_RDWR | unix.O_EXCL) }
func (s *Spec) openShared() (*memberSet, error) { return s.openAs(os.O_RDONLY) }

func (s *Spec) openAs(flags int) (*memberSet, error) {
	set := &memberSet{}
	seen := map[uint64]string{}
	for _, path := range s.devices() {
		m, rdev, err := openMember(path, flags)
		if m != nil {
			set.all = append(set.all, m)
		}
		if err == nil && seen[rdev] != "" {
			err = fmt.Errorf("%s and %s are the same device", seen[rdev], path)
		}
		if err != nil {
			_ = set.close()
			return nil, fmt.Errorf("array %s: %w", s.Name, err)
		}
		seen[rdev] = path
	}
	return set, nil
}

func openMember(path string, flags int) (*member, uint64, error) {
	f, err := os.OpenFile(path, flags, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, 0, &BusyError{Device: path}
	}
	if err != nil {
		return nil, 0, err
	}
	m := &member{f: f, path: path}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return m, 0, fmt.Errorf("%s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return m, 0, fmt.Errorf("%s is not a block device", path)
	}
	if flags&unix.O_ACCMODE != unix.O_RDONLY {
		if ro, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKROGET); err == nil && ro != 0 {
			return m, 0, fmt.Errorf("%s is read-only", path)
		}
	}
	if m.size, err = f.Seek(0, io.SeekEnd); err != nil {
		return m, 0, fmt.Errorf("%s: size: %w", path, err)
	}
	if m.sector, err = unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET); err != nil {
		return m, 0, fmt.Errorf("%s: sector size: %w", path, err)
	}
	dropCache(f)
	return m, st.Rdev, nil
}

// dropCache has the next read come from the device: the driver writes superblocks past the page cache. It needs
// a privilege that whoever may only read does not have; then what is read may be old.
func dropCache(f *os.File) { _ = unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0) }
