package target

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ChangeFiles mounts the file system on device (ext2, 3, 4, XFS, btrfs, vfat) read-write out of sight, calls f with the directory,
// unmounts it, and returns when the medium has everything. Nothing may hold the device exclusively.
func ChangeFiles(ctx context.Context, device string, f func(dir string) error) error {
	kind, _, err := probe(device)
	if err != nil {
		return fmt.Errorf("file system on %s: %w", device, err)
	}
	if kind != "vfat" {
		return ChangeRoot(ctx, device, f)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := mounted(device, superblock{kind: kind}, func(dir *os.File) error { return f(dir.Name()) }); err != nil {
		return fmt.Errorf("file system on %s: %w", device, err)
	}
	return nil
}

// MountAt mounts the file system on device (ext2, 3, 4, XFS, btrfs, vfat) read-write on dir and returns what unmounts it, when the
// medium has everything. Nothing may hold the device exclusively.
func MountAt(device, dir string) (func() error, error) {
	kind, _, err := probe(device)
	if err == nil && kind != "vfat" {
		var s superblock
		s, _, err = inspect(device)
		kind = s.kind
	}
	if err != nil {
		return nil, fmt.Errorf("file system on %s: %w", device, err)
	}
	flags := uintptr(unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NOATIME)
	if err := unix.Mount(device, dir, kind, flags, ""); err != nil {
		return nil, fmt.Errorf("%s: %w", device, mountError(kind, err))
	}
	return func() error { return unmount(device, dir) }, nil
}

// FileSystemUUID is the UUID of the file system on a device, "" where it is not known.
func FileSystemUUID(device string) (string, error) {
	_, id, err := probe(device)
	return id, err
}
