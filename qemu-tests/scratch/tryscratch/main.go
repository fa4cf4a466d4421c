// Tryscratch has the kernel of a node use the file systems on the partitions of all virtio disks: it mounts each, writes a file and reads it, swaps to
// swap areas, says how large the kernel finds them, and powers the machine off. It is what the tests of scratch space start from the rescue shell.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	fmt.Println() // the shell's prompt stands in the line
	names, err := filepath.Glob("/sys/block/vd*/vd*/uevent")
	if err != nil || len(names) == 0 {
		fmt.Printf("SCRATCH none failed: no partitions (%v)\n", err)
	}
	for _, n := range names {
		device, label, err := partition(n)
		if err != nil {
			fmt.Printf("SCRATCH %s failed: %v\n", n, err)
			continue
		}
		kind, _, _ := strings.Cut(label, "-")
		var room int64
		switch kind {
		case "swap":
			room, err = swap(device)
		case "ext4", "xfs", "vfat":
			room, err = mount(device, kind)
		case "esp":
			room, err = mount(device, "vfat")
		default:
			continue
		}
		if err != nil {
			fmt.Printf("SCRATCH %s failed: %v\n", label, err)
			continue
		}
		fmt.Printf("SCRATCH %s %d\n", label, room)
	}
	fmt.Println("SCRATCH-END")
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("power off:", err)
	}
}

// partition reads the kernel's description of a partition: its device and its name in the GPT.
func partition(uevent string) (device, label string, err error) {
	b, err := os.ReadFile(uevent)
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PARTNAME="); ok {
			label = name
		}
	}
	return "/dev/" + filepath.Base(filepath.Dir(uevent)), label, nil
}

// mount writes and reads a file on a file system, mounts it again and reads once more; it returns how many bytes there is room for.
func mount(device, kind string) (room int64, err error) {
	dir, err := os.MkdirTemp("", "scratch")
	if err != nil {
		return 0, err
	}
	text := bytes.Repeat([]byte("scratch "), 1<<17)
	path := dir + "/a long directory name/file"
	use := func(f func() error) (err error) {
		if err := unix.Mount(device, dir, kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", kind, err)
		}
		defer func() { err = errors.Join(err, unix.Unmount(dir, 0)) }()
		return f()
	}
	err = use(func() error {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		room = int64(st.Blocks) * st.Bsize
		return errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, text, 0o644))
	})
	if err != nil {
		return 0, err
	}
	return room, use(func() error {
		got, err := os.ReadFile(path)
		if err == nil && !bytes.Equal(got, text) {
			err = errors.New("the file has other content")
		}
		return err
	})
}

// swap swaps to a device, and returns how much room that gives.
func swap(device string) (int64, error) {
	if err := call(unix.SYS_SWAPON, device); err != nil {
		return 0, fmt.Errorf("swapon: %w", err)
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, err
	}
	if err := call(unix.SYS_SWAPOFF, device); err != nil {
		return 0, fmt.Errorf("swapoff: %w", err)
	}
	return int64(info.Totalswap) * int64(info.Unit), nil
}

// call is swapon(2) or swapoff(2).
func call(number uintptr, device string) error {
	p, err := unix.BytePtrFromString(device)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(number, uintptr(unsafe.Pointer(p)), 0, 0); errno != 0 {
		return errno
	}
	return nil
}
