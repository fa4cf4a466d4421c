package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"swarmboot/imagefmt"
)

// LockdownError says that the kernel forbids kexec (lockdown, kexec_load_disabled, or no
// CAP_SYS_BOOT); a reboot into the disk does the same.
type LockdownError struct{ Err error }

func (e *LockdownError) Error() string { return fmt.Sprintf("the kernel forbids kexec: %v", e.Err) }

// Unwrap returns the cause.
func (e *LockdownError) Unwrap() error { return e.Err }

// Load finds the boot entry of the deployed image, has the kernel load it (kexec_file_load, straight
// from the mounted file systems: a copy would cost the memory that small nodes lack) and leaves
// nothing mounted; what it could not undo once the kernel is loaded is Entry.Left. device(n) is the node of partition n, of the whole
// disk for n = 0; the disk must not be open exclusively. The drivers of the file systems must be there. *LockdownError, *NoKernelError.
func Load(ctx context.Context, m *imagefmt.Manifest, device func(n int) string, o CmdlineOptions) (e Entry, err error) {
	unix.Sync()
	dir, err := mountDir()
	if err != nil {
		return Entry{}, fmt.Errorf("load kernel: %w", err)
	}
	mounts := mounter{dir: dir}
	defer func() { err = mounts.finish(&e, err) }()
	fsUUID, err := mounts.mountAll(ctx, m, device, subvolume(m.Boot.Cmdline+" "+o.Append))
	if err != nil {
		return Entry{}, fmt.Errorf("load kernel: %w", err)
	}
	if e.Kernel, e.Initrd, err = FindBoot(mounts.trees, m.Boot); err != nil {
		return Entry{}, fmt.Errorf("load kernel: %w", err)
	}
	if e.Cmdline, err = Cmdline(m, fsUUID, o); err != nil {
		return Entry{}, fmt.Errorf("load kernel: %w", err)
	}
	return e, mounts.load(e)
}

// mounter mounts file systems below dir and undoes it.
type mounter struct {
	dir       string
	trees     []Tree
	closeRoot func() error // nil: the root is not there yet
}

// subvolume is the mount option with which a kernel command line names a subvolume of btrfs as the root; "": it names none.
func subvolume(cmdline string) (option string) {
	for _, word := range strings.Fields(cmdline) {
		flags, ok := strings.CutPrefix(word, "rootflags=")
		if !ok {
			continue
		}
		option = "" // the kernel takes the last one
		for f := range strings.SplitSeq(flags, ",") {
			if strings.HasPrefix(f, "subvol=") || strings.HasPrefix(f, "subvolid=") {
				option = f
			}
		}
	}
	return option
}

// mountAll mounts the root, of btrfs with subvolume's option, and every other partition that could be /boot, and returns the UUID of
// a root on the whole disk. Only the root has to succeed.
func (m *mounter) mountAll(ctx context.Context, man *imagefmt.Manifest, device func(int) string, subvolume string) (fsUUID string, err error) {
	root := imagefmt.Partition{Number: man.Boot.Root}
	if man.Boot.Root != 0 {
		if root, err = partition(man, man.Boot.Root); err != nil {
			return "", err
		}
	}
	rootDevice, closeRoot, err := RootDevice(ctx, man, device)
	if err != nil {
		return "", err
	}
	m.closeRoot = closeRoot
	fsType, fsUUID, err := probe(rootDevice)
	if err != nil {
		return "", err
	}
	if man.Boot.Volume != nil || root.FileSystem == "" || root.FileSystem == "ext2" || root.FileSystem == "ext3" {
		root.FileSystem = fsType // the ext4 driver is the one that is loaded
	}
	if root.FileSystem != "btrfs" {
		subvolume = ""
	}
	if err := m.mount(rootDevice, root, subvolume); err != nil {
		return "", err
	}
	for _, p := range man.Table.Partitions {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if p.Number == root.Number || !mayHoldBoot(&p, device) {
			continue
		}
		// Without it the kernel may still be found; FindBoot says where it looked.
		_ = m.mount(device(p.Number), p, "")
	}
	return fsUUID, nil
}

// mayHoldBoot says whether a partition may be mounted as /boot, and gives it the driver's name for its file system: that of XFS (Red Hat's
// own choice) and btrfs is not in the image.
func mayHoldBoot(p *imagefmt.Partition, device func(int) string) bool {
	switch p.FileSystem {
	case "ext2", "ext3", "ext4":
		p.FileSystem = "ext4"
	case "":
		if p.Extended() {
			return false
		}
		p.FileSystem, _, _ = probe(device(p.Number)) // none, where it has no place on this disk
		return p.FileSystem == "xfs" || p.FileSystem == "btrfs"
	}
	return p.FileSystem == "ext4" || p.FileSystem == "vfat"
}

func (m *mounter) mount(device string, p imagefmt.Partition, options string) error {
	if p.FileSystem == "" {
		return fmt.Errorf("mount %s: unknown file system", device)
	}
	dir := filepath.Join(m.dir, fmt.Sprint(p.Number))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	flags := uintptr(unix.MS_RDONLY | unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC)
	if err := unix.Mount(device, dir, p.FileSystem, flags, options); err != nil {
		_ = os.Remove(dir)
		return fmt.Errorf("mount %s (%s) read-only: %w", device, p.FileSystem, err)
	}
	m.trees = append(m.trees, Tree{p.Number, dir})
	return nil
}

// finish undoes everything after a load that ended with err. What cannot be undone is no failure once the kernel is loaded: that one will not see it.
func (m *mounter) finish(e *Entry, err error) error {
	left := m.close()
	if err == nil {
		e.Left = left
		return nil
	}
	return errors.Join(err, left)
}

// close unmounts everything and removes the directories.
func (m *mounter) close() error {
	var errs []error
	for _, t := range m.trees {
		if err := unix.Unmount(t.Dir, 0); err != nil {
			errs = append(errs, fmt.Errorf("unmount partition %d: %w", t.Partition, err))
			continue
		}
		errs = append(errs, os.Remove(t.Dir))
	}
	if m.closeRoot != nil {
		errs = append(errs, m.closeRoot())
	}
	return errors.Join(append(errs, os.Remove(m.dir))...)
}

func (m *mounter) open(f File) (*os.File, error) {
	for _, t := range m.trees {
		if t.Partition == f.Partition {
			return t.open(f.Path)
		}
	}
	return nil, fmt.Errorf("partition %d is not mounted", f.Partition)
}

func (m *mounter) load(e Entry) error {
	kernel, err := m.open(e.Kernel)
	if err != nil {
		return fmt.Errorf("load kernel: %w", err)
	}
	defer kernel.Close()
	initrd, flags := -1, unix.KEXEC_FILE_NO_INITRAMFS
	if e.Initrd.Path != "" {
		f, err := m.open(e.Initrd)
		if err != nil {
			return fmt.Errorf("load initrd: %w", err)
		}
		defer f.Close()
		initrd, flags = int(f.Fd()), 0
	}
	return loadError(e, unix.KexecFileLoad(int(kernel.Fd()), initrd, e.Cmdline, flags))
}

// loadError says what an errno of kexec_file_load(2) means.
func loadError(e Entry, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.EKEYREJECTED), errors.Is(err, unix.ENOSYS):
		return &LockdownError{fmt.Errorf("load %s: %w", e.Kernel.Path, err)}
	case errors.Is(err, unix.ENOEXEC):
		return fmt.Errorf("load kernel %s: not a kernel for this machine: %w", e.Kernel.Path, err)
	case errors.Is(err, unix.ENOMEM), errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("load kernel %s and initrd %s: not enough memory: %w", e.Kernel.Path, e.Initrd.Path, err)
	}
	return fmt.Errorf("load kernel %s: %w", e.Kernel.Path, err)
}

// Exec jumps into the loaded kernel. It returns only on failure.
func Exec() error { return end("kexec", unix.LINUX_REBOOT_CMD_KEXEC) }

// Reboot restarts the machine. It returns only on failure.
func Reboot() error { return end("reboot", unix.LINUX_REBOOT_CMD_RESTART) }

// PowerOff switches the machine off. It returns only on failure.
func PowerOff() error { return end("power off", unix.LINUX_REBOOT_CMD_POWER_OFF) }

func end(what string, cmd int) error {
	unix.Sync()
	if err := unix.Reboot(cmd); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: the kernel went on as if nothing had been asked", what)
}
