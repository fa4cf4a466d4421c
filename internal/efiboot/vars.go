package efiboot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// globalVariable is EFI_GLOBAL_VARIABLE, the vendor of all variables here.
	globalVariable = "-8be4df61-93ca-11d2-aa0d-00e098032b8c"
	// attributes: kept over power cycles, for boot services and for the operating system.
	attributes = 7

	attributesSize = 4
	maxVariable    = 64 << 10 // bytes; firmware has less
	immutable      = 0x10     // FS_IMMUTABLE_FL, linux/fs.h
)

// FullError says that the firmware has no room for a variable.
type FullError struct {
	Name string
	Err  error
}

func (e *FullError) Error() string {
	return fmt.Sprintf("the firmware's memory for variables is full: no room for %s (%v); delete boot entries in its set-up", e.Name, e.Err)
}

// Unwrap returns the cause.
func (e *FullError) Unwrap() error { return e.Err }

// Vars are the boot variables of the firmware. Names are without their vendor GUID.
type Vars struct{ dir string }

// OpenVars returns the variables in a mounted efivarfs, usually /sys/firmware/efi/efivars.
func OpenVars(dir string) (*Vars, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("firmware variables: %w", err)
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("firmware variables: %s is empty: efivarfs is not mounted, or the kernel was started with efi=noruntime", dir)
	}
	return &Vars{dir}, nil
}

func (v *Vars) path(name string) string { return filepath.Join(v.dir, name+globalVariable) }

// read returns a variable without its attributes; fs.ErrNotExist when there is none.
func (v *Vars) read(name string) ([]byte, error) {
	f, err := os.Open(v.path(name))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer f.Close()
	b := make([]byte, maxVariable+1)
	n := 0
	for n < len(b) {
		k, err := f.Read(b[n:])
		n += k
		if k == 0 || err != nil {
			break
		}
	}
	switch {
	case n > maxVariable:
		return nil, fmt.Errorf("read %s: more than %d bytes", name, maxVariable)
	case n < attributesSize:
		return nil, fmt.Errorf("read %s: %d bytes: %w", name, n, fs.ErrInvalid)
	}
	return b[attributesSize:n:n], nil
}

// write sets a variable as a whole. A *FullError leaves it as it was.
func (v *Vars) write(name string, data []byte) error {
	err := v.set(v.path(name), append(binary.LittleEndian.AppendUint32(nil, attributes), data...))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC):
		return &FullError{name, err}
	}
	return fmt.Errorf("write %s: %w", name, err)
}

func (v *Vars) set(path string, b []byte) (err error) {
	if err := mutable(path); err != nil {
		return err
	}
	_, statErr := os.Lstat(path)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil && errors.Is(statErr, fs.ErrNotExist) {
			_ = os.Remove(path) // older kernels leave an empty file
		}
	}()
	if _, err := f.Write(b); err != nil { // the kernel hands each write to the firmware as one variable
		return err
	}
	return shorten(f, int64(len(b)))
}

// shorten cuts off what an ordinary file still has of its earlier content; a variable never has.
func shorten(f *os.File, size int64) error {
	fi, err := f.Stat()
	if err != nil || fi.Size() <= size {
		return err
	}
	return f.Truncate(size)
}

// remove deletes a variable; one that is not there is no error.
func (v *Vars) remove(name string) error {
	path := v.path(name)
	err := mutable(path)
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	return nil
}

// mutable clears the flag by which efivarfs protects most variables from a slip of the hand.
func mutable(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil || flags&immutable == 0 {
		return nil //nolint:nilerr // a file system without flags protects nothing
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags&^immutable)
}

var bootName = regexp.MustCompile(`^Boot([0-9A-F]{4})` + globalVariable + `$`)

func entryName(n uint16) string { return fmt.Sprintf("Boot%04X", n) }

// numbers lists the boot entries, in order or not.
func (v *Vars) numbers() ([]uint16, error) {
	files, err := os.ReadDir(v.dir)
	if err != nil {
		return nil, fmt.Errorf("firmware variables: %w", err)
	}
	var list []uint16
	for _, f := range files {
		if m := bootName.FindStringSubmatch(f.Name()); m != nil {
			n, _ := strconv.ParseUint(m[1], 16, 16)
			list = append(list, uint16(n))
		}
	}
	slices.Sort(list)
	return list, nil
}

// words reads a variable that is a list of numbers: BootOrder, BootNext, BootCurrent. One that is not there is empty.
func (v *Vars) words(name string) ([]uint16, error) {
	b, err := v.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(b)%2 != 0 {
		return nil, fmt.Errorf("read %s: %d bytes are no list of numbers", name, len(b))
	}
	var list []uint16
	for ; len(b) > 0; b = b[2:] {
		list = append(list, binary.LittleEndian.Uint16(b))
	}
	return list, nil
}

func (v *Vars) writeWords(name string, list []uint16) error {
	var b []byte
	for _, n := range list {
		b = binary.LittleEndian.AppendUint16(b, n)
	}
	return v.write(name, b)
}
