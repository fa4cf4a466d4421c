package cuts

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
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
	"swarmboot/internal/tooltest"
	"swarmboot/qemu-tests/scenario"
)

// The disk of the image: an EFI system partition and a root.
const (
	espStart, espSize   = 1 * mib, 34 * mib
	rootStart, rootSize = 35 * mib, 60 * mib
	imageSize           = 96 * mib

	bigSize = 10 * mib // of a file in the root that does not get smaller when it is packed

	espUUID  = "5C000001-0000-4000-8000-000000000001"
	rootUUID = "5C000001-0000-4000-8000-000000000002"
	rootFS   = "5c000001-0000-4000-8000-000000000003"

	hostname = "cut-off"
)

// image is what is deployed.
type image struct {
	big, loader string // SHA-256 of a file in the root and of one in the ESP
	fstab       string
}

var tool = tooltest.Run

// makeImage makes a disk with the host's tools, and an image of it.
func makeImage(t *testing.T, f *scenario.Files, dir string) *image {
	t.Helper()
	work := t.TempDir()
	im := &image{fstab: fmt.Sprintf("UUID=%s / ext4 defaults 0 1\nPARTUUID=%s /boot/efi vfat defaults 0 2\n", rootFS, strings.ToLower(espUUID))}
	random := rand.NewChaCha8([32]byte{42})
	big, loader := make([]byte, bigSize), make([]byte, mib)
	for _, b := range [][]byte{big, loader} {
		random.Read(b) //nolint:errcheck // never fails
	}
	im.big, im.loader = sum(big), sum(loader)
	tree := filepath.Join(work, "tree")
	for name, text := range map[string]string{"tree/etc/hostname": "image\n", "tree/etc/machine-id": "00112233445566778899aabbccddeeff\n", "tree/etc/fstab": im.fstab,
		"tree/usr/bin/sh": "", "tree/big": string(big), "loader": string(loader)} {
		path := filepath.Join(work, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	disk, esp, root := filepath.Join(work, "disk"), filepath.Join(work, "esp"), filepath.Join(work, "root")
	for path, size := range map[string]int64{disk: imageSize, esp: espSize, root: rootSize} {
		tool(t, "truncate", "-s", fmt.Sprint(size), path)
	}
	tool(t, "mkfs.fat", "-F", "32", "-s", "1", "-n", "ESP", esp)
	tool(t, "mmd", "-i", esp, "::EFI", "::EFI/BOOT")
	tool(t, "mcopy", "-i", esp, filepath.Join(work, "loader"), "::EFI/BOOT/BOOTX64.EFI")
	tool(t, "mkfs.ext4", "-q", "-O", "^metadata_csum_seed", "-U", rootFS, "-L", "root", "-d", tree, "-E", "root_owner=0:0", root)
	tool(t, "sgdisk", "--clear",
		fmt.Sprintf("--new=1:%dM:+%dM", espStart/mib, espSize/mib), "--typecode=1:ef00", "--change-name=1:esp", "--partition-guid=1:"+espUUID,
		fmt.Sprintf("--new=2:%dM:+%dM", rootStart/mib, rootSize/mib), "--typecode=2:8304", "--change-name=2:root", "--partition-guid=2:"+rootUUID, disk)
	tool(t, "dd", "if="+esp, "of="+disk, "bs=1M", fmt.Sprintf("seek=%d", espStart/mib), "conv=notrunc,sparse", "status=none")
	tool(t, "dd", "if="+root, "of="+disk, "bs=1M", fmt.Sprintf("seek=%d", rootStart/mib), "conv=notrunc,sparse", "status=none")
	filetest.Write(t, disk, 0, bytes.Repeat([]byte{0xeb}, 440)) // boot code
	tool(t, f.Program("swarmboot"), "image", "create", "--root", "2", "--cmdline", "root=UUID="+rootFS, disk, filepath.Join(dir, scenario.ImageName))
	return im
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// target is a disk of the machine.
type target struct {
	path, serial string
	size         int64
	data         []byte    // that are kept; nil: nothing is
	before       partition // their partition
}

// Where the data of an old disk lie, and how much there is.
const dataStart, dataSize = 48 * mib, 4 * mib

// newTarget makes a disk as somebody has left it: random bytes, an old system with boot code, and a partition with data, which are
// kept if keep is true.
func newTarget(t *testing.T, serial string, size int64, keep bool) *target {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "cuts") // a flush costs nothing there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // a test's own
	d := &target{path: filepath.Join(dir, serial), serial: serial, size: size}
	tool(t, "truncate", "-s", fmt.Sprint(size), d.path)
	junk := make([]byte, dataStart+dataSize-mib)
	rand.NewChaCha8([32]byte{byte(len(serial)), serial[len(serial)-1]}).Read(junk) //nolint:errcheck // never fails
	filetest.Write(t, d.path, mib, junk)
	tool(t, "sgdisk", "--clear", "--new=1:1M:+30M", "--change-name=1:old", fmt.Sprintf("--new=3:%dM:+%dM", dataStart/mib, dataSize/mib), "--change-name=3:data", d.path)
	filetest.Write(t, d.path, 0, bytes.Repeat([]byte{0xfa}, 440))
	if keep {
		d.data = filetest.Read(t, d.path, dataStart, dataSize)
		parts, _ := partitionsOf(t, d.path)
		d.before = parts["data"]
	}
	return d
}

type partition struct {
	Node, Type, UUID, Name string
	Start, Size            int64
}

// partitionsOf is what sfdisk sees, by name, and what it complains of. A disk without a table has no partitions.
func partitionsOf(t *testing.T, disk string) (all map[string]partition, complaints string) {
	t.Helper()
	var errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "sfdisk", "--json", disk)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil && !strings.Contains(errs.String(), "does not contain a recognized partition table") {
		t.Fatalf("sfdisk: %v\n%s", err, &errs)
	}
	var v struct {
		PartitionTable struct{ Partitions []partition }
	}
	if err == nil {
		if err := json.Unmarshal(out, &v); err != nil {
			t.Fatal(err)
		}
	}
	all = map[string]partition{}
	for _, p := range v.PartitionTable.Partitions {
		all[p.Name] = p
	}
	return all, errs.String()
}

// checkKept compares what is kept on a disk with what was there. The primary table must be whole all the time.
func (d *target) checkKept(t *testing.T, when string) {
	t.Helper()
	if d.data == nil {
		return
	}
	parts, complaints := partitionsOf(t, d.path)
	if parts["data"] != d.before || strings.Contains(complaints, "primary GPT table is corrupt") {
		t.Errorf("%s: %s: the kept partition was %+v, the table is %+v %s", when, d.serial, d.before, parts, complaints)
	}
	if !bytes.Equal(filetest.Read(t, d.path, dataStart, dataSize), d.data) {
		t.Errorf("%s: %s: the kept bytes have changed", when, d.serial)
	}
}

// checkBootCode looks that there is none of the image's before its partitions are listed.
func (d *target) checkBootCode(t *testing.T, when string) {
	t.Helper()
	parts, _ := partitionsOf(t, d.path)
	_, root := parts["root"]
	_, md := parts["md"]
	if filetest.Read(t, d.path, 0, 1)[0] == 0xeb && !root && !md {
		t.Errorf("%s: %s: the image's boot code is there, its root is not", when, d.serial)
	}
}

// found says whether a partition is listed and has a signature: whatever looks at the disk takes it for what it is meant to be. After a run
// that has ended well it must.
func (d *target) found(t *testing.T, when, name, kind string, whole bool) (partition, bool) {
	t.Helper()
	parts, _ := partitionsOf(t, d.path)
	p, ok := parts[name]
	if ok {
		out := tool(t, "sh", "-c", `blkid -p -O "$1" -S "$2" -o value -s TYPE "$0" || test $? = 2`, d.path, fmt.Sprint(p.Start*512), fmt.Sprint(p.Size*512))
		ok = out == kind
	}
	if whole && !ok {
		t.Errorf("%s: %s: no %s of kind %s; the table is %+v", when, d.serial, name, kind, parts)
	}
	return p, ok
}

// extract copies a run of a disk into a file of its own.
func extract(t *testing.T, disk string, off, n int64) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "part")
	tool(t, "dd", "if="+disk, "of="+out, "bs=512", fmt.Sprintf("skip=%d", off/512), fmt.Sprintf("count=%d", n/512), "conv=sparse", "status=none")
	tool(t, "truncate", "-s", fmt.Sprint(n), out)
	return out
}

// judgeESP has fsck.fat look at the EFI system partition, and mtools at the loader.
func (im *image) judgeESP(t *testing.T, when, disk string, p partition) {
	t.Helper()
	esp := extract(t, disk, p.Start*512, p.Size*512)
	defer os.Remove(esp)
	tool(t, "fsck.fat", "-n", esp)
	if got := strings.Fields(tool(t, "sh", "-c", `mtype -i "$0" ::EFI/BOOT/BOOTX64.EFI | sha256sum`, esp))[0]; got != im.loader {
		t.Errorf("%s: the loader has SHA-256 %s, not %s", when, got, im.loader)
	}
}

// judgeRoot has e2fsck look at the root, in a file, and debugfs at what is in it, and returns its fstab.
func (im *image) judgeRoot(t *testing.T, when, root string) string {
	t.Helper()
	tool(t, "e2fsck", "-fn", root)
	file := func(name string) []byte {
		out := filepath.Join(t.TempDir(), "out")
		tool(t, "debugfs", "-R", "dump "+name+" "+out, root)
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if got := sum(file("/big")); got != im.big {
		t.Errorf("%s: the large file has SHA-256 %s, not %s", when, got, im.big)
	}
	if got := string(file("/etc/hostname")); got != hostname+"\n" {
		t.Errorf("%s: the host name is %q", when, got)
	}
	if got := string(file("/etc/machine-id")); got != "" {
		t.Errorf("%s: the machine ID is %q", when, got)
	}
	if got := file("/etc/ssh/ssh_host_ed25519_key"); !bytes.HasPrefix(got, []byte("-----BEGIN OPENSSH PRIVATE KEY-----")) {
		t.Errorf("%s: the host key is %q", when, got)
	}
	return string(file("/etc/fstab"))
}

// number is what a tool says behind a pattern.
func number(t *testing.T, pattern, name string, args ...string) int64 {
	t.Helper()
	out := tool(t, name, args...)
	m := regexp.MustCompile(pattern).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("%s does not say %s:\n%s", name, pattern, out)
	}
	var n int64
	fmt.Sscan(m[1], &n) //nolint:errcheck // digits
	return n
}
