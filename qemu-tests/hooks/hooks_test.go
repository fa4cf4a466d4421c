// Package hooks deploys a node, in a virtual machine, whose profile has hooks at every point and asks for new UUIDs.
package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"swarmboot/internal/tooltest"
	"swarmboot/qemu-tests/scenario"
)

const profile = `newUUIDs: true
parameters: {append: quiet}
hooks:
- name: early
  at: before-disks
  content: |
    #!/bin/bash
    for d in /sys/block/vd*; do echo "found $(cat $d/serial)"; done
- name: write
  at: after-write
  content: |
    echo "$SWARMBOOT_NODE on $SWARMBOOT_DISK" >$SWARMBOOT_TARGET/etc/hook
    cat $SWARMBOOT_TARGET/etc/hostname
    chroot=$(cat $SWARMBOOT_TARGET/etc/debian_version) && echo "Debian $chroot"
- name: slow
  at: before-kexec
  timeout: 2s
  onFailure: ignore
  content: "echo waiting; sleep 1000"
- name: last
  at: before-kexec
  content: "cat $SWARMBOOT_TARGET/etc/hook; test -b $SWARMBOOT_ROOT && echo end"
`

var tool = tooltest.Run

// TestHooksAndUUIDs: the node's own shell runs the hooks, the server hears of them, what they wrote is in the system, and that system
// starts by kexec from a disk whose GUIDs and file systems are the node's own.
func TestHooksAndUUIDs(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a virtual machine")
	}
	files, err := scenario.Find()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	images := filepath.Join(dir, "images")
	if err := files.CreateImage(t.Context(), images, io.Discard); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(images, "profiles"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(images, "profiles", "default.yaml"), []byte(profile), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	c := files.StartFor(ctx, t, dir, images)
	disk := filepath.Join(dir, "node.raw")
	tool(t, "truncate", "-s", "4G", disk)
	outcomes, err := c.DeployAll(ctx, []scenario.Spec{{Name: "hooked", Memory: 512, NIC: "virtio-net-pci", Bus: "virtio", Format: "raw", Disk: disk}},
		func([]*scenario.Outcome, map[*scenario.Node][]scenario.Moment) {})
	if err != nil {
		console, _ := os.ReadFile(filepath.Join(dir, "hooked.log"))
		t.Fatalf("%v\n%s", err, console[max(0, len(console)-4000):])
	}
	o := outcomes[0]
	var heard []string
	for _, h := range o.Status.Hooks {
		heard = append(heard, string(h.Point)+" "+h.Name+": "+h.Output+" "+h.Error)
	}
	for i, want := range []string{"before-disks early: found SB-HOOKED", "after-write write: " + files.Hostname + "\nDebian 12", "before-kexec slow: waiting killed: it was not done within 2s",
		"before-kexec last: " + o.Node.MAC + " on /dev/vda\nend"} {
		if i >= len(heard) || !strings.HasPrefix(heard[i], want) {
			t.Fatalf("the server heard %q, want %q at %d", heard, want, i)
		}
	}
	if o.Report.RootPARTUUID == files.RootPARTUUID || o.Report.RootPARTUUID == "" || o.Report.KnownSHA256 != files.KnownSHA256 || o.Report.MultiUser != "active" {
		t.Errorf("the system says %+v", o.Report)
	}
	o.Node.VM.Stop()
	judge(t, files, disk, o.Report.RootPARTUUID)
}

// judge looks at the disk with other people's tools.
func judge(t *testing.T, files *scenario.Files, disk, rootPARTUUID string) {
	t.Helper()
	if out := tool(t, "sgdisk", "--verify", disk); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
	var table struct {
		PartitionTable struct {
			Partitions []struct {
				Start, Size int64
				UUID        string
			}
		}
	}
	if err := json.Unmarshal([]byte(tool(t, "sfdisk", "--json", disk)), &table); err != nil {
		t.Fatal(err)
	}
	parts := table.PartitionTable.Partitions
	if len(parts) < 2 || !strings.EqualFold(parts[1].UUID, rootPARTUUID) {
		t.Fatalf("the table has %+v, the system's root is %s", parts, rootPARTUUID)
	}
	id := func(disk string, sector int64) string {
		return tool(t, "blkid", "-p", "-O", strconv.FormatInt(sector*512, 10), "-s", "UUID", "-o", "value", disk)
	}
	esp, root := id(disk, parts[0].Start), id(disk, parts[1].Start)
	oldESP, oldRoot := id(files.Disk, 2048), id(files.Disk, 65*2048)
	if esp == oldESP || root == oldRoot {
		t.Errorf("the file systems have %s and %s as before", esp, root)
	}
	dir := t.TempDir()
	rootFS, espFS := filepath.Join(dir, "root"), filepath.Join(dir, "esp")
	tool(t, "dd", "if="+disk, "of="+rootFS, "bs=1M", "skip="+strconv.FormatInt(parts[1].Start/2048, 10), "count="+strconv.FormatInt(parts[1].Size/2048, 10), "conv=sparse", "status=none")
	tool(t, "dd", "if="+disk, "of="+espFS, "bs=1M", "skip="+strconv.FormatInt(parts[0].Start/2048, 10), "count="+strconv.FormatInt(parts[0].Size/2048, 10), "status=none")
	tool(t, "fsck.fat", "-n", espFS)
	// The machine was cut off while it ran: its journal is to be replayed, which e2fsck says with 1.
	out, err := exec.CommandContext(t.Context(), "e2fsck", "-fp", rootFS).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	tool(t, "e2fsck", "-fn", rootFS)
	for name, want := range map[string]string{"/etc/fstab": "PARTUUID=" + rootPARTUUID, "/boot/grub/grub.cfg": root, "/etc/hook": "on /dev/vda"} {
		text := tool(t, "debugfs", "-R", "cat "+name, rootFS)
		if !strings.Contains(text, want) || strings.Contains(text, oldRoot) || strings.Contains(text, files.RootPARTUUID) {
			t.Errorf("%s: %s", name, text)
		}
	}
	tool(t, "mcopy", "-i", espFS, "::/EFI/debian/grub.cfg", filepath.Join(dir, "grub.cfg"))
	if b, err := os.ReadFile(filepath.Join(dir, "grub.cfg")); err != nil || !strings.Contains(string(b), root) || strings.Contains(string(b), oldRoot) {
		t.Errorf("grub.cfg on the EFI system partition: %s, %v", b, err)
	}
}
