package target

import (
	"context"
	"fmt"
	"os"
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
