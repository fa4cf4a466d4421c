// Package scratch has a node make file systems of all sizes, on disks of both sector sizes, in a virtual machine; its kernel mounts them and
// the host's tools judge what is left.
package scratch

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/u-root/mkuimage/cpio"

	"swarmboot/qemu-tests/lab"
	"swarmboot/qemu-tests/scenario"
)

const (
	gib = int64(1) << 30
	tib = int64(1) << 40
)

var disks = []struct {
	name   string
	size   int64
	sector int
}{
	{"ext4-1g", gib, 512},
	{"ext4-3t", 3 * tib, 4096},
	{"ext4-100t", 100 * tib, 512},
	{"xfs-1g", gib, 4096},
	{"xfs-3t", 3 * tib, 512},
	{"xfs-100t", 100 * tib, 4096},
	{"swap-10g", 10 * gib, 4096},
	{"vfat-512m", gib / 2, 4096},
	{"vfat-512b", gib / 2, 512},
	{"esp", gib / 4, 4096}, // made by mkfs.fat for sectors of 512
}

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "timeout", append([]string{"60", name}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestScratchOnANode(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a virtual machine")
	}
	files, err := scenario.Find()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/dev/shm", "scratch") // ext4 has no files of 100 TiB
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // a test's own
	var attached []lab.Disk
	for _, d := range disks {
		path := filepath.Join(dir, d.name)
		tool(t, "truncate", "-s", fmt.Sprint(d.size), path)
		if d.name == "esp" {
			tool(t, "mkfs.fat", "-F", "32", "-n", "OLD ESP", "-i", "1234ABCD", path)
			tool(t, "mmd", "-i", path, "::EFI")
			tool(t, "mcopy", "-i", path, "/bin/sh", "::EFI/a file from before.efi")
		}
		attached = append(attached, lab.Disk{Path: path, Format: "raw", Bus: "virtio", Serial: d.name, Sector: d.sector})
	}
	said := runNode(t, files, t.TempDir(), attached)
	for _, d := range disks {
		t.Run(d.name, func(t *testing.T) {
			kind, _, _ := strings.Cut(d.name, "-")
			if d.name == "esp" {
				kind = "vfat"
			}
			if want := fmt.Sprintf("ok %s sectors of %d,", kind, d.sector); !strings.HasPrefix(said[d.name], want) {
				t.Fatalf("the node said %q, want %q", said[d.name], want)
			}
			judge(t, kind, filepath.Join(dir, d.name), d.sector)
		})
	}
}

// judge has the file system's own tool look at what the node's kernel has left.
func judge(t *testing.T, kind, path string, sector int) {
	t.Helper()
	switch kind {
	case "ext4":
		tool(t, "e2fsck", "-fn", path)
	case "xfs":
		tool(t, "xfs_repair", "-n", path)
	case "vfat":
		if out := tool(t, "fsck.fat", "-n", "-v", path); !strings.Contains(out, fmt.Sprintf("%d bytes per logical sector", sector)) {
			t.Error(out)
		}
	}
	want := "SCRATCH"
	if filepath.Base(path) == "esp" {
		want = "OLD ESP"
		sum := func(s string) string { return strings.Fields(s)[0] }
		old, now := tool(t, "sha256sum", "/bin/sh"), tool(t, "sh", "-c", `mtype -i "$0" "::EFI/a file from before.efi" | sha256sum`, path)
		if sum(old) != sum(now) {
			t.Error("the file from before has changed")
		}
	}
	if got := strings.TrimSpace(tool(t, "blkid", "-p", "-o", "value", "-s", "LABEL", path)); got != want {
		t.Errorf("the label is %q, want %q", got, want)
	}
}

var line = regexp.MustCompile(`^SCRATCH (\S+) (.*)$`)

// runNode boots a node with the disks, runs mkscratch on it, and returns what that said of each disk.
func runNode(t *testing.T, files *scenario.Files, dir string, attached []lab.Disk) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	n, err := lab.NewNetwork(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}()
	vm, err := n.Start(ctx, lab.Machine{
		Name: "scratch", MAC: "52:54:00:99:02:01", Memory: 512, NIC: "virtio-net-pci", Disks: attached,
		Kernel: files.Kernel, Initrd: initramfs(t, files, dir), Append: "console=ttyS0 swarmboot.action=shell",
	}, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Stop()
	if _, err := vm.Console.Wait(ctx, regexp.MustCompile("rescue shell;")); err != nil {
		t.Fatal(err)
	}
	if err := vm.Send("/bbin/mkscratch\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := vm.Console.Wait(ctx, regexp.MustCompile("^SCRATCH-END")); err != nil {
		log, _ := os.ReadFile(vm.Log)
		t.Fatalf("%v\n%s", err, log[max(0, len(log)-4000):])
	}
	said := map[string]string{}
	for _, l := range vm.Console.Lines() {
		if m := line.FindStringSubmatch(l.Text); m != nil {
			said[m[1]] = m[2]
			t.Log(l.Text)
		}
	}
	select {
	case <-vm.Done():
	case <-ctx.Done():
		t.Error("the machine did not power off")
	}
	return said
}

// initramfs is that of the nodes with mkscratch behind it: the kernel unpacks one archive after the other.
func initramfs(t *testing.T, files *scenario.Files, dir string) string {
	t.Helper()
	program := filepath.Join(dir, "mkscratch")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./mkscratch")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := os.ReadFile(files.Initramfs)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "initramfs")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(append(archive, make([]byte, (4-len(archive)%4)%4)...)); err != nil {
		t.Fatal(err)
	}
	w := cpio.Newc.Writer(f)
	if err := w.WriteRecord(cpio.StaticFile("bbin/mkscratch", string(b), 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := cpio.WriteTrailer(w); err != nil {
		t.Fatal(err)
	}
	return path
}
