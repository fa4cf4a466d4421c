package target

import (
	"context"
	"fmt"
	"os"
)

// ChangeRoot mounts the file system on device (ext2, 3, 4, XFS, btrfs) read-write out of sight, calls f with the directory,
// unmounts it, and returns when the medium has everything. Nothing may hold the device exclusively.
func ChangeRoot(ctx context.Context, device string, f func(dir string) error) error {
	s, _, err := inspect(device)
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = mounted(device, s, func(dir *os.File) error { return f(dir.Name()) })
	}
	if err != nil {
		return fmt.Errorf("root file system on %s: %w", device, err)
	}
	return nil
}
