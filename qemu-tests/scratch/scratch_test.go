// Package scratch deploys a machine whose layout asks for scratch space: file systems of each kind, terabytes large, on a disk with sectors of 512
// bytes on physical ones of 4096 (512e) and on one with sectors of 4096 (4Kn). The kernel of a second boot uses them, and the host's tools judge what is left.
package scratch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"swarmboot/internal/tooltest"
	"swarmboot/qemu-tests/lab"
	"swarmboot/qemu-tests/scenario"
)

const (
	mib = int64(1) << 20
	tib = int64(1) << 40
)

// layout puts the image's EFI system partition on both disks, the root on the first, and scratch space behind them.
const layout = `
candidates:
  - name: two disks
    disks:
      - name: small-sectors
        select: serial=SB-512E
        partitions:
          - {name: esp-512, image: "1"}
          - {name: root, image: "2"}
          - {name: vfat-512, size: 512M, fs: vfat, fsLabel: SCRATCH, mount: /fat1}
          - {name: swap-512, size: 4G, fs: swap, fsLabel: SCRATCH}
          - {name: ext4-512, size: 1T, fs: ext4, fsLabel: SCRATCH, mount: /scratch1}
          - {name: xfs-512, size: rest, fs: xfs, fsLabel: SCRATCH, mount: /scratch2}
      - name: large-sectors
        select: serial=SB-4KN
        partitions:
          - {name: esp-4k, image: "1"}
          - {name: vfat-4k, size: 4G, fs: vfat, fsLabel: SCRATCH, mount: /fat2}
          - {name: swap-4k, size: 8G, fs: swap, fsLabel: SCRATCH}
          - {name: xfs-4k, size: 2T, fs: xfs, fsLabel: SCRATCH, mount: /scratch3}
          - {name: ext4-4k, size: rest, fs: ext4, fsLabel: SCRATCH, mount: /scratch4}
`

// disks are those of the machine. ext4 has no files of such sizes: they lie in memory.
var disks = []struct {
	serial string
	size   int64
	sector int
}{{"SB-512E", 3*tib + 17*512, 512}, {"SB-4KN", 4 * tib, 4096}}

var tool = tooltest.Run

func TestScratchOnANode(t *testing.T) {
	if testing.Short() {
		t.Skip("starts virtual machines")
	}
	files, err := scenario.Find()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := lab.TempDir("/dev/shm", "scratch")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // a test's own
	images := t.TempDir()
	makeImage(t, files, images)
	if err := os.Mkdir(filepath.Join(images, "layouts"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(images, "layouts", "scratch.yaml"), []byte(layout), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	c := files.StartFor(ctx, t, filepath.Join(files.Build, "test", t.Name()), images)
	m := lab.Machine{Name: "made", MAC: "52:54:00:5b:00:78", Memory: 512}
	for _, d := range disks {
		path := filepath.Join(dir, d.serial)
		tool(t, "truncate", "-s", fmt.Sprint(d.size), path)
		m.Disks = append(m.Disks, lab.Disk{Path: path, Format: "raw", Bus: "virtio", Serial: d.serial, Sector: d.sector, Physical: 4096})
	}
	vm := start(ctx, t, c, m, "swarmboot.layout=scratch swarmboot.then=poweroff swarmboot.onerror=poweroff")
	defer vm.Stop()
	select {
	case <-vm.Done():
	case <-ctx.Done():
		t.Fatalf("the machine did not power off:\n%s", lab.Tail(vm.Log))
	}
	if _, ok := vm.Console.Find(regexp.MustCompile("deployed; then: poweroff")); !ok {
		t.Fatalf("not deployed:\n%s", lab.Tail(vm.Log))
	}
	if l, ok := vm.Console.Find(regexp.MustCompile(`^mkfs\s.* s$`)); ok {
		t.Log(l.Text)
	}
	initrd := filepath.Join(dir, "initramfs")
	if err := lab.ExtendInitramfs(ctx, initrd, files.Initramfs, "tryscratch"); err != nil {
		t.Fatal(err)
	}
	c.Initramfs = initrd
	m.Name = "used"
	vm = start(ctx, t, c, m, "swarmboot.action=shell")
	defer vm.Stop()
	lines, err := vm.AtShell(ctx, "tryscratch", "SCRATCH")
	said := map[string]string{}
	for _, l := range lines {
		name, text, _ := strings.Cut(l, " ")
		said[name] = text
		t.Log(l)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range disks {
		judge(t, m.Disks[i].Path, d.sector, said)
	}
	if len(said) != 10 {
		t.Errorf("the node said %q", said)
	}
}

// start boots a machine.
func start(ctx context.Context, t *testing.T, c *scenario.Cluster, m lab.Machine, words string) *lab.VM {
	t.Helper()
	vm, err := c.BootDirectly(ctx, m, words)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}
