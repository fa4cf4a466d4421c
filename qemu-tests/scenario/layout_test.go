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
	"time"

	"swarmboot/qemu-tests/lab"
)

// layoutCluster is a server of the Debian image with layouts, without machines. Its directory is its own: the server keeps there
// which machines it has deployed, and tests run side by side.
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
	for _, suffix := range []string{".json", ".torrent", ".payload"} {
		file, err := filepath.Abs(filepath.Join(images, ImageName+suffix))
		if err == nil {
			err = os.Symlink(file, filepath.Join(own, ImageName+suffix))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return start(ctx, t, logDir(t), own)
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

// startNode starts the node's kernel directly, with parameters.
func startNode(ctx context.Context, t *testing.T, c *Cluster, name, params string, disks ...lab.Disk) *lab.VM {
	t.Helper()
	vm, err := c.net.Start(ctx, lab.Machine{
		Name: name, MAC: "52:54:00:5b:00:77", Memory: 512, NIC: "virtio-net-pci", Disks: disks, Kernel: c.Kernel, Initrd: c.Initramfs,
		Append: "console=ttyS0 swarmboot.server=" + c.URL + " swarmboot.image=" + ImageName + " swarmboot.append=console=ttyS0 " + params,
	}, c.Dir)
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
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
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
	if !bytes.Equal(readAt(t, disk.Path, at, length), data) {
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

// raidLayout takes all virtio disks: the ESP on each, the root on an array.
func raidLayout(disks, level int) string {
	return fmt.Sprintf(`
candidates:
  - name: array
    disks:
      - name: disks
        select: transport=virtio
        count: "%d"
        partitions:
          - {name: esp, image: "1"}
          - {name: md, size: rest, type: raid}
    raid:
      - {name: root, of: disks/md, level: %d, image: "2", grow: true}
`, disks, level)
}

// The root goes to an array; mdadm judges the members and, for a mirror, e2fsck the file system on the first.
func testArray(t *testing.T, disks, level int) {
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	c := layoutCluster(ctx, t, map[string]string{"array": raidLayout(disks, level)})
	var all []lab.Disk
	for i := range disks {
		all = append(all, sparseDisk(t, c, fmt.Sprintf("disk%d", i), 4<<30))
	}
	vm := startNode(ctx, t, c, "array", "swarmboot.layout=array swarmboot.verify=readback swarmboot.then=poweroff", all...)
	select {
	case <-vm.Done():
	case <-ctx.Done():
	}
	log, _ := os.ReadFile(vm.Log)
	if !bytes.Contains(log, []byte("deployed; then: poweroff")) {
		t.Fatalf("not deployed:\n%s", log[max(0, len(log)-3000):])
	}
	uuid := ""
	for i, d := range all {
		if out := foreign(ctx, t, "sgdisk", "--verify", d.Path); !strings.Contains(out, "No problems found") {
			t.Error(out)
		}
		p := partitionsOf(ctx, t, d.Path)["md"]
		member := filepath.Join(c.Dir, fmt.Sprintf("member%d.raw", i))
		foreign(ctx, t, "dd", "if="+d.Path, "of="+member, "bs=512", fmt.Sprintf("skip=%d", p.Start), fmt.Sprintf("count=%d", p.Size), "conv=sparse", "status=none")
		out := foreign(ctx, t, "mdadm", "--examine", "--verbose", member)
		for _, want := range []string{fmt.Sprintf("raid%d", level), fmt.Sprintf("Raid Devices : %d", disks), "Checksum"} {
			if !strings.Contains(out, want) {
				t.Errorf("mdadm --examine of %s does not say %q:\n%s", d.Path, want, out)
			}
		}
		m := regexp.MustCompile(`Array UUID : (\S+)`).FindStringSubmatch(out)
		if m == nil || uuid != "" && m[1] != uuid {
			t.Errorf("members of one array have different UUIDs:\n%s", out)
		} else {
			uuid = m[1]
		}
		if level != 1 || i > 0 {
			continue
		}
		offset := number(ctx, t, `Data Offset : (\d+) sectors`, "mdadm", "--examine", member)
		root := filepath.Join(c.Dir, "root.raw")
		foreign(ctx, t, "dd", "if="+member, "of="+root, "bs=512", fmt.Sprintf("skip=%d", offset), "conv=sparse", "status=none")
		foreign(ctx, t, "e2fsck", "-fn", root)
		if fstab := foreign(ctx, t, "debugfs", "-R", "cat /etc/fstab", root); !strings.Contains(fstab, "UUID=") || strings.Contains(fstab, "\nPARTUUID="+files.RootPARTUUID+" / ") || strings.HasPrefix(fstab, "PARTUUID="+files.RootPARTUUID) {
			t.Errorf("fstab still names the partition of the image:\n%s", fstab)
		}
	}
}

func TestLayoutRAID1(t *testing.T) {
	t.Parallel()
	testArray(t, 2, 1)
}

func TestLayoutRAID10(t *testing.T) {
	t.Parallel()
	testArray(t, 4, 10)
}
