package disk

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sysfs makes a root with sys/block and proc from "path": content; "-> x" makes a symlink.
func sysfs(t *testing.T, entries map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range entries {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if to, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(to, p)
		} else {
			err = os.WriteFile(p, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// machine is a server with one disk of each kind.
func machine(t *testing.T) string {
	const pci = "sys/devices/pci0000:00/"
	m := map[string]string{
		"proc/self/mountinfo": "22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw\n" +
			"23 22 0:45 / /data\\040one rw - btrfs /dev/sdc rw\n" +
			"24 22 0:5 / /proc rw - proc proc rw\n",
		"proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n/dev/nvme1n1p1 partition 1 0 -2\n",

		"sys/block/sda": "-> ../devices/pci0000:00/ata1/host0/target0:0:0/0:0:0:0/block/sda",
		"sys/block/sdb": "-> ../devices/pci0000:00/host2/port-2:0/end_device-2:0/target2:0:0/2:0:0:0/block/sdb",
		"sys/block/sdc": "-> ../devices/pci0000:00/usb1/1-1/host3/target3:0:0/3:0:0:0/block/sdc",
		"sys/block/vda": "-> ../devices/pci0000:00/virtio1/block/vda",

		pci + "ata1/host0/target0:0:0/0:0:0:0/block/sda/sda2/partition":                          "2\n",
		pci + "ata1/host0/target0:0:0/0:0:0:0/block/sda/sda2/dev":                                "8:2\n",
		pci + "ata1/host0/target0:0:0/0:0:0:0/block/sda/device/vendor":                           "ATA     \n",
		pci + "ata1/host0/target0:0:0/0:0:0:0/block/sda/device/model":                            "INTEL SSDSC2KB48\n",
		pci + "ata1/host0/target0:0:0/0:0:0:0/block/sda/device/wwid":                             "naa.55CD2E4150A1B2C3\n",
		pci + "ata1/host0/target0:0:0/0:0:0:0/block/sda/device/vpd_pg80":                         "\x00\x80\x00\x14  BTYF1234567890AB  ",
		pci + "host2/port-2:0/end_device-2:0/target2:0:0/2:0:0:0/block/sdb/device/vendor":        "SEAGATE \n",
		pci + "host2/port-2:0/end_device-2:0/target2:0:0/2:0:0:0/block/sdb/device/model":         "ST600MM0088     \n",
		pci + "host2/port-2:0/end_device-2:0/target2:0:0/2:0:0:0/block/sdb/device/wwid":          "t10.SEAGATE x\n",
		pci + "host2/port-2:0/end_device-2:0/target2:0:0/2:0:0:0/block/sdb/holders/dm-0/dm/name": "vg0-root\n",
		pci + "virtio1/block/vda/serial":                                                         "disk-one\n",

		"sys/block/nvme0n1/device/model": "SAMSUNG MZQL2960  \n", "sys/block/nvme0n1/device/serial": "S64FNE0R\n", "sys/block/nvme0n1/wwid": "eui.36344630\n",
		"sys/block/nvme1n1/nvme1n1p1/partition": "1\n", "sys/block/nvme1n1/nvme1n1p1/dev": "259:3\n",
		"sys/block/nvme2c0n1/hidden":    "1\n",
		"sys/block/mmcblk0/device/type": "SD\n", "sys/block/mmcblk0/device/name": "SC16G\n", "sys/block/mmcblk0boot0/size": "8192\n",
		"sys/block/loop0/ro": "0\n", "sys/block/loop1/size": "0\n", "sys/block/sde/size": "0\n",
		"sys/block/cciss!c0d0/ro": "1\n",
	}
	for name, at := range map[string]string{
		"8:0": pci + "ata1/host0/target0:0:0/0:0:0:0/block/sda", "8:16": pci + "host2/port-2:0/end_device-2:0/target2:0:0/2:0:0:0/block/sdb",
		"8:32": pci + "usb1/1-1/host3/target3:0:0/3:0:0:0/block/sdc", "254:0": pci + "virtio1/block/vda",
		"259:0": "sys/block/nvme0n1", "259:1": "sys/block/nvme1n1", "259:2": "sys/block/nvme2c0n1", "179:0": "sys/block/mmcblk0", "7:0": "sys/block/loop0",
		"104:0": "sys/block/cciss!c0d0", "1:0": "sys/block/ram0", "252:0": "sys/block/zram0", "253:0": "sys/block/dm-0", "9:0": "sys/block/md0", "11:0": "sys/block/sr0",
	} {
		m[at+"/dev"], m[at+"/size"], m[at+"/queue/logical_block_size"] = name+"\n", "937703088\n", "512\n"
	}
	m["sys/block/nvme0n1/queue/logical_block_size"], m["sys/block/nvme0n1/queue/physical_block_size"] = "4096\n", "4096\n"
	m[pci+"virtio1/block/vda/queue/rotational"] = "1\n"
	m["sys/block/nvme0n1/queue/optimal_io_size"], m[pci+"virtio1/block/vda/queue/optimal_io_size"] = "131072\n", "33553920\n"
	return sysfs(t, m)
}

func TestList(t *testing.T) {
	disks, err := listIn(machine(t))
	if err != nil {
		t.Fatal(err)
	}
	const size = 937703088 * 512
	want := []Disk{
		{Path: "/dev/cciss/c0d0", Name: "cciss!c0d0", ReadOnly: true},
		{Path: "/dev/loop0", Name: "loop0", Transport: "loop"},
		{Path: "/dev/mmcblk0", Name: "mmcblk0", Model: "SC16G", Transport: "sd", Removable: true},
		{Path: "/dev/nvme0n1", Name: "nvme0n1", Serial: "S64FNE0R", WWN: "36344630", Model: "SAMSUNG MZQL2960", Transport: "nvme", LogicalSector: 4096, PhysicalSector: 4096, OptimalIO: 128 << 10},
		{Path: "/dev/nvme1n1", Name: "nvme1n1", Transport: "nvme", InUse: "nvme1n1p1: swap is on it"},
		{Path: "/dev/sda", Name: "sda", Serial: "BTYF1234567890AB", WWN: "55cd2e4150a1b2c3", Model: "INTEL SSDSC2KB48", Transport: "sata", InUse: "sda2: mounted on /"},
		{Path: "/dev/sdb", Name: "sdb", Model: "SEAGATE ST600MM0088", Transport: "sas", InUse: "part of vg0-root"},
		{Path: "/dev/sdc", Name: "sdc", Transport: "usb", Removable: true, InUse: "mounted on /data one"},
		{Path: "/dev/vda", Name: "vda", Serial: "disk-one", Transport: "virtio", Rotational: true},
	}
	for i, d := range disks {
		if i >= len(want) {
			t.Fatalf("disk too many: %+v", d)
		}
		w := want[i]
		w.Size = size
		if w.LogicalSector == 0 {
			w.LogicalSector, w.PhysicalSector = 512, 512
		}
		if d != w {
			t.Errorf("got  %+v\nwant %+v", d, w)
		}
	}
	if len(disks) < len(want) {
		t.Errorf("%d disks, want %d", len(disks), len(want))
	}
}

func TestListWithoutMountTable(t *testing.T) {
	root := sysfs(t, map[string]string{"sys/block/vda/size": "100\n"})
	if disks, err := listIn(root); err == nil {
		t.Errorf("got %v: a disk may be mounted and nobody would know", disks)
	}
}

func TestListThisMachine(t *testing.T) {
	disks, err := List()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range disks {
		if d.Size <= 0 || d.LogicalSector < 512 {
			t.Errorf("%+v", d)
		}
	}
}

const gb = 1_000_000_000

var rack = []Disk{
	{Path: "/dev/nvme0n1", Name: "nvme0n1", Serial: "S1", WWN: "0025385", Model: "SAMSUNG MZQL2960", Transport: "nvme", Size: 960 * gb},
	{Path: "/dev/nvme1n1", Name: "nvme1n1", Serial: "S2", WWN: "0025386", Model: "SAMSUNG MZQL2960", Transport: "nvme", Size: 960 * gb},
	{Path: "/dev/sda", Name: "sda", Serial: "B1", WWN: "55cd2e41", Model: "INTEL SSDSC2KB48", Transport: "sata", Size: 480103981056},
	{Path: "/dev/sdb", Name: "sdb", Serial: "U1", Model: "Ultra Fit", Transport: "usb", Size: 32 * gb, Removable: true},
	{Path: "/dev/sdc", Name: "sdc", Serial: "B2", Model: "INTEL OTHER", Transport: "sata", Size: 240 * gb, InUse: "mounted on /"},
	{Path: "/dev/sdd", Name: "sdd", Serial: "R1", Model: "ROM", Transport: "sata", Size: 1 * gb, ReadOnly: true},
	{Path: "/dev/vda", Name: "vda", Serial: "disk one", Transport: "virtio", Size: 4 << 30},
	{Path: "/dev/loop7", Name: "loop7", Transport: "loop", Size: 5 << 30},
}

func TestSelect(t *testing.T) {
	tests := []struct{ selector, want string }{ // want: path, or what the error must say
		{"/dev/sda", "/dev/sda"},
		{"/dev/../dev/sda", "/dev/sda"},
		{"serial=b1", "/dev/sda"},
		{"serial=S2", "/dev/nvme1n1"},
		{"wwn=0x55CD2E41", "/dev/sda"},
		{"wwn=eui.0025385", "/dev/nvme0n1"},
		{"model=INTEL*,size=400G..", "/dev/sda"},
		{"model=INTEL_SSDSC2KB48", "/dev/sda"},
		{"size=480GB", "/dev/sda"},
		{"size=440G..450G", "/dev/sda"},
		{"size=..5G", "/dev/vda"},
		{"transport=virtio", "/dev/vda"},
		{"transport=nvme,serial=S1", "/dev/nvme0n1"},
		{"serial=U1", "/dev/sdb"},
		{"/dev/sdb", "/dev/sdb"},
		{"/dev/loop7", "/dev/loop7"},
		{"/dev/disk/by-id/wwn-0x55cd2e41", "/dev/sda"},
		{"/dev/disk/by-id/ata-INTEL_SSDSC2KB48_B1", "/dev/sda"},
		{"/dev/disk/by-id/nvme-SAMSUNG_MZQL2960_S1", "/dev/nvme0n1"},
		{"/dev/disk/by-id/nvme-eui.0025386", "/dev/nvme1n1"},
		{"/dev/disk/by-id/virtio-disk_one", "/dev/vda"},

		{"", "matches 4 disks"},
		{"only", "matches 4 disks"},
		{"model=SAMSUNG*", "matches 2 disks"},
		{"/dev/disk/by-id/ata-INTEL", "matches no disk"},
		{"/dev/sda1", "/dev/sda 447.1 GiB INTEL SSDSC2KB48 serial=B1 wwn=55cd2e41 sata: is not /dev/sda1"},
		{"/dev/sdc", "/dev/sdc 223.5 GiB INTEL OTHER serial=B2 sata: in use: mounted on /"},
		{"serial=B2", "in use: mounted on /"},
		{"serial=R1", "read-only"},
		{"transport=usb", "removable: taken only when named"},
		{"transport=loop", "named by path"},
		{"size=1T..", "smaller than 1.0 TiB"},
		{"wwn=1", "has no WWN"},
		{"model=Ultra*", "removable"},
	}
	for _, tt := range tests {
		t.Run(tt.selector, func(t *testing.T) {
			s, err := ParseSelector(tt.selector)
			if err != nil {
				t.Fatal(err)
			}
			d, err := s.Select(rack)
			if err == nil {
				if d.Path != tt.want {
					t.Errorf("got %s, want %s", d.Path, tt.want)
				}
				return
			}
			var se *SelectError
			if !errors.As(err, &se) || len(se.Candidates) != len(rack) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one that lists all disks and says %q", err, tt.want)
			}
		})
	}
}

func TestSelectOnly(t *testing.T) {
	s, _ := ParseSelector("only")
	if d, err := s.Select(rack[2:6]); err != nil || d.Path != "/dev/sda" {
		t.Errorf("got %v, %v: only one of these is usable", d.Path, err)
	}
	if _, err := s.Select(nil); err == nil || !strings.Contains(err.Error(), "no disk") {
		t.Errorf("no disk at all gives %v", err)
	}
}

func TestParseSelectorErrors(t *testing.T) {
	for _, s := range []string{"sda", "serial", "serial=", "sreial=x", "model=[", "size=big", "size=2T..1T", "size=..", "size=1T...2T", "only,,", "size=-1..", "size=1.5"} {
		if sel, err := ParseSelector(s); err == nil {
			t.Errorf("%q accepted as %v", s, sel)
		}
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{
		"512": 512, "0": 0, "1k": 1024, "1K": 1024, "1KB": 1000, "1KiB": 1024, "400G": 400 << 30, "480GB": 480 * gb, "1.5T": 3 << 39, "2 TiB": 2 << 40, "7B": 7,
	} {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "G", "-1G", "1e3", "NaN", "Inf", "1.2.3G", "9999999P", "1 X"} {
		if got, err := ParseSize(s); err == nil {
			t.Errorf("ParseSize(%q) = %d", s, got)
		}
	}
}

func TestFindRegularFile(t *testing.T) {
	p := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(p, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := Find(p); err != nil || d.Path != p || d.Size != 4096 || d.Transport != "file" {
		t.Errorf("got %+v, %v", d, err)
	}
}

func TestPartitionPath(t *testing.T) {
	for _, tt := range []struct {
		disk string
		n    int
		want string
	}{{"/dev/vdz", 2, "/dev/vdz2"}, {"/dev/nvme9n1", 2, "/dev/nvme9n1p2"}, {"/dev/mmcblk9", 1, "/dev/mmcblk9p1"}, {"/dev/loop99", 12, "/dev/loop99p12"}, {"/dev/vdz", 0, "/dev/vdz"}} {
		if got := PartitionPath(tt.disk, tt.n); got != tt.want {
			t.Errorf("PartitionPath(%s, %d) = %s, want %s", tt.disk, tt.n, got, tt.want)
		}
	}
}

func FuzzParseSelector(f *testing.F) {
	for _, s := range []string{"", "only", "/dev/sda", "serial=x,size=1G..2T", "model=[a-z]*", "size=..", "wwn=0x1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSelector(text)
		if err != nil {
			return
		}
		d, err := s.Select(rack)
		if err == nil && (d.InUse != "" || d.ReadOnly || d.Path == "") {
			t.Fatalf("%q selects %+v", text, d)
		}
	})
}

func TestOptimalIO(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "0": 0, "512": 0, "4096": 4096, "131072": 131072, "1048576": 1 << 20, "16777216": 16 << 20, "33554432": 0,
		"33553920": 0, "1572864": 0, "-4096": 0, "x": 0,
	} {
		if got := optimalIO(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestSelectRotational(t *testing.T) {
	disks := []Disk{{Path: "/dev/sda", Rotational: true}, {Path: "/dev/nvme0n1"}}
	for text, want := range map[string]string{"rotational=yes": "/dev/sda", "rotational=no": "/dev/nvme0n1"} {
		s, err := ParseSelector(text)
		if err != nil {
			t.Fatal(err)
		}
		if d, err := s.Select(disks); err != nil || d.Path != want {
			t.Errorf("%s: %v, %v", text, d, err)
		}
	}
	if _, err := ParseSelector("rotational=1"); err == nil || !strings.Contains(err.Error(), "yes or no") {
		t.Errorf("rotational=1: %v", err)
	}
}
