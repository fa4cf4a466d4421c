package disk

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/filetest"
)

// inventory is what ReadInventory says of a file that stands for a disk.
func inventory(t *testing.T, path string) Inventory {
	t.Helper()
	list, err := ReadInventory([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	return list[len(list)-1]
}

// A table that sgdisk has made is read as sfdisk reads it, with what is in the partitions.
func TestReadInventory(t *testing.T) {
	p := sparse(t, 64*mib)
	run(t, "sgdisk", "-n", "1:2048:+8M", "-t", "1:ef00", "-c", "1:EFI System", "-n", "3:20480:+32M", "-c", "3:Daten größer", "-A", "3:set:63", p)
	run(t, "mkfs.ext4", "-q", "-E", "offset=10485760", p, "32M")
	inv := inventory(t, p)
	want := sfdiskJSON(t, p).PartitionTable
	if inv.TableError != "" || inv.TableSector != 512 || inv.Table.Kind != imagefmt.TableGPT || len(inv.Table.Partitions) != len(want.Partitions) {
		t.Fatalf("%+v", inv)
	}
	for i, q := range inv.Table.Partitions {
		w := want.Partitions[i]
		if q.Start != w.Start*512 || q.Length != w.Size*512 || q.UUID != w.UUID || q.Type != w.Type || q.Label != w.Name {
			t.Errorf("%+v, sfdisk says %+v", q, w)
		}
	}
	if q := inv.Table.Partitions[1]; q.Number != 3 || q.FileSystem != "ext4" || q.Attributes != 1<<63 || inv.Table.Partitions[0].FileSystem != "" {
		t.Errorf("%+v", inv.Table.Partitions)
	}
	if !slices.Contains(inv.Found, "partition 3: ext2/3/4 superblock") {
		t.Errorf("found %q", inv.Found)
	}
	b, err := json.Marshal(inv)
	var again Inventory
	if err != nil || json.Unmarshal(b, &again) != nil || !reflect.DeepEqual(again, inv) {
		t.Errorf("by way of JSON: %+v, %v", again, err)
	}
}

// What cannot be trusted is told apart from what is not there: a damaged copy is replaced by the other, and when both are, that is
// said.
func TestReadInventoryDamaged(t *testing.T) {
	fresh := func() (string, []byte) {
		p := sparse(t, 64*mib)
		run(t, "sgdisk", "-n", "1:2048:+8M", p)
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		return p, b
	}
	for _, tt := range []struct {
		name   string
		damage func(b []byte)
		want   string // of the error; "" = the table is read
		parts  int
	}{
		{"whole", func([]byte) {}, "", 1},
		{"primary header", func(b []byte) { b[512+40]++ }, "", 1},
		{"primary array", func(b []byte) { b[1024+56]++ }, "", 1},
		{"backup", func(b []byte) { clear(b[len(b)-512:]) }, "", 1},
		{"both", func(b []byte) { b[1024+56]++; clear(b[len(b)-512:]) }, "checksum of the array", 0},
		{"both gone", func(b []byte) { clear(b[512:1024]); clear(b[len(b)-512:]) }, "not there", 0},
		{"no protection", func(b []byte) { clear(b[:512]) }, "", 1},
		{"no protection, primary damaged", func(b []byte) { clear(b[:512]); b[1024+56]++ }, "checksum", 0},
		{"only a left-over backup", func(b []byte) { clear(b[:34*512]) }, "", 0},
		{"a header too long", func(b []byte) { b[512+12] = 0xff; b[512+13] = 0xff; clear(b[len(b)-512:]) }, "header of", 0},
	} {
		p, b := fresh()
		tt.damage(b)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		inv := inventory(t, p)
		if (inv.TableError == "") != (tt.want == "") || !strings.Contains(inv.TableError, tt.want) || len(inv.Table.Partitions) != tt.parts {
			t.Errorf("%s: %d partitions, error %q, want %d, %q", tt.name, len(inv.Table.Partitions), inv.TableError, tt.parts, tt.want)
		}
	}
}

func TestReadInventoryMBR(t *testing.T) {
	p := sparse(t, 64*mib)
	script := "label: dos\nlabel-id: 0xdeadbeef\nstart=2048,size=16384,type=83,bootable\nstart=20480,type=5\nstart=22528,size=8192,type=83\nstart=40960,size=8192,type=82\n"
	if err := os.WriteFile(p+".in", []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "sh", "-c", "sfdisk -q "+p+" < "+p+".in")
	inv := inventory(t, p)
	want := sfdiskJSON(t, p).PartitionTable.Partitions
	if inv.Table.Kind != imagefmt.TableMBR || inv.TableError != "" || len(inv.Table.Partitions) != len(want) || inv.Table.DiskSignature != "deadbeef" {
		t.Fatalf("%+v", inv)
	}
	for i, q := range inv.Table.Partitions {
		if q.Start != want[i].Start*512 || q.Length != want[i].Size*512 {
			t.Errorf("%+v, sfdisk says %+v", q, want[i])
		}
	}
}

func TestReadInventory4096(t *testing.T) {
	dev := loop(t, sparse(t, 64*mib), "-b", "4096")
	run(t, "sgdisk", "-n", "1:256:+8M", "-c", "1:data", dev)
	list, err := ReadInventory(nil)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(list, func(d Inventory) bool { return d.Path == dev })
	if i < 0 || list[i].TableSector != 4096 || list[i].LogicalSector != 4096 || list[i].Table.Partitions[0].Start != mib {
		t.Fatalf("%+v", list)
	}
	if one := InventoryOf(list[i].Disk); !reflect.DeepEqual(one, list[i]) {
		t.Errorf("%+v, among all it is %+v", one, list[i])
	}
}

// An array that is only assembled is told apart from one that is mounted.
func TestIdleArrays(t *testing.T) {
	m := map[string]string{
		"proc/self/mountinfo": "36 35 9:2 / /mnt rw - ext4 /dev/md2 rw\n", "proc/swaps": "",
		"sys/block/sda/holders/md127/x": "", "sys/block/sda/dev": "8:0\n", "sys/block/md127/dev": "9:127\n",
		"sys/block/sdb/sdb1/partition": "1\n", "sys/block/sdb/sdb1/dev": "8:17\n", "sys/block/sdb/sdb1/holders/md126/x": "", "sys/block/md126/dev": "9:126\n",
		"sys/block/sdb/sdb2/partition": "2\n", "sys/block/sdb/sdb2/dev": "8:18\n", "sys/block/sdb/sdb2/holders/md127/x": "",
		"sys/block/sdc/holders/md2/x": "", "sys/block/sdc/dev": "8:32\n", "sys/block/md2/dev": "9:2\n",
		"sys/block/sdd/holders/dm-0/x": "", "sys/block/sdd/dev": "8:48\n",
		"sys/block/sde/holders/md3/x": "", "sys/block/sde/dev": "8:64\n", "sys/block/md3/holders/dm-0/x": "", "sys/block/md3/dev": "9:3\n",
	}
	for _, d := range []string{"sda", "sdb", "sdc", "sdd", "sde"} {
		m["sys/block/"+d+"/size"] = "2048\n"
	}
	list, err := readInventory(sysfs(t, m))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"sda": {"md127"}, "sdb": {"md126", "md127"}, "sdc": nil, "sdd": nil, "sde": nil}
	for _, d := range list {
		if d.InUse == "" || !slices.Equal(d.Arrays, want[d.Name]) {
			t.Errorf("%s: in use: %q, arrays %q, want %q", d.Name, d.InUse, d.Arrays, want[d.Name])
		}
	}
	if len(list) != len(want) {
		t.Errorf("%d disks", len(list))
	}
}

// Superblocks of every version are read as mdadm reads them.
func TestReadMembers(t *testing.T) {
	for _, version := range []string{"0.90", "1.0", "1.1", "1.2"} {
		p := sparse(t, 64*mib)
		md(version)(t, p)
		at := map[string]int64{"0.90": md090(64 * mib), "1.0": md10(64 * mib), "1.1": 0, "1.2": 4096}[version]
		if version == "0.90" {
			filetest.Write(t, p, at+20, []byte{0x78, 0x56, 0x34, 0x12})
		} else {
			filetest.Write(t, p, at+16, []byte("0123456789abcdefhost:root"))
		}
		m := inventory(t, p).Members
		if len(m) != 1 || m[0].Metadata != version || m[0].Level != 1 || m[0].Partition != 0 || version != "0.90" && m[0].Name != "host:root" {
			t.Errorf("%s: %+v", version, m)
			continue
		}
		out, _ := try("mdadm", "--examine", p) // a checksum that is wrong now; what it reads is shown all the same
		if !strings.Contains(out, "UUID : "+m[0].Array) {
			t.Errorf("%s: read %s, mdadm says:\n%s", version, m[0].Array, out)
		}
	}
}

func FuzzInventory(f *testing.F) {
	dir := f.TempDir()
	p := filepath.Join(dir, "disk")
	f.Add([]byte("EFI PART"), []byte{0x55, 0xaa}, []byte{})
	f.Fuzz(func(t *testing.T, gpt, mbr, super []byte) {
		b := make([]byte, 256<<10)
		copy(b[510-64:], mbr)
		copy(b[512:], gpt)
		copy(b[4096:], super)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		inv := InventoryOf(Disk{Path: p, Size: int64(len(b)), LogicalSector: 512})
		for _, q := range inv.Table.Partitions {
			if q.Start < 0 || q.Length < 0 || q.Length > int64(len(b)) {
				t.Fatalf("%+v", q)
			}
		}
	})
}
