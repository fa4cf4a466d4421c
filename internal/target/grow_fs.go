package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Grown says what GrowFileSystem did. Sizes are bytes of the file system.
type Grown struct {
	FileSystem    string // ext4 (also for ext2 and ext3), xfs or btrfs
	Before, After int64
}

// GrowFileSystem makes the file system on a block device as large as the device: mounts it read-write out of sight, has the
// kernel grow it (EXT4_IOC_RESIZE_FS, XFS_IOC_FSGROWFSDATA, BTRFS_IOC_RESIZE), unmounts it, and reads the size back from the
// device. A few last blocks, with ext4 a last incomplete group, may stay unused, as the formats
// want it. The drivers of the file system must be there, and nothing may hold the device exclusively.
//
// After an error the file system is as it was, or larger, and whole in either case: the kernel grows in transactions.
func GrowFileSystem(ctx context.Context, device string) (Grown, error) {
	g, err := growFileSystem(ctx, device)
	if err != nil {
		return g, fmt.Errorf("grow file system on %s: %w", device, err)
	}
	return g, nil
}

func growFileSystem(ctx context.Context, device string) (Grown, error) {
	s, size, err := inspect(device)
	if err != nil {
		return Grown{}, err
	}
	g := Grown{FileSystem: s.kind, Before: s.size(), After: s.size()}
	want := size / s.blockSize
	if s.maxBlocks > 0 {
		want = min(want, s.maxBlocks)
	}
	if want <= s.blocks {
		return g, nil
	}
	if ctx.Err() != nil {
		return g, context.Cause(ctx)
	}
	if err := mounted(device, s, func(dir *os.File) error { return resize(ctx, dir, s, want) }); err != nil {
		return g, err
	}
	after, _, err := inspect(device)
	if err != nil {
		return g, fmt.Errorf("read the size back: %w", err)
	}
	g.After = after.size()
	if g.After < g.Before || want*s.blockSize-g.After > s.slack {
		return g, fmt.Errorf("the kernel made it %d bytes of the %d that there are", g.After, want*s.blockSize)
	}
	return g, nil
}

// inspect reads the superblock and the size of a device. It opens the device exclusively, so that what is
// mounted is refused and what the kernel caches is not old.
func inspect(device string) (s superblock, size int64, err error) {
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		return s, 0, err
	}
	defer f.Close()
	if size, err = f.Seek(0, io.SeekEnd); err != nil {
		return s, 0, err
	}
	s, err = readSuperblock(f)
	return s, size, err
}

// mounted calls f with the root directory of the file system, mounted read-write, and leaves nothing
// mounted and everything on the medium. No file is opened: the file system does not note where it was.
func mounted(device string, s superblock, f func(dir *os.File) error) (err error) {
	dir, err := mountDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(dir)) }()
	options := ""
	if s.kind == "btrfs" {
		options = "skip_balance" // one that was under way in the image would be in the way
	}
	flags := uintptr(unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NOATIME)
	if err := unix.Mount(device, dir, s.kind, flags, options); err != nil {
		return mountError(s.kind, err)
	}
	defer func() { err = errors.Join(err, unmount(device, dir)) }()
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := f(d); err != nil {
		return err
	}
	return unix.Syncfs(int(d.Fd()))
}

func mountError(kind string, err error) error {
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("mount: the kernel has no driver for %s", kind)
	}
	return fmt.Errorf("mount %s read-write: %w", kind, err)
}

// unmount unmounts dir and returns when the medium has everything.
func unmount(device, dir string) error {
	if err := unix.Unmount(dir, 0); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}
