package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"swarmboot/internal/filetest"
	"swarmboot/qemu-tests/lab"
)

// layoutCluster is a server of the Debian image with layouts, without machines.
func layoutCluster(ctx context.Context, t *testing.T, layouts map[string]string) *Cluster {
	t.Helper()
	own := t.TempDir()
	dir := filepath.Join(own, "layouts")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range layouts {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return files.StartFor(ctx, t, logDir(t), shared(t, own))
}

// sparseDisk makes a disk of a machine.
func sparseDisk(t *testing.T, c *Cluster, name string, size int64) lab.Disk {
	t.Helper()
	path := filepath.Join(c.Dir, name+".raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return lab.Disk{Path: path, Format: "raw", Bus: "virtio", Serial: "SB-" + strings.ToUpper(name)}
}

// layoutMAC is the address of the machine in a layoutCluster.
const layoutMAC = "52:54:00:5b:00:77"

// startNode starts the node's kernel directly, with parameters.
func startNode(ctx context.Context, t *testing.T, c *Cluster, name, params string, disks ...lab.Disk) *lab.VM {
	t.Helper()
	return startMachine(ctx, t, c, lab.Machine{Name: name, Disks: disks}, params)
}

// startMachine starts the node's kernel directly on a machine with this chipset, firmware and disks.
func startMachine(ctx context.Context, t *testing.T, c *Cluster, m lab.Machine, params string) *lab.VM {
	t.Helper()
	m.MAC, m.Memory, m.NIC, m.Kernel, m.Initrd = layoutMAC, 512, "virtio-net-pci", c.Kernel, c.Initramfs
	m.Append = "console=ttyS0 swarmboot.server=" + c.URL + " swarmboot.image=" + ImageName + " swarmboot.append=console=ttyS0 " + params
	vm, err := c.net.Start(ctx, m, c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vm.Stop)
	return vm
}

// waitSystem waits for the deployed system's report.
func waitSystem(ctx context.Context, t *testing.T, vm *lab.VM) Report {
	t.Helper()
	r, err := (&Node{Spec: Spec{Name: vm.Name}, VM: vm}).WaitReport(ctx)
	if err != nil {
		log, _ := os.ReadFile(vm.Log)
		t.Fatalf("%v\n%s", err, log[max(0, len(log)-3000):])
	}
	return r
}

type partition struct {
	Node, Type, UUID, Name string
	Start, Size            int64
}

// partitionsOf is what sfdisk sees, by name; the primary GPT must be whole.
func partitionsOf(ctx context.Context, t *testing.T, disk string) map[string]partition {
	t.Helper()
	var errs bytes.Buffer
	cmd := exec.CommandContext(ctx, "sfdisk", "--json", disk)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil || strings.Contains(errs.String(), "primary GPT table is corrupt") {
		t.Fatalf("sfdisk: %v\n%s", err, &errs)
	}
	var v struct {
		PartitionTable struct{ Partitions []partition }
	}
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatal(err)
	}
	all := map[string]partition{}
	for _, p := range v.PartitionTable.Partitions {
		all[p.Name] = p
	}
	return all
}

// withData gives a disk an old partition and one with random data, far behind, and returns the data.
func withData(ctx context.Context, t *testing.T, disk string, start, size int64) []byte {
	t.Helper()
	foreign(ctx, t, "sgdisk", "--clear", "--new=1:1M:+8M", "--change-name=1:old", fmt.Sprintf("--new=3:%dM:+%dM", start>>20, size>>20), "--change-name=3:data", disk)
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{3}).Read(data) //nolint:errcheck // never fails
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(data, start); err != nil {
		t.Fatal(err)
	}
	return data
}

func foreign(ctx context.Context, t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// One machine with a disk of 3 TB, of which a partition beyond 2 TiB is kept: the image's system starts from its place beside it.
func TestLayoutKeeps(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	const size, at, length = 3_000_592_982_016, 2600 << 30, 16 << 20
	c := layoutCluster(ctx, t, map[string]string{"keep": `
candidates:
  - name: one
    disks:
      - name: disk
        select: serial=SB-BIG
        partitions:
          - {name: esp, image: "1"}
          - {name: root, image: "2", size: 4G, grow: true}
          - {name: swap, size: 64M, fs: swap}
          - {name: data, keep: true}
`})
	disk := sparseDisk(t, c, "big", size)
	data := withData(ctx, t, disk.Path, at, length)
	before := partitionsOf(ctx, t, disk.Path)["data"]
	vm := startNode(ctx, t, c, "keep", "swarmboot.layout=keep", disk)
	if err := files.Check(waitSystem(ctx, t, vm)); err != nil {
		t.Error(err)
	}
	vm.Stop()
	if out := foreign(ctx, t, "sgdisk", "--verify", disk.Path); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
	parts := partitionsOf(ctx, t, disk.Path)
	if parts["data"] != before || len(parts) != 4 {
		t.Errorf("the kept partition was %+v; now there are %+v", before, parts)
	}
	if !bytes.Equal(filetest.Read(t, disk.Path, at, length), data) {
		t.Error("the kept bytes have changed")
	}
	where := fmt.Sprintf("%s?offset=%d", disk.Path, parts["root"].Start*512)
	if n := number(ctx, t, `Block count:\s+(\d+)`, "dumpe2fs", "-h", where) * number(ctx, t, `Block size:\s+(\d+)`, "dumpe2fs", "-h", where); n != 4<<30 {
		t.Errorf("the root file system has %d bytes", n)
	}
	fstab := foreign(ctx, t, "debugfs", "-R", "cat /etc/fstab", where)
	if !regexp.MustCompile(`(?m)^UUID=\S+\s+none\s+swap`).MatchString(fstab) {
		t.Errorf("fstab has no swap:\n%s", fstab)
	}
}
