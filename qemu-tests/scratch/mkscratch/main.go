// Mkscratch makes a file system on every virtio disk of a node, mounts it, writes a file, says what it took, and powers the machine off. A disk's
// serial number says which kind: "xfs-100t". "esp" is one that has a FAT already, which is made to fit the disk's sectors. It is what the tests of
// scratch space start from the rescue shell.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"swarmboot/internal/disk"
	"swarmboot/internal/target"
)

func main() {
	disks, err := filepath.Glob("/sys/block/vd*")
	if err != nil || len(disks) == 0 {
		fmt.Printf("SCRATCH none failed: no disks (%v)\n", err)
	}
	for _, d := range disks {
		serial, err := os.ReadFile(filepath.Join(d, "serial"))
		if err != nil {
			fmt.Printf("SCRATCH %s failed: %v\n", d, err)
			continue
		}
		name := strings.TrimSpace(string(serial))
		said, err := use("/dev/"+filepath.Base(d), name)
		if err != nil {
			said = "failed: " + err.Error()
		}
		fmt.Printf("SCRATCH %s %s\n", name, said)
	}
	fmt.Println("SCRATCH-END")
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("power off:", err)
	}
}

// use makes the file system and has the kernel use it.
func use(device, name string) (string, error) {
	began := time.Now()
	kind, sector, err := prepare(device, name)
	if err != nil {
		return "", err
	}
	made := time.Since(began)
	began = time.Now()
	room, err := tryOut(device, kind)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("ok %s sectors of %d, made in %.2f s, used in %.2f s, %d bytes", kind, sector, made.Seconds(), time.Since(began).Seconds(), room), nil
}

func prepare(device, name string) (kind string, sector int, err error) {
	d, err := disk.Open(device)
	if err != nil {
		return "", 0, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if name == "esp" {
		kind, err = "vfat", target.FitSector(context.Background(), d, d.Size(), d.SectorSize())
	} else {
		kind, _, _ = strings.Cut(name, "-")
		err = target.MakeScratch(context.Background(), d, target.Scratch{Kind: kind, Size: d.Size(), Sector: d.SectorSize(), Label: "SCRATCH"})
	}
	if err != nil {
		return "", 0, err
	}
	return kind, d.SectorSize(), d.Sync()
}

// tryOut mounts the file system and writes and reads a file, or swaps to it; it returns how large the kernel thinks it is.
func tryOut(device, kind string) (room int64, err error) {
	if kind == "swap" {
		return swap(device)
	}
	dir, err := os.MkdirTemp("", "scratch")
	if err != nil {
		return 0, err
	}
	if err := unix.Mount(device, dir, kind, 0, ""); err != nil {
		return 0, fmt.Errorf("mount %s: %w", kind, err)
	}
	defer func() { err = errors.Join(err, unix.Unmount(dir, 0)) }()
	text := bytes.Repeat([]byte("scratch "), 1<<17)
	if err := os.MkdirAll(dir+"/a long directory name", 0o755); err != nil {
		return 0, err
	}
	path := dir + "/a long directory name/file"
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return 0, err
	}
	if got, err := os.ReadFile(path); err != nil {
		return 0, err
	} else if !bytes.Equal(got, text) {
		return 0, errors.New("the file has other content")
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Blocks) * st.Bsize, nil
}

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
