package md

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// highest is the number of the first array that is named and not numbered, as mdadm counts: down from there.
const highest = 127

// assemble starts the array whose superblocks are on members.
func (h host) assemble(ctx context.Context, metadata string, members []string) (name string, err error) {
	if name, err = h.newArray(); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			// Members that were added are let go.
			err = errors.Join(err, ignoreMissing(set("clear", h.array(name), "array_state")))
		}
	}()
	dir := h.array(name)
	if err := set(metadata, dir, "metadata_version"); err != nil {
		return "", err
	}
	for _, m := range members {
		major, minor, err := h.number(m)
		if err != nil {
			return "", err
		}
		// A udev probe may hold it for a moment.
		err = settle(ctx, func() error { return set(fmt.Sprintf("%d:%d", major, minor), dir, "new_dev") }, unix.EBUSY)
		if err != nil {
			return "", fmt.Errorf("add %s: %w", m, err)
		}
	}
	if err := set("active", dir, "array_state"); err != nil {
		return "", fmt.Errorf("start: %w", err)
	}
	// A host may start arrays read-only until the first write (md_mod.start_ro), and with them the resync.
	if attr(dir, "array_state") == "read-auto" {
		if err := set("active", dir, "array_state"); err != nil {
			return "", fmt.Errorf("make writable: %w", err)
		}
	}
	return name, h.awaitNode(ctx, name)
}

// newArray makes an array device with a free number: devtmpfs makes the node.
func (h host) newArray() (string, error) {
	for n := highest; n >= 0; n-- {
		name := fmt.Sprintf("md%d", n)
		if _, err := os.Stat(h.path("sys/block", name)); err == nil {
			continue
		}
		err := set(name, h.path("sys/module/md_mod/parameters/new_array"))
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("make an array: %w", err)
		}
		return name, nil
	}
	return "", fmt.Errorf("make an array: md0 to md%d are all in use", highest)
}

func (h host) awaitNode(ctx context.Context, name string) error {
	err := settle(ctx, func() error {
		_, err := os.Stat(h.path("dev", name))
		return err
	}, fs.ErrNotExist)
	if err != nil {
		return fmt.Errorf("wait for the device of the array: %w", err)
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// link makes /dev/md/NAME, which udev makes on systems that have it. One that leads elsewhere is replaced: it is left over,
// or the foreign array that has it can be reached by its number.
func (h host) link(array, name string) (string, error) {
	link := filepath.Join("/dev/md", name)
	if err := os.MkdirAll(h.path("dev/md"), 0o755); err != nil {
		return "", fmt.Errorf("link array %s: %w", name, err)
	}
	if target, err := os.Readlink(h.path(link)); err == nil && target == "../"+array {
		return link, nil
	}
	if err := os.Remove(h.path(link)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("link array %s: %w", name, err)
	}
	if err := os.Symlink("../"+array, h.path(link)); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("link array %s: %w", name, err)
	}
	return link, nil
}

// stop has the kernel end the array. Its number is free again when its folder is gone or empty.
func (h host) stop(ctx context.Context, device string) error {
	name, err := h.kernelName(device)
	if err != nil {
		return fmt.Errorf("stop array: %w", err)
	}
	err = settle(ctx, func() error { return h.stopOnce(name) }, unix.EBUSY)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("stop array: %w", &BusyError{"/dev/" + name, h.usedBy(name)})
	}
	if err = ignoreMissing(err); err != nil {
		return fmt.Errorf("stop array %s: %w", name, err)
	}
	h.unlink(name)
	return nil
}

// stopOnce tells at once of a use that lasts, which waiting would not end.
func (h host) stopOnce(name string) error {
	err := set("clear", h.array(name), "array_state")
	if errors.Is(err, unix.EBUSY) {
		if by := h.usedBy(name); by != "" {
			return &BusyError{"/dev/" + name, by}
		}
	}
	return err
}

// unlink removes the links that led to an array.
func (h host) unlink(array string) {
	links, _ := filepath.Glob(h.path("dev/md/*"))
	for _, l := range links {
		if target, err := os.Readlink(l); err == nil && strings.TrimPrefix(target, "../") == array {
			_ = os.Remove(l)
		}
	}
}
