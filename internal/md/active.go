package md

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// active lists the arrays that have members; a device node without any is none.
func (h host) active() ([]Running, error) {
	dirs, err := filepath.Glob(h.path("sys/block/md*/md"))
	if err != nil {
		return nil, fmt.Errorf("list arrays: %w", err)
	}
	var all []Running
	for _, dir := range dirs {
		r := h.running(filepath.Base(filepath.Dir(dir)))
		if len(r.Members) > 0 {
			all = append(all, r)
		}
	}
	return all, nil
}

func (h host) running(name string) Running {
	dir := h.array(name)
	r := Running{
		Device: "/dev/" + name, Level: attr(dir, "level"), State: attr(dir, "array_state"), Metadata: attr(dir, "metadata_version"),
		Size: number(attr(dir, "../size")) * sector, Degraded: int(number(attr(dir, "degraded"))),
	}
	if u, err := ParseUUID(attr(dir, "uuid")); err == nil {
		r.UUID = u
	}
	members, _ := filepath.Glob(filepath.Join(dir, "dev-*"))
	for _, m := range members {
		if block := blockName(m); block != "" {
			r.Members = append(r.Members, "/dev/"+block)
		}
	}
	return r
}

// blockName is the device that a member's folder is for. The folder's own name has "!" for "/"; the link leads to
// the device's.
func blockName(member string) string {
	if target, err := os.Readlink(filepath.Join(member, "block")); err == nil {
		return strings.ReplaceAll(filepath.Base(target), "!", "/")
	}
	return strings.ReplaceAll(strings.TrimPrefix(filepath.Base(member), "dev-"), "!", "/")
}

// holding finds the arrays over devices or their partitions, by the kernel's list of holders.
func (h host) holding(devices []string) ([]Running, error) {
	var found []Running
	for _, d := range devices {
		major, minor, err := h.number(d)
		if err != nil {
			return nil, err
		}
		sys := h.path("sys/dev/block", fmt.Sprintf("%d:%d", major, minor))
		holders, err := holdersOf(sys)
		if err != nil {
			return nil, fmt.Errorf("%s: who holds it: %w", d, err)
		}
		for _, name := range holders {
			if attr(h.array(name), "array_state") == "" {
				continue
			}
			device := "/dev/" + name
			if !slices.ContainsFunc(found, func(r Running) bool { return r.Device == device }) {
				found = append(found, h.running(name))
			}
		}
	}
	return found, nil
}

// holdersOf lists the devices over a disk or partition and over the disk's partitions.
func holdersOf(sys string) ([]string, error) {
	var names []string
	dirs := []string{sys}
	entries, err := os.ReadDir(sys)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if attr(sys, e.Name(), "partition") != "" {
			dirs = append(dirs, filepath.Join(sys, e.Name()))
		}
	}
	for _, d := range dirs {
		holders, err := os.ReadDir(filepath.Join(d, "holders"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range holders {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// resync reads what Documentation/admin-guide/md.rst calls sync_action, sync_completed ("DONE / TOTAL" in sectors,
// "none" or "delayed") and sync_speed (KiB a second).
func (h host) resync(device string) (Progress, error) {
	name, err := h.kernelName(device)
	if err != nil {
		return Progress{}, fmt.Errorf("resync: %w", err)
	}
	dir := h.array(name)
	p := Progress{Action: attr(dir, "sync_action"), Degraded: int(number(attr(dir, "degraded")))}
	if p.Action == "" {
		p.Action = "idle" // level 0 has no such attribute
	}
	if done, total, ok := strings.Cut(attr(dir, "sync_completed"), " / "); ok {
		p.Done, p.Total = number(done)*sector, number(total)*sector
		p.Speed = number(attr(dir, "sync_speed")) * kib
	}
	return p, nil
}

// limitResync writes sync_speed_max: KiB a second, or "system" for what is set for all arrays.
func (h host) limitResync(device string, bytesPerSecond int64) error {
	name, err := h.kernelName(device)
	if err != nil {
		return fmt.Errorf("limit resync: %w", err)
	}
	limit := "system"
	if bytesPerSecond > 0 {
		limit = fmt.Sprint(max(bytesPerSecond/kib, 1))
	}
	if err := ignoreMissing(set(limit, h.array(name), "sync_speed_max")); err != nil {
		return fmt.Errorf("limit resync of %s: %w", device, err)
	}
	return nil
}

// usedBy says what keeps an array from being stopped: devices over it or its partitions, mounts, swap.
func (h host) usedBy(name string) string {
	sys := h.path("sys/block", name)
	holders, err := holdersOf(sys)
	if err == nil && len(holders) > 0 {
		return "part of " + strings.Join(holders, ", ")
	}
	numbers := []string{attr(sys, "dev")}
	devices := []string{"/dev/" + name}
	parts, _ := filepath.Glob(filepath.Join(sys, name+"p*"))
	for _, p := range parts {
		numbers = append(numbers, attr(p, "dev"))
		devices = append(devices, "/dev/"+filepath.Base(p))
	}
	for line := range strings.Lines(readFile(h.path("proc/self/mountinfo"))) {
		// proc_pid_mountinfo(5): the third field is the device's number, the fifth the mount point.
		if f := strings.Fields(line); len(f) > 4 && (slices.Contains(numbers, f[2]) || slices.ContainsFunc(f[5:], func(s string) bool { return slices.Contains(devices, s) })) {
			return "mounted on " + f[4]
		}
	}
	for line := range strings.Lines(readFile(h.path("proc/swaps"))) {
		if f := strings.Fields(line); len(f) > 0 && slices.Contains(devices, f[0]) {
			return "swap is on it"
		}
	}
	return ""
}

func readFile(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}
