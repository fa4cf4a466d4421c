package target

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountPrefix begins the names of the directories that file systems of the disks are mounted on; the ID of the process follows.
const mountPrefix = "swarmboot-mount-"

// mapPrefix begins the names of the devices that roots in several pieces are put together to; the ID of the process follows.
const mapPrefix = "swarmboot-root-"

// mountDir makes a directory to mount on.
func mountDir() (string, error) {
	// A bare initramfs has no /tmp.
	if err := os.MkdirAll(os.TempDir(), 0o777|os.ModeSticky); err != nil {
		return "", err
	}
	return os.MkdirTemp("", fmt.Sprintf("%s%d-", mountPrefix, os.Getpid()))
}

// UnmountLeft unmounts what processes of ours have left mounted that were killed, and removes the devices that they have mapped: their disk could
// not be deployed to again. What a process that still runs has mounted or mapped stays. (The kernel removes their loop devices itself.)
func UnmountLeft() error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var errs []error
	runs := func(pid int) bool { return !errors.Is(unix.Kill(pid, 0), unix.ESRCH) }
	left := leftMounts(string(b), os.TempDir(), runs)
	for _, dir := range left {
		if err := unix.Unmount(dir, 0); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s, which a process that has ended has left: %w", dir, err))
			continue
		}
		if slices.ContainsFunc(left, func(other string) bool { return strings.HasPrefix(dir, other+"/") }) {
			continue // a directory of the deployed system: MountAt
		}
		_ = os.Remove(dir)
	}
	// The directories that those were in; and who was killed before it mounted has left one alone.
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), mountPrefix+"*"))
	for _, dir := range dirs {
		if id, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), mountPrefix), "-"); ended(id, runs) {
			_ = unix.Rmdir(dir) // not one that holds anything, or is mounted on
		}
	}
	for _, name := range leftMaps("/", runs) {
		if err := (&Mapped{name: name}).Close(); err != nil {
			errs = append(errs, fmt.Errorf("left by a process that has ended: %w", err))
		}
	}
	return errors.Join(errs...)
}

// leftMounts finds, in the text of mountinfo (proc_pid_mountinfo(5)), mounts below directories of mountDir whose process does not run; what was
// mounted last comes first.
func leftMounts(info, tmp string, runs func(pid int) bool) (left []string) {
	for line := range strings.Lines(info) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		rest, ok := strings.CutPrefix(f[4], filepath.Join(tmp, mountPrefix))
		if !ok {
			continue
		}
		if id, _, _ := strings.Cut(rest, "-"); ended(id, runs) {
			left = append([]string{f[4]}, left...)
		}
	}
	return left
}

// leftMaps finds, in sysfs below root, the names of mapped devices of RootDevice whose process does not run.
func leftMaps(root string, runs func(pid int) bool) (left []string) {
	files, _ := filepath.Glob(filepath.Join(root, "sys/block/dm-*/dm/name")) // the pattern is a good one
	for _, file := range files {
		b, _ := os.ReadFile(file) // gone meanwhile: no name
		name := strings.TrimSpace(string(b))
		if id, ours := strings.CutPrefix(name, mapPrefix); ours && ended(id, runs) {
			left = append(left, name)
		}
	}
	return left
}

// ended says whether id is that of a process, which does not run.
func ended(id string, runs func(pid int) bool) bool {
	pid, err := strconv.Atoi(id)
	return err == nil && pid > 0 && !runs(pid)
}
