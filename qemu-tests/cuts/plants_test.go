package cuts

import (
	"os"
	"strings"
	"testing"
)

// profile gives every node a name, and an end of its own to what was the image's.
const profile = "hostname: " + hostname + "\nmachineID: reset\nssh: {hostKeys: generate}\n"

// TestOneDisk: a partition of the disk is kept, file systems are made beside the image's.
func TestOneDisk(t *testing.T) {
	t.Parallel()
	p := newPlant(t, "one", "swarmboot.layout=keep", map[string]string{"profiles/default.yaml": profile, "layouts/keep.yaml": `
candidates:
  - name: one
    disks:
      - name: disk
        select: serial=SB-ONE
        wipe: zero
        partitions:
          - {name: esp, image: "1"}
          - {name: data, keep: true}
          - {name: root, image: "2", size: 90M, grow: true}
          - {name: swap, size: 8M, fs: swap, fsLabel: sw}
          - {name: scratch, size: rest, fs: ext4, fsLabel: scratch, mount: /scratch}
`})
	d := newTarget(t, "SB-ONE", 256*mib, true)
	p.disks = []*target{d}
	p.torture(t, append([]string{"fetch"}, p.shuffled("identity", "partition", "mkfs", "fetch", "wipe", "identity", "table", "verify", "fetch", "grow", "sync", "fetch")...),
		func(t *testing.T, when string, whole bool) {
			t.Helper()
			if esp, ok := d.found(t, when, "esp", "vfat", whole); ok {
				p.im.judgeESP(t, when, d.path, esp)
			}
			if root, ok := d.found(t, when, "root", "ext4", whole); ok {
				file := extract(t, d.path, root.Start*512, root.Size*512)
				fstab := p.im.judgeRoot(t, when, file)
				if !strings.Contains(fstab, " /scratch ext4 ") || !strings.Contains(fstab, " swap ") {
					t.Errorf("%s: fstab is\n%s", when, fstab)
				}
				if n := number(t, `Block count:\s+(\d+)`, "dumpe2fs", "-h", file) * number(t, `Block size:\s+(\d+)`, "dumpe2fs", "-h", file); n != 90*mib {
					t.Errorf("%s: the root has %d bytes", when, n)
				}
				_ = os.Remove(file)
			}
			if scratch, ok := d.found(t, when, "scratch", "ext4", whole); ok {
				file := extract(t, d.path, scratch.Start*512, scratch.Size*512)
				tool(t, "e2fsck", "-fn", file)
				_ = os.Remove(file)
			}
			d.found(t, when, "swap", "swap", whole)
		})
	if out := tool(t, "sgdisk", "--verify", d.path); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
}

// TestNewUUIDs: the whole disk is the image's, and everything on it gets UUIDs of its own.
func TestNewUUIDs(t *testing.T) {
	t.Parallel()
	p := newPlant(t, "new", "", map[string]string{"profiles/default.yaml": profile + "newUUIDs: true\n"})
	d := newTarget(t, "SB-NEW", 160*mib, false)
	p.disks = []*target{d}
	p.torture(t, append([]string{"uuids"}, p.shuffled("partition", "fetch", "identity", "uuids", "table", "fetch")...),
		func(t *testing.T, when string, whole bool) {
			t.Helper()
			esp, ok := d.found(t, when, "esp", "vfat", whole)
			if ok {
				p.im.judgeESP(t, when, d.path, esp)
			}
			root, ok := d.found(t, when, "root", "ext4", whole)
			if !ok {
				return
			}
			file := extract(t, d.path, root.Start*512, root.Size*512)
			defer os.Remove(file)
			fstab := p.im.judgeRoot(t, when, file)
			id := tool(t, "blkid", "-p", "-o", "value", "-s", "UUID", file)
			want := strings.NewReplacer(rootFS, id, strings.ToLower(espUUID), strings.ToLower(esp.UUID)).Replace(p.im.fstab)
			if id == rootFS || root.UUID == rootUUID || esp.UUID == espUUID || fstab != want {
				t.Errorf("%s: the root is %s on %s, the other partition %s; fstab is\n%swant\n%s", when, id, root.UUID, esp.UUID, fstab, want)
			}
		})
	if out := tool(t, "sgdisk", "--verify", d.path); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
}

// TestMirror: the root lies on an array of two disks, on each of which a partition is kept.
func TestMirror(t *testing.T) {
	t.Parallel()
	p := newPlant(t, "mirror", "swarmboot.layout=mirror", map[string]string{"profiles/default.yaml": profile, "layouts/mirror.yaml": `
candidates:
  - name: two
    disks:
      - name: disks
        select: transport=virtio
        count: "2"
        recreate: true
        partitions:
          - {name: esp, image: "1"}
          - {name: data, keep: true}
          - {name: md, size: 100M, type: raid}
    raid:
      - {name: root, of: disks/md, level: 1, image: "2", grow: true}
`})
	p.disks = []*target{newTarget(t, "SB-M1", 160*mib, true), newTarget(t, "SB-M2", 160*mib, true)}
	p.torture(t, append([]string{"raid"}, p.shuffled("fetch", "raid", "verify", "identity", "table")...), func(t *testing.T, when string, whole bool) {
		t.Helper()
		for _, d := range p.disks {
			if esp, ok := d.found(t, when, "esp", "vfat", whole); ok {
				p.im.judgeESP(t, when, d.path, esp)
			}
			if md, ok := d.found(t, when, "md", "linux_raid_member", whole); ok {
				member := extract(t, d.path, md.Start*512, md.Size*512)
				p.judgeMember(t, when, member)
				_ = os.Remove(member)
			}
		}
	})
	for _, d := range p.disks {
		if out := tool(t, "sgdisk", "--verify", d.path); !strings.Contains(out, "No problems found") {
			t.Error(out)
		}
	}
}

// judgeMember has mdadm look at a member of the mirror, and everybody else at the root in it.
func (p *plant) judgeMember(t *testing.T, when, member string) {
	t.Helper()
	out := tool(t, "mdadm", "--examine", "--verbose", member)
	if !strings.Contains(out, "Raid Level : raid1") || !strings.Contains(out, "Raid Devices : 2") {
		t.Errorf("%s: mdadm: %s", when, out)
	}
	offset := number(t, `Data Offset : (\d+) sectors`, "mdadm", "--examine", member)
	size := number(t, `Array Size : (\d+) `, "mdadm", "--examine", member)
	root := extract(t, member, offset*512, size*1024)
	p.im.judgeRoot(t, when, root)
	_ = os.Remove(root)
}
