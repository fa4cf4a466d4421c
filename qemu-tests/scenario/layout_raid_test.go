package scenario

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"swarmboot/internal/web"
	"swarmboot/qemu-tests/lab"
)

// mirrorLayout has the root on a mirror, and the EFI system partition on one that firmware reads like plain partitions.
const mirrorLayout = `
candidates:
  - name: mirror
    disks:
      - name: disks
        select: transport=virtio
        count: "2"
        partitions:
          - {name: esp, type: esp, size: 80M}
          - {name: md, size: rest, type: raid}
    raid:
      - {name: esp, of: disks/esp, level: 1, metadata: "1.0", image: "1"}
      - {name: root, of: disks/md, level: 1, image: "2", grow: true}
`

// tenLayout has what firmware reads on each disk, and the root on all of them.
const tenLayout = `
candidates:
  - name: ten
    disks:
      - name: disks
        select: transport=virtio
        count: "4"
        partitions:
          - {name: bios, image: "3"}
          - {name: esp, image: "1"}
          - {name: md, size: rest, type: raid}
    raid:
      - {name: root, of: disks/md, level: 10, image: "2", grow: true}
`

// checkArrayed: the system that was imaged runs, and its root is an array.
func checkArrayed(t *testing.T, r Report) {
	t.Helper()
	if r.RootPARTUUID != "" || !strings.HasPrefix(r.RootDevice, "/dev/md") {
		t.Errorf("the root is %s (PARTUUID %q), no array", r.RootDevice, r.RootPARTUUID)
	}
	r.RootPARTUUID = files.RootPARTUUID
	if err := files.Check(r); err != nil {
		t.Error(err)
	}
	t.Logf("multi-user %.1f s after power-on, on %s", r.At.Seconds(), r.RootDevice)
}

// typed has the deployed Debian run a command.
func typed(ctx context.Context, t *testing.T, vm *lab.VM, command string) string {
	t.Helper()
	says, err := (&Node{Spec: Spec{Name: vm.Name}, VM: vm}).Typed(ctx, command)
	if err != nil {
		t.Fatal(err)
	}
	return says
}

// switchOff has the deployed Debian end, with its file systems clean.
func switchOff(ctx context.Context, t *testing.T, vm *lab.VM) {
	t.Helper()
	if err := vm.Send("poweroff\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-vm.Done():
	case <-ctx.Done():
		t.Fatalf("the system does not switch the machine off; console: %s", vm.Log)
	}
}

// fromDisks starts a machine from its disks, with the network off.
func fromDisks(ctx context.Context, t *testing.T, c *Cluster, m lab.Machine) *lab.VM {
	t.Helper()
	m.Memory = 512
	vm, err := c.net.Start(ctx, m, c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vm.Stop)
	return vm
}

// arrayDisks are the disks of a machine that gets arrays.
func arrayDisks(t *testing.T, c *Cluster, n int, size int64) []lab.Disk {
	t.Helper()
	var all []lab.Disk
	for i := range n {
		all = append(all, sparseDisk(t, c, fmt.Sprintf("disk%d", i), size))
	}
	return all
}

// cut copies the partition with this name out of a disk.
func cut(ctx context.Context, t *testing.T, disk, name string) (path string) {
	t.Helper()
	p, ok := partitionsOf(ctx, t, disk)[name]
	if !ok {
		t.Fatalf("%s has no partition %q", disk, name)
	}
	path = strings.TrimSuffix(disk, ".raw") + "-" + name + ".raw"
	foreign(ctx, t, "dd", "if="+disk, "of="+path, "bs=512", fmt.Sprintf("skip=%d", p.Start), fmt.Sprintf("count=%d", p.Size), "conv=sparse", "status=none")
	return path
}

// checkMembers has sgdisk judge the tables and mdadm the members of the array of this level in partitions with this name. It
// returns copies of them.
func checkMembers(ctx context.Context, t *testing.T, disks []lab.Disk, name string, level int) (members []string) {
	t.Helper()
	uuid := ""
	for _, d := range disks {
		if out := foreign(ctx, t, "sgdisk", "--verify", d.Path); !strings.Contains(out, "No problems found") {
			t.Error(out)
		}
		member := cut(ctx, t, d.Path, name)
		members = append(members, member)
		out := foreign(ctx, t, "mdadm", "--examine", "--verbose", member)
		for _, want := range []string{fmt.Sprintf("Raid Level : raid%d", level), fmt.Sprintf("Raid Devices : %d", len(disks)), "- correct"} {
			if !strings.Contains(out, want) {
				t.Errorf("mdadm --examine of %s does not say %q:\n%s", member, want, out)
			}
		}
		m := regexp.MustCompile(`Array UUID : (\S+)`).FindStringSubmatch(out)
		if m == nil || uuid != "" && m[1] != uuid {
			t.Fatalf("members of one array have different UUIDs:\n%s", out)
		}
		uuid = m[1]
	}
	return members
}

// UEFI: the root and the EFI system partition are mirrors. The system starts by kexec; from the disks with the network off; and when the
// first disk is gone, from the second by the entry that it has in the firmware.
func TestLayoutRAID1(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	c := layoutCluster(ctx, t, map[string]string{"array": mirrorLayout})
	disks := arrayDisks(t, c, 2, 4<<30)
	m := lab.Machine{Name: "array", Chipset: "q35", UEFI: newFirmware(t), Disks: disks}
	vm := startMachine(ctx, t, c, m, "swarmboot.layout=array swarmboot.then=kexec")
	checkArrayed(t, waitSystem(ctx, t, vm))
	checkResync(ctx, t, c)
	says := typed(ctx, t, vm, "efibootmgr -v")
	switchOff(ctx, t, vm)

	checkMembers(ctx, t, disks, "esp", 1)
	members := checkMembers(ctx, t, disks, "md", 1)
	checkMirrored(ctx, t, members[0])
	checkEntries(ctx, t, says, disks)
	for _, path := range members {
		_ = os.Remove(path)
	}

	m.Name = "disk"
	vm = fromDisks(ctx, t, c, m)
	checkArrayed(t, waitSystem(ctx, t, vm))
	says = typed(ctx, t, vm, "efibootmgr -v")
	checkEntries(ctx, t, says, disks)
	if e := current(says); !strings.Contains(e, "* debian\t") {
		t.Errorf("it was started by %q", e)
	}
	switchOff(ctx, t, vm)

	m.Name, m.Disks = "second", disks[1:]
	vm = fromDisks(ctx, t, c, m)
	checkArrayed(t, waitSystem(ctx, t, vm))
	if e := current(typed(ctx, t, vm, "efibootmgr -v")); !strings.Contains(e, "* debian 2\t") {
		t.Errorf("without the first disk it was started by %q", e)
	}
}

// newFirmware is UEFI of a machine that was never switched on.
func newFirmware(t *testing.T) *lab.UEFI {
	t.Helper()
	const dir = "/usr/share/OVMF"
	b, err := os.ReadFile(filepath.Join(dir, "OVMF_VARS_4M.fd"))
	vars := filepath.Join(t.TempDir(), "vars.fd")
	if err == nil {
		err = os.WriteFile(vars, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &lab.UEFI{Code: filepath.Join(dir, "OVMF_CODE_4M.fd"), Vars: vars}
}

// checkResync: the server has heard that the mirror was still being brought in line when the node was done.
func checkResync(ctx context.Context, t *testing.T, c *Cluster) {
	t.Helper()
	var all []web.Node
	if err := c.get(ctx, "/api/v1/nodes", &all); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(n web.Node) bool { return n.Node == layoutMAC })
	if i < 0 || all[i].Phase != "done" || len(all[i].Warnings) > 0 {
		t.Fatalf("the server knows %+v", all)
	}
	t.Log(all[i].Arrays)
	if !slices.ContainsFunc(all[i].Arrays, regexp.MustCompile(`^array root: resync \d+\.\d %, \d+ MB/s$`).MatchString) {
		t.Errorf("the server heard of the arrays: %q", all[i].Arrays)
	}
}

// checkMirrored has e2fsck judge the root on one member, and looks how the system names it.
func checkMirrored(ctx context.Context, t *testing.T, member string) {
	t.Helper()
	offset := number(ctx, t, `Data Offset : (\d+) sectors`, "mdadm", "--examine", member)
	root := filepath.Join(filepath.Dir(member), "root.raw")
	foreign(ctx, t, "dd", "if="+member, "of="+root, "bs=1M", fmt.Sprintf("skip=%d", offset*512), "iflag=skip_bytes", "conv=sparse", "status=none")
	defer os.Remove(root)
	foreign(ctx, t, "e2fsck", "-fn", root)
	for _, name := range []string{"/etc/fstab", "/boot/grub/grub.cfg"} {
		text := foreign(ctx, t, "debugfs", "-R", "cat "+name, root)
		if !strings.Contains(text, "UUID=") || strings.Contains(text, "PARTUUID=") {
			t.Errorf("%s still names the partition of the image:\n%s", name, text)
		}
	}
	if text := foreign(ctx, t, "debugfs", "-R", "cat /etc/fstab", root); !strings.Contains(text, "errors=remount-ro") {
		t.Errorf("the options of the image's fstab are not there:\n%s", text)
	}
}

// checkEntries: efibootmgr lists one entry for the EFI system partition of each disk.
func checkEntries(ctx context.Context, t *testing.T, says string, disks []lab.Disk) {
	t.Helper()
	t.Logf("efibootmgr -v:\n%s", says)
	for i, d := range disks {
		label := "debian"
		if i > 0 {
			label += fmt.Sprintf(" %d", i+1)
		}
		entry := fmt.Sprintf(`(?m)^Boot\w{4}\* %s\tHD\(\d,GPT,%s,.*\)/File\(\\EFI\\debian\\shimx64\.efi\)$`, label, strings.ToLower(partitionsOf(ctx, t, d.Path)["esp"].UUID))
		if found := regexp.MustCompile(entry).FindAllString(says, -1); len(found) != 1 {
			t.Errorf("%d entries for the EFI system partition of %s: want one like %s", len(found), d.Path, entry)
		}
	}
	if n := strings.Count(says, "* debian"); n != len(disks) {
		t.Errorf("%d entries of ours, want %d", n, len(disks))
	}
}

// current is the line of the entry that the machine was started by, "" if there is none.
func current(says string) string {
	m := regexp.MustCompile(`BootCurrent: (\w{4})`).FindStringSubmatch(says)
	if m == nil {
		return ""
	}
	return regexp.MustCompile(`(?m)^Boot` + m[1] + `.*$`).FindString(says)
}

// A BIOS: boot code, GRUB and the EFI system partition are on each of four disks, the root is on all. The system
// starts by kexec, and from the disks with the network off.
func TestLayoutRAID10(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	c := layoutCluster(ctx, t, map[string]string{"array": tenLayout})
	m := lab.Machine{Name: "array", Disks: arrayDisks(t, c, 4, 2<<30)}
	vm := startMachine(ctx, t, c, m, "swarmboot.layout=array swarmboot.then=kexec")
	checkArrayed(t, waitSystem(ctx, t, vm))
	typed(ctx, t, vm, "true")
	switchOff(ctx, t, vm)
	checkMembers(ctx, t, m.Disks, "md", 10)

	m.Name = "disk"
	vm = fromDisks(ctx, t, c, m)
	checkArrayed(t, waitSystem(ctx, t, vm))
	if _, ok := vm.Console.Find(regexp.MustCompile(`GRUB`)); !ok {
		t.Error("the system was not started by its boot loader")
	}
}
