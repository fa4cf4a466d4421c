// Package volumes deploys an image whose root is an LVM logical volume in several pieces, to a disk with sectors of 4096 bytes, beside disks that are
// nobody's business. The node changes the root and starts its kernel by kexec; there LVM's own program activates the group.
package volumes

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"swarmboot/internal/event"
	"swarmboot/internal/tooltest"
	"swarmboot/internal/web"
	"swarmboot/qemu-tests/lab"
	"swarmboot/qemu-tests/scenario"
)

const (
	mib = int64(1) << 20
	mac = "52:54:00:5b:00:79"

	// The disk of the image: two physical volumes in partitions.
	diskSize           = 128 * mib
	first, firstSize   = 1 * mib, 48 * mib
	second, secondSize = 49 * mib, 64 * mib
	rootSize           = 80 * mib
)

var tool = tooltest.Run

func attach(t *testing.T, file string, args ...string) string {
	t.Helper()
	dev, err := lab.AttachLoop(t.Context(), file, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.DetachLoop(dev); err != nil {
			t.Error(err)
		}
	})
	return dev
}

// group is LVM's own programs with the two physical volumes of a disk. They need no device mapper as long as nothing is activated.
type group struct {
	dir string
	pvs []string
}

func open(t *testing.T, disk string) *group {
	t.Helper()
	g := &group{dir: t.TempDir()}
	filter := ""
	for _, p := range [][2]int64{{first, firstSize}, {second, secondSize}} {
		dev := attach(t, disk, "-b", "4096", "-o", fmt.Sprint(p[0]), "--sizelimit", fmt.Sprint(p[1]))
		g.pvs = append(g.pvs, dev)
		filter += fmt.Sprintf("%q, ", "a|^"+dev+"$|")
	}
	conf := `devices { use_devicesfile=0 filter=[` + filter + `"r|.*|"] obtain_device_list_from_udev=0 external_device_info_source="none" }
activation { monitoring=0 udev_sync=0 udev_rules=0 }
backup { backup=0 archive=0 }
global { locking_dir="` + g.dir + `/lock" event_activation=0 }
`
	if err := os.WriteFile(filepath.Join(g.dir, "lvm.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *group) lvm(t *testing.T, line string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "lvm", append(strings.Fields(strings.NewReplacer("PV1", g.pvs[0], "PV2", g.pvs[1]).Replace(line)), "--driverloaded", "n")...)
	cmd.Env = append(os.Environ(), "LVM_SUPPRESS_FD_WARNINGS=1", "LVM_SYSTEM_DIR="+g.dir, "DM_DISABLE_UDEV=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("lvm %s: %v\n%s", line, err, stderr.Bytes())
	}
	return string(out)
}

// pieces are the extents of the root, as LVM's pvs and lvs say: byte and length on the disk.
func (g *group) pieces(t *testing.T) (list [][2]int64) {
	t.Helper()
	out := g.lvm(t, "lvs --noheadings -O seg_start -o seg_pe_ranges -S lv_name=root vg0")
	for line := range strings.Lines(out) {
		var from, to int64
		dev, extents, _ := strings.Cut(strings.TrimSpace(line), ":")
		if _, err := fmt.Sscanf(extents, "%d-%d", &from, &to); err != nil {
			t.Fatalf("lvs: %s", out)
		}
		start := first
		if dev == g.pvs[1] {
			start = second
		}
		list = append(list, [2]int64{start + mib + from*mib, (to - from + 1) * mib}) // extents of 1 MiB, behind 1 MiB of metadata
	}
	return list
}

// copyRoot copies between a file with the root and its pieces on a disk.
func (g *group) copyRoot(t *testing.T, disk, file string, out bool) {
	t.Helper()
	at := int64(0)
	for _, p := range g.pieces(t) {
		from, to, skip, seek := file, disk, at, p[0]
		if out {
			from, to, skip, seek = disk, file, p[0], at
		}
		tool(t, "dd", "if="+from, "of="+to, "bs=1M", "conv=notrunc", "status=none", fmt.Sprintf("skip=%d", skip/mib), fmt.Sprintf("seek=%d", seek/mib), fmt.Sprintf("count=%d", p[1]/mib))
		at += p[1]
	}
}

// makeImage makes a disk with LVM's programs, and an image of it. The system in it is the nodes' kernel, and an initramfs with volnode and LVM.
func makeImage(t *testing.T, files *scenario.Files, images string) (big string) {
	t.Helper()
	work := t.TempDir()
	data := make([]byte, 8*mib)
	rand.NewChaCha8([32]byte{9}).Read(data) //nolint:errcheck // never fails
	for name, content := range map[string][]byte{"tree/etc/hostname": []byte("image\n"), "tree/etc/machine-id": []byte("00112233445566778899aabbccddeeff\n"), "tree/usr/bin/sh": nil, "tree/big": data} {
		path := filepath.Join(work, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	boot := filepath.Join(work, "tree", "boot")
	if err := os.Mkdir(boot, 0o755); err != nil {
		t.Fatal(err)
	}
	tool(t, "cp", "-L", files.Kernel, filepath.Join(boot, "vmlinuz-6.1.0-test"))
	lvm := append([]string{"/usr/sbin/lvm"}, regexp.MustCompile(`/\S+\.so\S*`).FindAllString(tool(t, "ldd", "/usr/sbin/lvm"), -1)...)
	initrd := filepath.Join(work, "initrd")
	if err := lab.ExtendInitramfs(t.Context(), initrd, files.Initramfs, "volnode", lvm...); err != nil {
		t.Fatal(err)
	}
	tool(t, "mv", initrd, filepath.Join(boot, "initrd.img-6.1.0-test"))

	disk, root := filepath.Join(work, "disk"), filepath.Join(work, "root")
	tool(t, "truncate", "-s", fmt.Sprint(diskSize), disk)
	tool(t, "truncate", "-s", fmt.Sprint(rootSize), root)
	tool(t, "mkfs.ext4", "-q", "-b", "4096", "-d", filepath.Join(work, "tree"), "-E", "root_owner=0:0", root)
	whole := attach(t, disk, "-b", "4096")
	tool(t, "sgdisk", "--clear", fmt.Sprintf("--new=1:%d:+%dM", first/4096, firstSize/mib), "--typecode=1:8e00", fmt.Sprintf("--new=2:%d:+%dM", second/4096, secondSize/mib), "--typecode=2:8e00", whole)
	g := open(t, disk)
	for _, line := range []string{"pvcreate -y PV1 PV2", "vgcreate -s 1M vg0 PV1 PV2", "lvcreate -y -an -Zn -Wn -L 16M -n root vg0 PV1", "lvcreate -y -an -Zn -Wn -L 4M -n other vg0 PV1",
		"lvextend -L +16M vg0/root PV1", "lvextend -L +48M vg0/root PV2"} {
		g.lvm(t, line)
	}
	if n := len(g.pieces(t)); n != 3 {
		t.Fatalf("the root has %d pieces", n)
	}
	g.copyRoot(t, whole, root, false)
	tool(t, "sync", whole)
	tool(t, files.Program("swarmboot"), "image", "create", "--root", "vg0/root", "--cmdline", "console=ttyS0 loglevel=3 swarmboot.action=shell root=/dev/mapper/vg0-root", whole, filepath.Join(images, scenario.ImageName))
	return fmt.Sprintf("%x", sha256.Sum256(data))
}

// bystanders are a disk like the target with everything on it that a deployment clears, and a stick that is smaller than any: neither may change.
func bystanders(t *testing.T) []lab.Disk {
	t.Helper()
	dir := t.TempDir()
	neighbour, stick := filepath.Join(dir, "neighbour"), filepath.Join(dir, "stick")
	tool(t, "truncate", "-s", "320M", neighbour)
	tool(t, "sgdisk", "--clear", "--new=1:1M:+100M", "--new=2:101M:+100M", neighbour)
	tool(t, "mkfs.ext4", "-q", "-E", fmt.Sprintf("offset=%d", mib), neighbour, "100M")
	g := attach(t, neighbour, "-o", fmt.Sprint(101*mib), "--sizelimit", fmt.Sprint(100*mib))
	tool(t, "pvcreate", "-q", "--devices", g, g)
	tool(t, "truncate", "-s", "64M", stick)
	tool(t, "mkfs.fat", "-F", "16", "-n", "BOOT", stick)
	return []lab.Disk{{Path: neighbour, Format: "raw", Bus: "virtio", Serial: "SB-NEIGHBOUR"}, {Path: stick, Format: "raw", Bus: "usb", Serial: "SB-STICK"}}
}

// profile waits for the stick: the disk is chosen beside it.
const profile = `hostname: in-pieces
machineID: reset
hooks:
- {name: stick, at: before-disks, content: "until test -e /sys/block/sda/removable; do sleep 1; done; cat /sys/block/sda/removable"}
`

// The root in three pieces of two partitions is given its name and started by kexec. The selector means every small disk, and so would mean the
// stick, if removable disks were meant by anything but a name; the neighbour is too large.
func TestVolumeInPieces(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a virtual machine")
	}
	files, err := scenario.Find()
	if err != nil {
		t.Fatal(err)
	}
	images := t.TempDir()
	big := makeImage(t, files, images)
	if err := os.Mkdir(filepath.Join(images, "profiles"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(images, "profiles", "default.yaml"), []byte(profile), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	c := files.StartFor(ctx, t, filepath.Join(files.Build, "test", t.Name()), images)
	disk := filepath.Join(t.TempDir(), "target")
	tool(t, "truncate", "-s", fmt.Sprint(diskSize), disk)
	others := bystanders(t)
	before := []string{tool(t, "sha256sum", others[0].Path), tool(t, "sha256sum", others[1].Path)}
	m := lab.Machine{Name: "pieces", MAC: mac, Memory: 512, Disks: append([]lab.Disk{{Path: disk, Format: "raw", Bus: "virtio", Serial: "SB-TARGET", Sector: 4096}}, others...)}
	vm, err := c.BootDirectly(ctx, m, "swarmboot.disk=size=..300M swarmboot.verify=readback swarmboot.then=kexec swarmboot.onerror=poweroff")
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Stop()
	n := &scenario.Node{Spec: scenario.Spec{Name: m.Name, MAC: mac}, VM: vm}
	w, err := c.WaitNode(ctx, n, func(w web.Node) bool { return w.Phase.Ended() })
	if err != nil || w.Phase != event.PhaseDone || len(w.Warnings) > 0 {
		t.Fatalf("phase %s, error %q, warnings %q, %v", w.Phase, w.Error, w.Warnings, err)
	}
	if len(w.Hooks) != 1 || w.Hooks[0].Output != "1" {
		t.Errorf("the stick is not there, or not removable: %+v", w.Hooks)
	}
	said := volnode(ctx, t, vm)
	for what, want := range map[string]string{"big": big, "hostname": "in-pieces", "sector": "4096", "mapped": "swarmboot-root-own"} {
		if said[what] != want {
			t.Errorf("%s: %q, want %q", what, said[what], want)
		}
	}
	if !strings.Contains(said["cmdline"], "root=/dev/mapper/vg0-root") || !strings.Contains(said["vgchange"], "2 logical volume(s)") || said["failed"] != "" {
		t.Errorf("volnode says %q", said)
	}
	for i, d := range others {
		if after := tool(t, "sha256sum", d.Path); after != before[i] {
			t.Errorf("%s has changed", d.Serial)
		}
	}
	g, root := open(t, disk), filepath.Join(t.TempDir(), "root")
	g.lvm(t, "vgck vg0")
	if len(g.pieces(t)) != 3 {
		t.Error("the root does not have three pieces any more")
	}
	g.copyRoot(t, disk, root, true)
	tool(t, "e2fsck", "-fn", root)
	if out := tool(t, "sgdisk", "--verify", attach(t, disk, "-b", "4096")); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
}

// volnode runs it in the system that was started, and returns what it says, by the first word.
func volnode(ctx context.Context, t *testing.T, vm *lab.VM) map[string]string {
	t.Helper()
	lines, err := vm.AtShell(ctx, "volnode", "VOLUME")
	said := map[string]string{}
	for _, l := range lines {
		word, text, _ := strings.Cut(l, ": ")
		said[word] += text
		t.Log(l)
	}
	if err != nil {
		t.Fatal(err)
	}
	return said
}
