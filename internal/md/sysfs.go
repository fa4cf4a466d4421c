package md

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// host is where the kernel is: "/" but in tests.
type host struct {
	root string
	// modprobe loads a module by name.
	modprobe func(ctx context.Context, name string) error
}

var system = host{root: "/", modprobe: Modprobe}

func (h host) path(parts ...string) string {
	return filepath.Join(append([]string{h.root}, parts...)...)
}

// array is a running array's folder in sysfs, by kernel name: "md127".
func (h host) array(name string) string { return h.path("sys/block", name, "md") }

// attr reads a sysfs attribute, "" when it is not there. Attributes are short; a page bounds them.
func attr(path ...string) string {
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil || len(b) > 4096 {
		return ""
	}
	return strings.TrimSpace(strings.ToValidUTF8(string(b), "?"))
}

// set writes a sysfs attribute in one write; the error names it.
func set(value string, path ...string) error {
	p := filepath.Join(path...)
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write %q to %s: %w", value, p, bare(err))
	}
	return nil
}

// bare strips the path and operation that package os adds.
func bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// How long things that settle by themselves are waited for: a udev probe that holds a device, a node in /dev.
const (
	settleFor  = 5 * time.Second
	settleStep = 20 * time.Millisecond
)

// settle calls f until its error is none of again, for settleFor at most.
func settle(ctx context.Context, f func() error, again ...error) error {
	deadline := time.Now().Add(settleFor)
	for {
		err := f()
		if err == nil || !slices.ContainsFunc(again, func(a error) bool { return errors.Is(err, a) }) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-time.After(settleStep):
		}
	}
}

// number finds the kernel's number of the block device at path.
func (h host) number(path string) (major, minor uint32, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, fmt.Errorf("%s is not a block device", path)
	}
	return unix.Major(st.Rdev), unix.Minor(st.Rdev), nil
}

// kernelName is the name of an array's device in the kernel: of "/dev/md127", of a link to it, or of "md127".
func (h host) kernelName(device string) (string, error) {
	name := device
	if strings.HasPrefix(device, "/") {
		real, err := filepath.EvalSymlinks(device)
		if err != nil {
			return "", err
		}
		name = filepath.Base(real)
	}
	if strings.ContainsAny(name, "/") || attr(h.path("sys/block", name, "md/array_state")) == "" {
		return "", fmt.Errorf("%s is not an md array", device)
	}
	return name, nil
}
