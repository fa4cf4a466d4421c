package identity

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Mounter mounts the file system that fstab calls device on dir and returns what undoes it; ok is false for one that is not the
// deployed system's own (a share, a tmpfs).
type Mounter func(device, dir string) (unmount func() error, ok bool, err error)

// mountPoint is where another file system is mounted once the system runs.
type mountPoint struct {
	device, dir string // as in fstab; clean
	why         string // why it is not mounted here, "" when nobody has tried
}

// readMounts finds out where files would be hidden under other file systems.
func (j *job) readMounts() error {
	fstab, err := j.text("/etc/fstab")
	if err != nil {
		return err
	}
	for _, m := range j.p.Fstab {
		fstab = withMount(fstab, m)
	}
	for line := range strings.Lines(fstab) {
		f := strings.Fields(line)
		if len(f) < 4 || strings.HasPrefix(f[0], "#") || slices.Contains(strings.Split(f[3], ","), "noauto") {
			continue
		}
		if dir := path.Clean(unescape(f[1])); strings.HasPrefix(dir, "/") && dir != "/" {
			j.mounts = append(j.mounts, mountPoint{device: unescape(f[0]), dir: dir})
		}
	}
	// What lies within another one comes after it.
	slices.SortStableFunc(j.mounts, func(a, b mountPoint) int { return strings.Count(a.dir, "/") - strings.Count(b.dir, "/") })
	return nil
}

// mountWanted mounts the system's own file systems that the profile has something to do with, such as a /var or /home of their own. One that
// cannot be mounted is left out: only what is to be written there fails, with that reason.
func (j *job) mountWanted() error {
	if j.o.Mount == nil {
		return nil
	}
	wanted := j.wanted()
	var left []mountPoint
	for _, m := range j.mounts {
		if !slices.ContainsFunc(wanted, func(w string) bool { return w == m.dir || strings.HasPrefix(w, m.dir+"/") }) {
			left = append(left, m)
			continue
		}
		mounted, err := j.mount(m)
		if err != nil {
			m.why = err.Error()
		}
		if !mounted {
			left = append(left, m)
		}
	}
	j.mounts = left
	return nil
}

// wanted are the paths that the profile wants to be changed or looked at.
func (j *job) wanted() []string {
	all := []string{"/etc", "/usr/lib", "/usr/sbin"}
	if j.p.MachineID != "" || j.p.CloudInit.UserData != "" || j.p.CloudInit.MetaData != "" || j.p.CloudInit.NetworkConfig != "" {
		all = append(all, "/var/lib/cloud", "/var/lib/dbus", "/var/lib/systemd")
	}
	for _, f := range j.p.Files {
		all = append(all, path.Clean(f.Path))
	}
	for user := range j.p.SSH.AuthorizedKeys {
		if a, err := j.account(user); err == nil {
			all = append(all, path.Clean(a.home))
		}
	}
	return all
}

// mount mounts one of the system's own file systems where it belongs.
func (j *job) mount(m mountPoint) (bool, error) {
	dir, err := j.open(m.dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return false, err
	}
	real, err := j.real(dir)
	if err = errors.Join(err, dir.Close()); err != nil {
		return false, err
	}
	unmount, ok, err := j.o.Mount(m.device, path.Join(j.base, real))
	if err != nil || !ok {
		return false, err
	}
	// From here on a path may lead into another file system: of those that are mounted here, all are the system's own.
	j.crosses = true
	j.unmounts = append(j.unmounts, unmount)
	return true, nil
}

// unmountAll undoes mountWanted.
func (j *job) unmountAll() error {
	var errs []error
	for _, unmount := range slices.Backward(j.unmounts) {
		if err := unmount(); err != nil {
			errs = append(errs, fmt.Errorf("unmount: %w", err))
		}
	}
	return errors.Join(errs...)
}
