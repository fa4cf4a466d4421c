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

// mountDir makes a directory to mount on.
func mountDir() (string, error) {
	// A bare initramfs has no /tmp.
	if err := os.MkdirAll(os.TempDir(), 0o777|os.ModeSticky); err != nil {
		return "", err
	}
	return os.MkdirTemp("", fmt.Sprintf("%s%d-", mountPrefix, os.Getpid()))
}

// UnmountLeft unmounts what processes of ours have left mounted that were killed: their disk could not be deployed to again. What
// a process that still runs has mounted stays.
func UnmountLeft() error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var errs []error
	left := leftMounts(string(b), os.TempDir(), func(pid int) bool { return !errors.Is(unix.Kill(pid, 0), unix.ESRCH) })
	for _, dir := range left {
		if err := unix.Unmount(dir, 0); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s, which a process that has ended has left: %w", dir, err))
			continue
		}
		if slices.ContainsFunc(left, func(other string) bool { return strings.HasPrefix(dir, other+"/") }) {
			continue // a directory of the deployed system: MountAt
		}
		_ = os.Remove(dir)
		if parent := filepath.Dir(dir); parent != filepath.Clean(os.TempDir()) {
			_ = os.Remove(parent)
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
		id, _, _ := strings.Cut(rest, "-")
		if pid, err := strconv.Atoi(id); err == nil && pid > 0 && !runs(pid) {
			left = append([]string{f[4]}, left...)
		}
	}
	return left
}
