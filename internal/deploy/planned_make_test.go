package deploy

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/disk"
	"swarmboot/internal/layout"
	"swarmboot/internal/looptest"
	"swarmboot/internal/tooltest"
)

var judge = tooltest.Run

// cut copies what lies at off of a disk into a file of its own.
func cut(t *testing.T, path string, off, n int64) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "part")
	judge(t, "dd", "if="+path, "of="+out, "bs=1M", fmt.Sprintf("skip=%d", off/mib), fmt.Sprintf("count=%d", n/mib), "conv=sparse", "status=none")
	return out
}

// onLargeSectors is a disk with sectors of 4096 bytes that gets the FAT of an image made from one with 512, and a new file system of each kind.
func onLargeSectors(t *testing.T, mkfs ...string) (*planned, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	const esp = 100 * mib
	judge(t, "truncate", "-s", "1200M", path)
	from := filepath.Join(t.TempDir(), "from")
	judge(t, "truncate", "-s", fmt.Sprint(esp), from)
	judge(t, mkfs[0], append(mkfs[1:], from)...)
	if mkfs[0] == "mkfs.fat" {
		judge(t, "mcopy", "-i", from, "/bin/sh", "::a long name.efi")
	}
	judge(t, "dd", "if="+from, "of="+path, "bs=1M", "seek=2", "conv=notrunc,sparse", "status=none")

	part := func(n int, start, length int64) imagefmt.Partition {
		return imagefmt.Partition{Number: n, Start: start * mib, Length: length * mib, Type: linuxType, UUID: fmt.Sprintf("AAAAAAAA-0000-4000-8000-%012d", n)}
	}
	content := func(n int, fs, id string) layout.Content {
		return layout.Content{On: layout.Ref{Disk: 0, Array: -1, Partition: n}, FS: fs, Label: "NEW", UUID: id}
	}
	plan := &layout.Plan{
		Disks: []layout.DiskPlan{{
			Disk: disk.Disk{Path: path, Size: 1200 * mib, LogicalSector: 4096}, Wipe: disk.WipeNone,
			Table: imagefmt.Table{Kind: imagefmt.TableGPT, GUID: "AAAAAAAA-0000-4000-8000-0000000000FF", Partitions: []imagefmt.Partition{
				part(1, 2, 100), part(2, 102, 400), part(3, 502, 300), part(4, 802, 100), part(5, 902, 100),
			}},
		}},
		Contents: []layout.Content{
			{On: layout.Ref{Disk: 0, Array: -1, Partition: 1}, Source: imagefmt.Extent{Off: mib, Len: esp}, Image: 1},
			content(2, "xfs", strings.ToLower(otherUUID)), content(3, "ext4", rootFS), content(4, "vfat", "12AB-34CD"), content(5, "swap", rootFS),
		},
	}
	w, err := newPlanned(&imagefmt.Manifest{DiskSize: 1200 * mib, SectorSize: 512}, plan, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.close() }) //nolint:errcheck // a test's own
	if err := w.checkTables(w.disks[0]); err != nil {
		t.Fatal(err)
	}
	for _, c := range plan.Contents[1:] {
		if err := w.checkContent(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.lay(); err != nil {
		t.Fatal(err)
	}
	return w, path
}

// Foreign tools agree with the table, with every new file system, and with the FAT that was built anew.
func TestMakeFSOnLargeSectors(t *testing.T) {
	w, path := onLargeSectors(t, "mkfs.fat", "-n", "OLD ESP")
	if !w.makesFS() {
		t.Fatal("there is nothing to do")
	}
	if err := w.makeFS(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.finishTable(); err != nil {
		t.Fatal(err)
	}
	esp := cut(t, path, 2*mib, 100*mib)
	if out := judge(t, "fsck.fat", "-n", "-v", esp); !strings.Contains(out, "4096 bytes per logical sector") {
		t.Error(out)
	}
	sh, err := os.ReadFile("/bin/sh")
	if err != nil || judge(t, "mtype", "-i", esp, "::a long name.efi") != string(sh) {
		t.Errorf("the file of the ESP has changed (%v)", err)
	}
	for _, p := range []struct {
		off, n          int64
		kind, label, id string
		judge, more     string
	}{
		{2, 100, "vfat", "OLD ESP", "", "fsck.fat", "-n"},
		{102, 400, "xfs", "NEW", strings.ToLower(otherUUID), "xfs_repair", "-n"},
		{502, 300, "ext4", "NEW", rootFS, "e2fsck", "-fn"},
		{802, 100, "vfat", "NEW", "12AB-34CD", "fsck.fat", "-n"},
		{902, 100, "swap", "NEW", rootFS, "true", ""},
	} {
		part := cut(t, path, p.off*mib, p.n*mib)
		judge(t, p.judge, p.more, part)
		out := judge(t, "blkid", "-p", part)
		for _, want := range []string{`TYPE="` + p.kind + `"`, `LABEL="` + p.label + `"`, p.id} {
			if !strings.Contains(out, want) {
				t.Errorf("blkid says %s, want %s", out, want)
			}
		}
	}
	dev := looptest.Attach(t, path, "-b", "4096")
	if out := judge(t, "sgdisk", "-v", dev); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
}

// What cannot be used with these sectors ends the deployment before there is a table that boots.
func TestFitRefuses(t *testing.T) {
	w, _ := onLargeSectors(t, "mkfs.ext4", "-q", "-b", "1024")
	err := w.makeFS(t.Context())
	if err == nil || !strings.Contains(err.Error(), "blocks of 1024 bytes and cannot be mounted on a disk with sectors of 4096") {
		t.Errorf("got %v", err)
	}
}

// What cannot be made is refused before anything is written.
func TestCheckNew(t *testing.T) {
	w, _ := onLargeSectors(t, "mkfs.ext4", "-q")
	for _, tt := range []struct {
		change func(*layout.Content)
		want   string
	}{
		{func(c *layout.Content) { c.FS = "ntfs" }, "want ext4, swap, vfat or xfs"},
		{func(c *layout.Content) { c.UUID = "nope" }, "want 32 hex digits"},
		{func(c *layout.Content) { c.On.Partition = 5 }, "too few for an XFS"},
		{func(c *layout.Content) { c.Label = "thirteen byte" }, "want 12 bytes"},
		{func(c *layout.Content) { c.On.Partition = 9 }, "no partition 9"},
	} {
		c := w.plan.Contents[1]
		tt.change(&c)
		if err := w.checkContent(c); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", c, err, tt.want)
		}
	}
}
