package imagesrc

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// usage is what the kernel says about file systems and swap in use, by device number.
type usage struct {
	mounts map[uint64]string // what, in words
	swap   map[string]string // files used as swap
}

// usedBy says what uses a disk or file: a mount, swap, a device stacked on it, or a loop device over it that is in
// use; "" for nothing. Linux: proc(5) for mountinfo and swaps, Documentation/ABI for /sys/dev/block.
func usedBy(path string, st fs.FileInfo) (string, error) {
	u, err := readUsage()
	if err != nil {
		return "", err
	}
	if number, ok := blockNumber(st); ok {
		if use := u.ofDevice(number, 0); use != "" {
			return use, nil
		}
	} else if use := u.swap[realPath(path)]; use != "" {
		return "it is " + use, nil
	}
	return u.ofLoops(st)
}

func blockNumber(st fs.FileInfo) (uint64, bool) {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || st.Mode()&fs.ModeDevice == 0 || st.Mode()&fs.ModeCharDevice != 0 {
		return 0, false
	}
	return sys.Rdev, true
}

func realPath(path string) string {
	if p, err := filepath.EvalSymlinks(path); err == nil {
		path = p
	}
	if p, err := filepath.Abs(path); err == nil {
		path = p
	}
	return path
}

func readUsage() (*usage, error) {
	u := &usage{mounts: map[uint64]string{}, swap: map[string]string{}}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read the list of mounts: %w", err)
	}
	for line := range strings.Lines(string(mounts)) {
		u.addMount(strings.Fields(line))
	}
	swaps, err := os.ReadFile("/proc/swaps")
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("read the list of swap spaces: %w", err)
	}
	for line := range strings.Lines(string(swaps)) {
		f := strings.Fields(line)
		if len(f) == 0 || !strings.HasPrefix(f[0], "/") {
			continue
		}
		name := unescape(f[0])
		u.swap[name] = "used as swap"
		if st, err := os.Stat(name); err == nil {
			if n, ok := blockNumber(st); ok {
				u.mounts[n] = "used as swap"
			}
		}
	}
	return u, nil
}

// addMount takes a line of mountinfo. Some file systems (Btrfs) show a device number of their own, so the source
// is looked up too.
func (u *usage) addMount(f []string) {
	if len(f) < 10 {
		return
	}
	use := "mounted on " + unescape(f[4])
	var major, minor uint32
	if n, err := fmt.Sscanf(f[2], "%d:%d", &major, &minor); n == 2 && err == nil && major != 0 {
		u.mounts[unix.Mkdev(major, minor)] = use
	}
	for i := 6; i+2 < len(f); i++ {
		if f[i] != "-" {
			continue
		}
		if st, err := os.Stat(unescape(f[i+2])); err == nil && strings.HasPrefix(f[i+2], "/") {
			if n, ok := blockNumber(st); ok {
				u.mounts[n] = use
			}
		}
		return
	}
}

// unescape undoes the octal escapes of /proc files.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// ofDevice looks at a device, its partitions, and what is stacked on them. No holder is harmless: an assembled RAID
// or an active volume group may be written to without any mount.
func (u *usage) ofDevice(number uint64, depth int) string {
	dir := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(number), unix.Minor(number))
	name := dir
	if p, err := filepath.EvalSymlinks(dir); err == nil {
		name = filepath.Base(p)
	}
	if use := u.mounts[number]; use != "" {
		return "/dev/" + name + " is " + use
	}
	holders, _ := os.ReadDir(filepath.Join(dir, "holders"))
	for _, h := range holders {
		return fmt.Sprintf("/dev/%s is part of /dev/%s", name, h.Name())
	}
	if depth > 0 {
		return ""
	}
	children, _ := filepath.Glob(filepath.Join(dir, "*", "partition"))
	for _, c := range children {
		if n, ok := deviceFile(filepath.Join(filepath.Dir(c), "dev")); ok {
			if use := u.ofDevice(n, depth+1); use != "" {
				return use
			}
		}
	}
	return ""
}

func deviceFile(path string) (uint64, bool) {
	b, err := os.ReadFile(path)
	var major, minor uint32
	if err != nil {
		return 0, false
	}
	if n, err := fmt.Sscanf(string(b), "%d:%d", &major, &minor); n != 2 || err != nil {
		return 0, false
	}
	return unix.Mkdev(major, minor), true
}

// ofLoops looks at the loop devices whose backing file is this very file or device.
func (u *usage) ofLoops(st fs.FileInfo) (string, error) {
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return "", err
	}
	for _, b := range backing {
		name, err := os.ReadFile(b)
		if err != nil {
			continue // detached meanwhile
		}
		other, err := os.Stat(strings.TrimSuffix(string(name), "\n"))
		if err != nil || !sameFile(st, other) {
			continue
		}
		n, ok := deviceFile(filepath.Join(filepath.Dir(b), "..", "dev"))
		if !ok {
			continue
		}
		if use := u.ofDevice(n, 0); use != "" {
			return use, nil
		}
	}
	return "", nil
}

func sameFile(a, b fs.FileInfo) bool {
	an, aBlock := blockNumber(a)
	bn, bBlock := blockNumber(b)
	if aBlock || bBlock {
		return aBlock && bBlock && an == bn
	}
	return os.SameFile(a, b)
}
