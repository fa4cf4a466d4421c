package md

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// Read returns the superblock on a device of size bytes. Of several (the device was used with another version before) it takes
// the newest, as mdadm does. Without one the error is ErrNoSuperblock; one that is damaged is said to be, unless there is a whole one.
func Read(r io.ReaderAt, size int64) (*Superblock, error) {
	var newest *Superblock
	var damaged error
	for minor := range 3 {
		sb, err := readAt(r, size, minor)
		switch {
		case errors.Is(err, ErrNoSuperblock):
		case err != nil:
			damaged = err
		case newest == nil || sb.Created.After(newest.Created):
			newest = sb
		}
	}
	if newest != nil {
		return newest, nil
	}
	if damaged != nil {
		return nil, damaged
	}
	return nil, ErrNoSuperblock
}

// minSize is what md asks of a member at least.
const minSize = 24 * sector

func readAt(r io.ReaderAt, size int64, minor int) (*Superblock, error) {
	if size < minSize {
		return nil, ErrNoSuperblock
	}
	off := superOffset(minor, size)
	b := make([]byte, maxSuper)
	if n, err := r.ReadAt(b, off); err != nil && (!errors.Is(err, io.EOF) || n < headSize) {
		return nil, fmt.Errorf("read md superblock at %d: %w", off, err)
	}
	sb, err := parse(b, off)
	if errors.Is(err, ErrNoSuperblock) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("md superblock at %d: %w", off, err)
	}
	sb.Minor = minor
	if minor != 0 && (sb.DataOffset > size || sb.DataSize > size-sb.DataOffset) {
		return nil, fmt.Errorf("md superblock at %d: its data ends behind the end of the device", off)
	}
	return sb, nil
}

// Examine reads the superblock of the device or file at path. The device may be in use.
func Examine(path string) (*Superblock, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	dropCache(f)
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("%s: size: %w", path, err)
	}
	sb, err := Read(f, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return sb, nil
}

// clearSuperblocks zeroes whatever begins like an md superblock, whole or damaged, of any version; 0.90 lies in the last
// 64 KiB block but one and is in the byte order of the machine that wrote it.
func clearSuperblocks(d Device) error {
	old := roundDown(d.Size(), 64*kib) - 64*kib
	b := make([]byte, 4)
	cleared := false
	for _, off := range []int64{old, superAtEnd(d.Size()), 0, 4 * kib} {
		if off < 0 || off+maxSuper > d.Size() {
			continue
		}
		if _, err := d.ReadAt(b, off); err != nil {
			return fmt.Errorf("look for old md superblocks: %w", err)
		}
		if m := le.Uint32(b); m != magic && (m != 0xfc4e2ba9 || off != old) {
			continue
		}
		if _, err := d.WriteAt(make([]byte, maxSuper), off); err != nil {
			return fmt.Errorf("clear old md superblock: %w", err)
		}
		cleared = true
	}
	if cleared {
		return d.Sync()
	}
	return nil
}
