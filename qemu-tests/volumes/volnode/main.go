// Volnode runs in a system that a node has started by kexec: LVM's own program activates the group that was deployed, the kernel mounts the root in
// it, and what is there is told on the console. Then it switches the machine off.
package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"swarmboot/internal/md"
	"swarmboot/internal/target"
)

// config keeps LVM from waiting for an udev that is not there.
const config = `activation { udev_sync=0 udev_rules=0 monitoring=0 } devices { obtain_device_list_from_udev=0 external_device_info_source="none" } ` +
	`global { locking_dir="/tmp" } backup { backup=0 archive=0 }`

func main() {
	fmt.Println() // the shell's prompt stands in the line
	if err := look(context.Background()); err != nil {
		fmt.Printf("VOLUME failed: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	fmt.Println("VOLUME-END")
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("power off:", err)
	}
}

func look(ctx context.Context) error {
	if err := md.Modprobe(ctx, "dm_mod"); err != nil {
		return err
	}
	if err := removeLeft(ctx); err != nil {
		return err
	}
	for _, line := range []string{"vgchange -ay vg0", "vgck vg0", "lvs --noheadings -o lv_name,lv_active,seg_pe_ranges vg0"} {
		f := strings.Fields(line)
		cmd := exec.CommandContext(ctx, "/usr/sbin/lvm", append([]string{f[0], "--config", config}, f[1:]...)...)
		cmd.Env = append(os.Environ(), "LVM_SUPPRESS_FD_WARNINGS=1", "DM_DISABLE_UDEV=1", "LVM_SYSTEM_DIR=")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("lvm %s: %w: %s", line, err, out)
		}
		for said := range strings.Lines(string(out)) {
			fmt.Printf("VOLUME %s: %s\n", f[0], strings.Join(strings.Fields(said), " "))
		}
	}
	const dir = "/tmp/root"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("/dev/mapper/vg0-root", dir, "ext4", unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	big, err := os.ReadFile(dir + "/big")
	if err != nil {
		return err
	}
	fmt.Printf("VOLUME big: %x\n", sha256.Sum256(big))
	for what, path := range map[string]string{"hostname": dir + "/etc/hostname", "cmdline": "/proc/cmdline", "sector": "/sys/block/vda/queue/logical_block_size"} {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fmt.Printf("VOLUME %s: %s\n", what, strings.TrimSpace(string(b)))
	}
	return nil
}

// removeLeft has a device that a killed deployment has mapped removed, and tells what stays: that of a process that runs.
func removeLeft(ctx context.Context) error {
	const ended = 1 << 22 // no process has this ID: it is the limit (proc_sys_kernel(5), pid_max)
	run := []target.Run{{Device: "/dev/vda2", Len: 1 << 20}}
	if _, err := target.MapRuns(ctx, fmt.Sprint("swarmboot-root-", ended), run); err != nil {
		return err
	}
	own, err := target.MapRuns(ctx, fmt.Sprint("swarmboot-root-", os.Getpid()), run)
	if err != nil {
		return err
	}
	if err := target.UnmountLeft(); err != nil {
		return err
	}
	names, err := filepath.Glob("/sys/block/dm-*/dm/name")
	if err != nil {
		return err
	}
	for _, file := range names {
		name, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		fmt.Printf("VOLUME mapped: %s\n", strings.TrimSpace(strings.Replace(string(name), fmt.Sprint(os.Getpid()), "own", 1)))
	}
	return own.Close()
}
