package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// SlowDisk is a block device that takes only so many bytes a second: a loop device over a file, throttled
// by the kernel's block controller. Its writers may have little in the page cache, so that they feel it.
// It needs root and the blkio controller of cgroup v1.
type SlowDisk struct {
	Path string // /dev/loopN
	dev  string // MAJOR:MINOR
}

// throttle is where the root group's limits are, and so those of the write-back threads. The kernel keeps one for a number that no device
// has any more, and the next device of that number is slow.
const throttle = "/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device"

// slowCache is how much of what was written to a SlowDisk the page cache may hold.
const slowCache = 8 << 20

// NewSlowDisk makes a disk of the file that takes bytesPerSecond.
func NewSlowDisk(ctx context.Context, file string, bytesPerSecond int64) (*SlowDisk, error) {
	path, err := AttachLoop(ctx, file)
	if err != nil {
		return nil, err
	}
	d := &SlowDisk{Path: path}
	if err := d.slow(file, bytesPerSecond); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *SlowDisk) slow(file string, bytesPerSecond int64) error {
	dev, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(d.Path), "dev"))
	if err != nil {
		return err
	}
	d.dev = strings.TrimSpace(string(dev))
	if err := theReaper.note(aThrottle, d.dev+" "+file); err != nil {
		return err
	}
	bdi := filepath.Join("/sys/class/bdi", d.dev)
	return errors.Join(
		d.limit(bytesPerSecond),
		os.WriteFile(filepath.Join(bdi, "strict_limit"), []byte("1"), 0o644),
		os.WriteFile(filepath.Join(bdi, "max_bytes"), fmt.Append(nil, slowCache), 0o644),
	)
}

// limit sets the throttle, 0 for none.
func (d *SlowDisk) limit(bytesPerSecond int64) error {
	return os.WriteFile(throttle, fmt.Appendf(nil, "%s %d", d.dev, bytesPerSecond), 0o644)
}

// Close takes the limits and the device away. Nobody may have it open.
func (d *SlowDisk) Close() error {
	var errs []error
	if d.dev != "" {
		bdi := filepath.Join("/sys/class/bdi", d.dev)
		errs = append(errs, d.limit(0),
			os.WriteFile(filepath.Join(bdi, "max_ratio"), []byte("100"), 0o644),
			os.WriteFile(filepath.Join(bdi, "strict_limit"), []byte("0"), 0o644))
	}
	return errors.Join(append(errs, DetachLoop(d.Path))...)
}
