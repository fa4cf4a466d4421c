package md

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// kernel is a tree of sysfs, procfs and /dev. What real arrays do is tested in qemu-tests/raid.
type kernel struct {
	t *testing.T
	host
	asked []string // modules
}

func newKernel(t *testing.T) *kernel {
	k := &kernel{t: t, host: host{root: t.TempDir()}}
	k.modprobe = func(_ context.Context, name string) error {
		k.asked = append(k.asked, name)
		return errors.New("no such module")
	}
	return k
}

func (k *kernel) put(path, text string) {
	k.t.Helper()
	p := k.path(path)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		k.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text+"\n"), 0o644); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kernel) array(name, level string, members ...string) {
	dir := "sys/block/" + name
	for attr, value := range map[string]string{
		"size": "4096", "dev": "9:127", "md/level": level, "md/array_state": "active", "md/metadata_version": "1.2", "md/degraded": "1",
		"md/uuid": "01020304-0506-0708-090a-0b0c0d0e0f10", "md/sync_action": "resync", "md/sync_completed": "1024 / 4096", "md/sync_speed": "2000",
	} {
		k.put(filepath.Join(dir, attr), value)
	}
	for i, m := range members {
		d := k.path(dir, fmt.Sprintf("md/dev-%d", i))
		if err := os.MkdirAll(d, 0o755); err != nil {
			k.t.Fatal(err)
		}
		if err := os.Symlink("../../../../devices/x/block/"+m, filepath.Join(d, "block")); err != nil {
			k.t.Fatal(err)
		}
	}
	k.put("dev/"+name, "")
}

func TestActive(t *testing.T) {
	k := newKernel(t)
	k.array("md127", "raid1", "vda1", "cciss!c0d0")
	k.array("md3", "raid0") // a device node without members
	want := Running{
		Device: "/dev/md127", UUID: UUID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, Level: "raid1", State: "active", Metadata: "1.2",
		Size: 4096 * 512, Members: []string{"/dev/vda1", "/dev/cciss/c0d0"}, Degraded: 1,
	}
	got, err := k.active()
	if err != nil || !reflect.DeepEqual(got, []Running{want}) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	p, err := k.resync("md127")
	if err != nil || p.String() != "resync 25.0 %, 2 MB/s, 1 members missing" || p.Done != 512<<10 {
		t.Errorf("%+v, %v", p, err)
	}
	k.put("sys/block/md127/md/sync_completed", "delayed")
	if p, err := k.resync("md127"); err != nil || p.Total != 0 || p.String() != "resync, 1 members missing" {
		t.Errorf("%+v, %v", p, err)
	}
	for _, bad := range []string{"md9", "../block/md127", "/dev/null", "/nonesuch", ""} {
		if _, err := k.resync(bad); err == nil {
			t.Errorf("%q is an array", bad)
		}
	}
}

func TestHolding(t *testing.T) {
	k := newKernel(t)
	k.array("md127", "raid1", "vda1", "vdb1")
	k.array("md126", "raid0", "vda2", "vdb")
	k.put("sys/dev/block/253:0/vda1/partition", "1")
	k.put("sys/dev/block/253:0/vda1/holders/md127", "")
	k.put("sys/dev/block/253:0/vda2/partition", "2")
	k.put("sys/dev/block/253:0/vda2/holders/md126", "")
	k.put("sys/dev/block/253:0/vda2/holders/dm-0", "") // not an array
	k.put("sys/dev/block/253:1/holders/md126", "")
	k.put("sys/dev/block/253:2/size", "9")
	node := func(name string, minor uint32) string {
		p := k.path(name)
		if err := unix.Mknod(p, unix.S_IFBLK|0o600, int(unix.Mkdev(253, minor))); err != nil {
			t.Skipf("needs root: %v", err)
		}
		return p
	}
	a, b, c := node("a", 0), node("b", 1), node("c", 2)
	for _, tt := range []struct {
		devices []string
		want    string
	}{{[]string{a}, "/dev/md127 /dev/md126"}, {[]string{b}, "/dev/md126"}, {[]string{b, a}, "/dev/md126 /dev/md127"}, {[]string{c}, ""}} {
		got, err := k.holding(tt.devices)
		var names []string
		for _, r := range got {
			names = append(names, r.Device)
		}
		if err != nil || strings.Join(names, " ") != tt.want {
			t.Errorf("%v: %v, %v; want %s", tt.devices, names, err, tt.want)
		}
	}
	for _, bad := range []string{k.path("nonesuch"), k.root} {
		if _, err := k.holding([]string{bad}); err == nil {
			t.Errorf("%s is a device", bad)
		}
	}
}

func TestUsedBy(t *testing.T) {
	k := newKernel(t)
	k.array("md127", "raid1", "vda1")
	k.put("sys/block/md127/md127p2/dev", "259:7")
	if by := k.usedBy("md127"); by != "" {
		t.Errorf("unused: %q", by)
	}
	k.put("proc/swaps", "Filename Type\n/dev/md127p2 partition 1 0 -2")
	if by := k.usedBy("md127"); by != "swap is on it" {
		t.Errorf("swap: %q", by)
	}
	k.put("proc/self/mountinfo", "36 35 259:7 / /mnt rw - ext4 /dev/md127p2 rw")
	if by := k.usedBy("md127"); by != "mounted on /mnt" {
		t.Errorf("mounted: %q", by)
	}
	k.put("sys/block/md127/md127p2/partition", "2")
	k.put("sys/block/md127/md127p2/holders/dm-3", "")
	if by := k.usedBy("md127"); by != "part of dm-3" {
		t.Errorf("held: %q", by)
	}
}

func TestLimitResync(t *testing.T) {
	k := newKernel(t)
	k.array("md127", "raid1")
	if err := k.limitResync("md127", 16<<20); err != nil { // as on an array of level 0: there is no such attribute
		t.Error(err)
	}
	k.put("sys/block/md127/md/sync_speed_max", "200000 (system)")
	for limit, want := range map[int64]string{16 << 20: "16384", 1: "1", 0: "system"} {
		if err := k.limitResync("md127", limit); err != nil {
			t.Error(err)
		}
		if got := attr(k.path("sys/block/md127/md/sync_speed_max")); got != want {
			t.Errorf("%d: %q, want %q", limit, got, want)
		}
	}
	if err := k.limitResync("md7", 0); err == nil {
		t.Error("an array that is not there")
	}
}

func TestNumberAndLink(t *testing.T) {
	k := newKernel(t)
	k.array("md127", "raid1")
	k.put("sys/module/md_mod/parameters/new_array", "")
	if name, err := k.newArray(); err != nil || name != "md126" {
		t.Errorf("%s, %v", name, err)
	}
	if got := attr(k.path("sys/module/md_mod/parameters/new_array")); got != "md126" {
		t.Errorf("the kernel was asked for %q", got)
	}
	for _, array := range []string{"md126", "md127", "md127"} { // the second takes it over, the third finds it
		link, err := k.link(array, "root")
		target, _ := os.Readlink(k.path("dev/md/root"))
		if err != nil || link != "/dev/md/root" || target != "../"+array {
			t.Errorf("%s: %s → %s, %v", array, link, target, err)
		}
	}
	if err := k.stop(t.Context(), k.path("dev/md/root")); err != nil {
		t.Error(err)
	}
	if got := attr(k.path("sys/block/md127/md/array_state")); got != "clear" {
		t.Errorf("state %q", got)
	}
	if _, err := os.Lstat(k.path("dev/md/root")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the link is still there: %v", err)
	}
}

func TestLoad(t *testing.T) {
	k := newKernel(t)
	err := k.load(t.Context(), 5)
	if err == nil || !strings.Contains(err.Error(), "raid456") || strings.Join(k.asked, " ") != "md_mod raid456" {
		t.Errorf("asked for %v, %v", k.asked, err)
	}
	k.put("proc/mdstat", "Personalities : [raid6] [raid5] [raid4] \nunused devices: <none>")
	k.asked = nil
	if err := k.load(t.Context(), 4, 5, 6); err != nil || k.asked != nil {
		t.Errorf("%v, asked for %v", err, k.asked)
	}
	if err := k.load(t.Context(), 1); err == nil {
		t.Error("level 1 is known")
	}
	if err := k.load(t.Context(), 3); err == nil || !strings.Contains(err.Error(), "level 3") {
		t.Errorf("level 3: %v", err)
	}
}
