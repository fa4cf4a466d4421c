// Package reboot deploys machines and starts them again: from their disks, with the network off, by a BIOS and by UEFI.
package reboot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"swarmboot/internal/event"
	"swarmboot/internal/filetest"
	"swarmboot/internal/web"
	"swarmboot/qemu-tests/lab"
	"swarmboot/qemu-tests/scenario"
)

const (
	firmware = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	fresh    = "/usr/share/OVMF/OVMF_VARS_4M.fd" // variables of a machine that was never switched on

	diskSize = 4 << 30 // larger than the disk of the image

	limit = 20 * time.Minute // for a test that hangs
)

var (
	files  *scenario.Files
	images string
)

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("reboot: the machine tests are left out with -short")
		os.Exit(0)
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := lab.OwnTemp()
	defer os.RemoveAll(dir)
	if err == nil {
		files, err = scenario.Find()
	}
	if err == nil {
		images = filepath.Join(dir, "images")
		err = files.CreateImage(context.Background(), images, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// start serves the image in a network of its own. Its logs stay in build/test, its disks do not.
func start(ctx context.Context, t *testing.T, args ...string) *scenario.Cluster {
	t.Helper()
	dir := filepath.Join(files.Build, "test", t.Name())
	own := t.TempDir()
	err := os.RemoveAll(dir)
	if err == nil {
		err = scenario.Share(images, own)
	}
	if err != nil {
		t.Fatal(err)
	}
	return files.StartFor(ctx, t, dir, own, args...)
}

// makeDisk makes a blank disk that several machines get, one after the other.
func makeDisk(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	err := os.WriteFile(path, nil, 0o600)
	if err == nil {
		err = os.Truncate(path, diskSize)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func boot(ctx context.Context, t *testing.T, c *scenario.Cluster, s scenario.Spec) *scenario.Node {
	t.Helper()
	n, err := c.Boot(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func deployed(ctx context.Context, t *testing.T, c *scenario.Cluster, n *scenario.Node) web.Node {
	t.Helper()
	w, err := c.WaitNode(ctx, n, func(w web.Node) bool { return w.Phase.Ended() })
	if err != nil {
		t.Fatal(err)
	}
	if w.Phase != event.PhaseDone || len(w.Warnings) > 0 {
		t.Fatalf("phase %s, error %q, warnings %q", w.Phase, w.Error, w.Warnings)
	}
	return w
}

// up waits until Debian reaches multi-user.target and says what was imaged.
func up(ctx context.Context, t *testing.T, n *scenario.Node) {
	t.Helper()
	r, err := n.WaitReport(ctx)
	if err == nil {
		err = files.Check(r)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: multi-user %.1f s after power-on", n.Name, r.At.Seconds())
}

// typed has the deployed Debian run a command and returns what it prints.
func typed(ctx context.Context, t *testing.T, n *scenario.Node, command string) string {
	t.Helper()
	says, err := n.Typed(ctx, command)
	if err != nil {
		t.Fatal(err)
	}
	return says
}

// current is the line of the entry that the machine was started by.
func current(t *testing.T, says string) string {
	t.Helper()
	m := regexp.MustCompile(`BootCurrent: (\w{4})`).FindStringSubmatch(says)
	if m == nil {
		t.Fatalf("no BootCurrent in:\n%s", says)
	}
	for line := range strings.Lines(says) {
		if strings.HasPrefix(line, "Boot"+m[1]) {
			return strings.TrimSpace(line)
		}
	}
	t.Fatalf("no entry %s in:\n%s", m[1], says)
	return ""
}

// A BIOS: then=reboot leads into the disk, by the server's word, and after that the disk boots with no network at all.
func TestBIOS(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	disk := makeDisk(t)
	c := start(ctx, t, "--then", "reboot")
	spec := scenario.Spec{Name: "deploy", Memory: 512, Chipset: "pc", NIC: "virtio-net-pci", Bus: "virtio", Format: "raw", Disk: disk, Restarts: true}
	n := boot(ctx, t, c, spec)
	w := deployed(ctx, t, c, n)
	for _, s := range w.Steps {
		if s.Name == event.PhaseBootEntry || s.Name == event.PhaseLoad {
			t.Errorf("step %s on a machine with a BIOS that restarts", s.Name)
		}
	}
	up(ctx, t, n)
	if _, ok := n.VM.Console.Find(regexp.MustCompile(`GRUB`)); !ok {
		t.Error("the system was not started by its boot loader")
	}
	n.VM.Stop()

	// The boot code, and GRUB's core image in its partition (debian.sh), are those of the image.
	for _, part := range []struct{ off, n int64 }{{0, 440}, {64 * 512, (2048 - 64) * 512}} {
		if want, got := sumOf(t, files.Disk, part.off, part.n), sumOf(t, disk, part.off, part.n); want != got {
			t.Errorf("the %d bytes at %d are not those of the image", part.n, part.off)
		}
	}
	spec.Name, spec.NIC, spec.Restarts = "disk", "", false
	up(ctx, t, boot(ctx, t, c, spec))
}

func sumOf(t *testing.T, path string, off, n int64) [sha256.Size]byte {
	t.Helper()
	b := filetest.Read(t, path, off, n)
	if bytes.Count(b, []byte{0}) == len(b) {
		t.Errorf("there is nothing in the %d bytes at %d of %s", n, off, path)
	}
	return sha256.Sum256(b)
}

// UEFI: two deployments leave one entry, behind the network's, which starts the system; firmware that has forgotten its
// entries finds the fallback path.
func TestUEFI(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	spec := scenario.Spec{Name: "deploy", Memory: 512, Chipset: "q35", NIC: "virtio-net-pci", Bus: "virtio", Format: "raw", Disk: makeDisk(t),
		UEFI: &lab.UEFI{Code: firmware, Vars: newVars(t)}, Restarts: true, MAC: "52:54:00:5b:01:01"}
	t.Run("first", func(t *testing.T) { firstDeployment(ctx, t, spec) })
	t.Run("second", func(t *testing.T) { secondDeployment(ctx, t, spec) })
	spec.NIC, spec.Restarts = "", false
	t.Run("no network", func(t *testing.T) {
		says := fromDisk(ctx, t, spec)
		oneEntry(t, says)
		if e := current(t, says); !strings.Contains(e, "* debian") {
			t.Errorf("it was started by %s", e)
		}
	})
	spec.UEFI = &lab.UEFI{Code: firmware, Vars: newVars(t)}
	t.Run("forgotten", func(t *testing.T) {
		says := fromDisk(ctx, t, spec)
		if e := current(t, says); strings.Contains(says, "* debian") || strings.Contains(e, "HD(") {
			t.Errorf("it was started by %s, not by the fallback path of the disk; all entries:\n%s", e, says)
		}
	})
}

// entryLine is what the node says of the entry that it makes.
var entryLine = regexp.MustCompile(`boot entry: Boot[0-9A-F]{4} "debian" starts \\EFI\\debian\\shimx64.efi, behind "UEFI PXEv4`)

// firstDeployment boots a blank machine from the network. In the system that is deployed an administrator puts the network
// first in the boot order, and our entry second.
func firstDeployment(ctx context.Context, t *testing.T, spec scenario.Spec) {
	c := start(ctx, t, "--then", "kexec")
	n := boot(ctx, t, c, spec)
	deployed(ctx, t, c, n)
	fallback := regexp.MustCompile(`\\EFI\\BOOT had no loader: grubx64.efi, mmx64.efi, BOOTX64.EFI copied from \\EFI\\debian\\shimx64.efi`)
	for _, line := range []*regexp.Regexp{fallback, entryLine} {
		if _, err := n.VM.Console.Wait(ctx, line); err != nil {
			t.Error(err)
		}
	}
	up(ctx, t, n)
	says := typed(ctx, t, n, "efibootmgr -v")
	ours := oneEntry(t, says)
	typed(ctx, t, n, "efibootmgr -q -o "+current(t, says)[4:8]+","+ours+" && sync")
	n.VM.Stop()
}

// secondDeployment is of the same machine. When it restarts, the server sends it on to the next entry of its firmware: ours.
func secondDeployment(ctx context.Context, t *testing.T, spec scenario.Spec) {
	c := start(ctx, t, "--then", "reboot")
	n := boot(ctx, t, c, spec)
	deployed(ctx, t, c, n)
	if _, err := n.VM.Console.Wait(ctx, entryLine); err != nil {
		t.Error(err)
	}
	up(ctx, t, n)
	says := typed(ctx, t, n, "efibootmgr -v")
	oneEntry(t, says)
	if e := current(t, says); !strings.Contains(e, "* debian") {
		t.Errorf("it was started by %s", e)
	}
	n.VM.Stop()
}

// fromDisk starts a machine without a network and returns what efibootmgr says in its system.
func fromDisk(ctx context.Context, t *testing.T, spec scenario.Spec) string {
	network, err := lab.NewNetwork(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := network.Close(); err != nil {
			t.Error(err)
		}
	}()
	dir := filepath.Join(files.Build, "test", t.Name())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	vm, err := network.Start(ctx, lab.Machine{Name: "disk", Memory: spec.Memory, Chipset: spec.Chipset, UEFI: spec.UEFI,
		Disks: []lab.Disk{{Path: spec.Disk, Format: spec.Format, Bus: spec.Bus, Serial: "SB-DISK"}}}, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Stop()
	n := &scenario.Node{Spec: spec, VM: vm}
	up(ctx, t, n)
	return typed(ctx, t, n, "efibootmgr -v")
}

func newVars(t *testing.T) string {
	t.Helper()
	in, err := os.Open(fresh)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.CreateTemp(t.TempDir(), "vars")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	return out.Name()
}

// oneEntry: efibootmgr lists our entry once, with the partition of the image, and the order has it once. It returns its number.
func oneEntry(t *testing.T, says string) (number string) {
	t.Helper()
	t.Logf("efibootmgr -v:\n%s", says)
	entry := regexp.MustCompile(`(?m)^Boot(\w{4})\* debian\s+HD\(1,GPT,5a3b0001-0000-4000-8000-000000000002,0x800,0x20000\)/File\(\\EFI\\debian\\shimx64\.efi\)$`)
	found := entry.FindAllStringSubmatch(says, -1)
	if len(found) != 1 || strings.Count(says, "* debian") != 1 {
		t.Fatalf("%d entries of ours in:\n%s", len(found), says)
	}
	order := regexp.MustCompile(`BootOrder: (\S+)`).FindStringSubmatch(says)
	if order == nil || strings.Count(order[1], found[0][1]) != 1 {
		t.Errorf("Boot%s is not once in the order %q", found[0][1], order)
	}
	return found[0][1]
}

// A deployment that fails restarts the machine, which asks the server again.
func TestOnErrorReboot(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	c := start(ctx, t, "--disk", "serial=NOSUCH", "--on-error", "reboot")
	n := boot(ctx, t, c, scenario.Spec{Name: "node", Memory: 384, NIC: "virtio-net-pci", Bus: "virtio", Format: "raw", Size: diskSize, Restarts: true})
	w, err := c.WaitNode(ctx, n, func(w web.Node) bool { return w.Phase == event.PhaseFailed })
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(w.Error, "NOSUCH") {
		t.Errorf("the server heard %q", w.Error)
	}
	if _, err := n.VM.Console.Wait(ctx, regexp.MustCompile("rebooting in 10s")); err != nil {
		t.Fatal(err)
	}
	// A second run of the node engine is one after a restart.
	if _, err := c.WaitNode(ctx, n, func(again web.Node) bool { return again.Run != w.Run && again.Phase == event.PhaseFailed }); err != nil {
		t.Fatal(err)
	}
}
