package efiboot

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// MountESP mounts the FAT on a device out of sight, calls f with its root, unmounts it, and returns when the medium has
// everything. Nothing may hold the device exclusively; the driver vfat must be there.
func MountESP(device string, write bool, f func(*os.Root) error) error {
	// A bare initramfs has no /tmp.
	err := os.MkdirAll(os.TempDir(), 0o777|os.ModeSticky)
	if err == nil {
		err = mountESP(device, write, f)
	}
	if err != nil {
		return fmt.Errorf("EFI system partition %s: %w", device, err)
	}
	return nil
}

func mountESP(device string, write bool, f func(*os.Root) error) (err error) {
	dir, err := os.MkdirTemp("", "esp")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(dir)) }()
	flags := uintptr(unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NOATIME)
	if !write {
		flags |= unix.MS_RDONLY
	}
	switch err := unix.Mount(device, dir, "vfat", flags, ""); {
	case errors.Is(err, unix.ENODEV):
		return errors.New("mount: the kernel has no driver for vfat")
	case err != nil:
		return fmt.Errorf("mount: %w", err)
	}
	defer func() { // ends with everything on the medium
		if uerr := unix.Unmount(dir, 0); uerr != nil {
			err = errors.Join(err, fmt.Errorf("unmount: %w", uerr))
		} else if write {
			err = errors.Join(err, flush(device))
		}
	}()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return f(root)
}

func flush(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
