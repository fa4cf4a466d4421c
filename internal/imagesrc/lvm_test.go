package imagesrc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/filetest"
	"swarmboot/internal/imagesrc/volume"
	"swarmboot/internal/looptest"
)

// host is LVM's own programs with the parts of disk files as their only devices. They need no device mapper as long as
// nothing is activated.
type host struct {
	t    *testing.T
	dir  string
	devs []string
	gone []func() // detach them
}

// part is a part of a disk file.
type part struct {
	path      string
	off, size int64
}

func lvmHost(t *testing.T, parts ...part) *host {
	t.Helper()
	h := &host{t: t, dir: t.TempDir()}
	filter, systemID := "", ""
	if len(parts) == 1 {
		systemID = `system_id_source="uname"`
	}
	for _, p := range parts {
		dev, detach := looptest.AttachFor(t, p.path, "-o", fmt.Sprint(p.off), "--sizelimit", fmt.Sprint(p.size))
		h.devs, h.gone = append(h.devs, dev), append(h.gone, detach)
		filter += fmt.Sprintf("%q, ", "a|^"+dev+"$|")
	}
	conf := `devices { use_devicesfile=0 filter=[` + filter + `"r|.*|"] obtain_device_list_from_udev=0 external_device_info_source="none" }
activation { monitoring=0 udev_sync=0 udev_rules=0 }
backup { backup=0 archive=0 }
global { locking_dir="` + h.dir + `/lock" event_activation=0 ` + systemID + ` }
`
	if err := os.WriteFile(filepath.Join(h.dir, "lvm.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *host) detach() {
	for _, detach := range h.gone {
		detach()
	}
	h.devs, h.gone = nil, nil
}

// lvm runs one of LVM's commands, DEV0, DEV1... standing for the devices.
func (h *host) lvm(line string) string {
	h.t.Helper()
	for i, d := range h.devs {
		line = strings.ReplaceAll(line, fmt.Sprintf("DEV%d", i), d)
	}
	cmd := exec.Command("lvm", append(strings.Fields(line), "--driverloaded", "n")...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "LVM_SUPPRESS_FD_WARNINGS=1", "LVM_SYSTEM_DIR="+h.dir, "DM_DISABLE_UDEV=1")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		h.t.Fatalf("lvm %s: %v\n%s%s", line, err, stderr.Bytes(), stdout.Bytes())
	}
	return stdout.String()
}

func (h *host) create(line string) { h.t.Helper(); h.lvm("lvcreate -y -an -Zn -Wn " + line) }

// restore has LVM take a changed description of the group, as what it cannot make without a device mapper.
func (h *host) edit(change func(text string) string) {
	h.t.Helper()
	file := filepath.Join(h.dir, "backup")
	h.lvm("vgcfgbackup -f " + file + " vg0")
	b, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, []byte(change(string(b))), 0o600)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.lvm("vgcfgrestore -y --force -f " + file + " vg0")
}

// extents asks LVM where a logical volume lies: bytes of the devices by number.
func (h *host) extents(lv string) (devs []int, list []imagefmt.Extent) {
	h.t.Helper()
	out := h.lvm("lvs --noheadings --units b --nosuffix --separator ; -O seg_start -o seg_pe_ranges,vg_extent_size,lv_name -S lv_name=" + lv + " vg0")
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSpace(line), ";")
		for _, r := range strings.Fields(f[0]) { // several of a striped segment
			dev, ranges, _ := strings.Cut(r, ":")
			from, to, _ := strings.Cut(ranges, "-")
			a, err1 := strconv.ParseInt(from, 10, 64)
			b, err2 := strconv.ParseInt(to, 10, 64)
			size, err3 := strconv.ParseInt(f[1], 10, 64)
			start, err4 := strconv.ParseInt(strings.TrimSpace(h.lvm("pvs --noheadings --units b --nosuffix -o pe_start "+dev)), 10, 64)
			if err := errors.Join(err1, err2, err3, err4); err != nil {
				h.t.Fatalf("%s: %v", out, err)
			}
			devs = append(devs, slices.Index(h.devs, dev))
			list = append(list, imagefmt.Extent{Off: start + a*size, Len: (b - a + 1) * size})
		}
	}
	return devs, list
}

// fill copies a file into a logical volume.
func (h *host) fill(lv, from string) {
	h.t.Helper()
	devs, list := h.extents(lv)
	skip := int64(0)
	for i, e := range list {
		run(h.t, "dd", "if="+from, "of="+h.devs[devs[i]], "bs=64k", "conv=notrunc,sparse,fsync", "status=none", "oflag=seek_bytes", "iflag=skip_bytes,count_bytes",
			fmt.Sprintf("seek=%d", e.Off), fmt.Sprintf("skip=%d", skip), fmt.Sprintf("count=%d", e.Len))
		skip += e.Len
	}
}

// content copies a logical volume into a file.
func (h *host) content(lv string) string {
	h.t.Helper()
	path := filepath.Join(scratch(h.t), lv)
	devs, list := h.extents(lv)
	at := int64(0)
	for i, e := range list {
		run(h.t, "dd", "if="+h.devs[devs[i]], "of="+path, "bs=64k", "conv=notrunc,sparse", "status=none", "oflag=seek_bytes", "iflag=skip_bytes,count_bytes",
			fmt.Sprintf("seek=%d", at), fmt.Sprintf("skip=%d", e.Off), fmt.Sprintf("count=%d", e.Len))
		at += e.Len
	}
	run(h.t, "truncate", "-s", fmt.Sprint(at), path)
	return path
}

const lvmScript = `label: gpt
size=8MiB, type=uefi
size=80MiB, type=lvm
size=64MiB, type=lvm
`

// lvmParts are the physical volumes on a disk made by lvmScript.
func lvmParts(path string) []part {
	return []part{{path, 9 * mib, 80 * mib}, {path, 89 * mib, 64 * mib}}
}

// report is what LVM says of the volumes, with DEV0, DEV1... for the devices, which others may have numbered otherwise meanwhile.
func (h *host) report() string {
	h.t.Helper()
	out := h.lvm("lvs --noheadings --separator ; -a -o lv_name,lv_uuid,lv_attr,segtype,seg_start_pe,seg_size_pe,seg_pe_ranges vg0")
	for i, d := range h.devs {
		out = strings.ReplaceAll(out, d+":", fmt.Sprintf("DEV%d:", i))
	}
	return out
}

// TestLVM images a group over two partitions: an ext4 in three segments on both, swap, FAT, an empty volume, and garbage
// where nothing is allocated. LVM's programs and those of the file systems judge what a target full of garbage gets.
func TestLVM(t *testing.T) {
	path := sfdisk(t, 160*mib, 512, lvmScript)
	h := lvmHost(t, lvmParts(path)...)
	h.lvm("pvcreate -y --metadatacopies 2 DEV0 DEV1")
	h.lvm("vgcreate -s 1M vg0 DEV0 DEV1")
	h.create("-L 40M -n root vg0 DEV0")
	h.create("-L 8M -n swap vg0 DEV0")
	h.create("-L 16M -n fat vg0 DEV0")
	h.create("-L 4M -n empty vg0 DEV1")
	h.lvm("lvextend -L +6M vg0/root DEV0")
	h.lvm("lvextend -L +20M vg0/root DEV1")
	root, rootFiles := makeExt(t, 64*mib, "-t ext4") // 2 MiB less than the volume
	fatFile, _ := makeFAT(t, 16*mib, "-F 16")
	swapFile := blank(t, 8*mib)
	run(t, "mkswap", "-U", testUUID, swapFile)
	h.fill("root", root)
	h.fill("fat", fatFile)
	h.fill("swap", swapFile)
	free := int64(89*mib + 50*mib) // extent 49 of the second: allocated to nothing
	filetest.Write(t, path, free, []byte("left over"))
	devs, list := h.extents("root")
	if len(list) != 3 || devs[2] != 1 {
		t.Fatalf("root lies at %v of %v", list, devs)
	}
	behind := 89*mib + list[2].End() - mib + 5 // behind the file system, in the volume
	filetest.Write(t, path, behind, []byte("behind"))
	want := h.report()
	h.detach()

	s := open(t, path, Options{})
	p := s.Table().Partitions
	if len(s.Notes()) != 2 || !strings.HasPrefix(s.Notes()[0], "logical volume vg0/empty: no known") || p[1].FileSystem != "LVM2_member" || p[2].FileSystem != "LVM2_member" || len(p[1].FSUUID) != 38 {
		t.Errorf("notes %q, partitions %+v", s.Notes(), p)
	}
	if sum := p[1].UsedBytes + p[2].UsedBytes; sum > 28*mib {
		t.Errorf("%d bytes are used", sum)
	}
	if covered(s.Extents(), free, 1) || !covered(s.Extents(), behind, 6) {
		t.Error("what is not allocated is used, or what lies behind the file system is not")
	}
	lvs := s.LogicalVolumes()
	i := slices.IndexFunc(lvs, func(l LogicalVolume) bool { return l.Name == "root" })
	if i < 0 || lvs[i].Group != "vg0" || lvs[i].FileSystem != "ext4" || lvs[i].UUID != testUUID || len(lvs[i].Segments) != 3 ||
		lvs[i].Segments[0] != (Segment{2, list[0].Off, list[0].Len}) || lvs[i].Segments[2] != (Segment{3, list[2].Off, list[2].Len}) {
		t.Errorf("%+v", lvs)
	}

	target := restore(t, s)
	h = lvmHost(t, lvmParts(target)...)
	h.lvm("vgck vg0")
	if got := h.report(); got != want {
		t.Errorf("LVM says\n%s\nof the source:\n%s", got, want)
	}
	run(t, "pvck", h.devs[0])
	got := h.content("root")
	run(t, "e2fsck", "-fn", got)
	out := scratch(t)
	run(t, "debugfs", "-R", "rdump / "+out, got)
	sameTree(t, rootFiles, out)
	run(t, "fsck.fat", "-n", h.content("fat"))
	if out := run(t, "swaplabel", h.content("swap")); !strings.Contains(out, testUUID) {
		t.Errorf("swaplabel: %s", out)
	}
}

// TestLVMWholeDisk has no partitions, a ring of metadata that has wrapped around, and a dirty file system.
func TestLVMWholeDisk(t *testing.T) {
	path := blank(t, 96*mib)
	h := lvmHost(t, part{path, 0, 96 * mib})
	h.lvm("pvcreate -y --metadatasize 8k DEV0")
	h.lvm("vgcreate -s 4M vg0 DEV0")
	h.create("-L 40M -n root vg0")
	for i := range 40 {
		h.lvm(fmt.Sprintf("vgchange --addtag t%d vg0", i))
		h.lvm(fmt.Sprintf("vgchange --deltag t%d vg0", i))
	}
	root, files := makeExt(t, 40*mib, "-t ext4")
	h.fill("root", root)
	_, list := h.extents("root")
	h.detach()

	if text := string(filetest.Read(t, path, 0, 16<<10)); !strings.Contains(text, "system_id = ") || !strings.Contains(text, "WRITE_LOCKED") {
		t.Error("the group has no system ID")
	}
	s := open(t, path, Options{})
	if len(s.Notes()) != 0 || used(s) > 20*mib || len(s.LogicalVolumes()) != 1 || s.Table().Kind != imagefmt.TableNone {
		t.Errorf("notes %q, %d used, %+v", s.Notes(), used(s), s.LogicalVolumes())
	}
	h = lvmHost(t, part{restore(t, s), 0, 96 * mib})
	got := h.content("root")
	run(t, "e2fsck", "-fn", got)
	out := scratch(t)
	run(t, "debugfs", "-R", "rdump / "+out, got)
	sameTree(t, files, out)

	filetest.Write(t, path, list[0].Off+1024+58, []byte{0})
	_, err := Open(t.Context(), path, Options{})
	var dirty *DirtyError
	if !errors.As(err, &dirty) || !strings.Contains(err.Error(), "logical volume vg0/root, ext4 is dirty") {
		t.Fatalf("got %v", err)
	}
	s = open(t, path, Options{Force: true})
	if len(s.Notes()) != 1 || !strings.Contains(s.Notes()[0], "vg0/root: ext4") || !covered(s.Extents(), list[0].Off, list[0].Len) {
		t.Errorf("notes %q", s.Notes())
	}
}

// lvmCases are what is copied whole, and why. LVM itself has accepted each, but for the damaged ones.
var lvmCases = []struct {
	name, note string
	volumes    []string // these are used whole; none: both physical volumes are
	make       func(h *host)
	damage     func(t *testing.T, path string)
}{
	{"striped", "logical volume vg0/st is striped over 2 areas", []string{"st"}, func(h *host) {
		h.create("-i 2 -I 64k -L 8M -n st vg0")
	}, nil},
	{"snapshot", "vg0/root is a part of snapshot0", []string{"root", "cow"}, func(h *host) {
		h.create("-L 8M -n cow vg0")
		h.edit(func(s string) string {
			s = strings.Replace(s, "\t\tcow {\n", "\t\tsnapshot0 {\n"+lvHead(1, "\"READ\", \"WRITE\"")+
				"segment1 {\nstart_extent = 0\nextent_count = 32\ntype = \"snapshot\"\nchunk_size = 8\norigin = \"root\"\ncow_store = \"cow\"\n}\n}\n\t\tcow {\n", 1)
			return strings.Replace(s, "extent_count = 32\ntype", "extent_count = 24\ntype", 1)
		})
	}, nil},
	{"raid", "vg0/r is of type raid1", []string{"r_rimage_0", "r_rmeta_0"}, func(h *host) {
		for _, n := range []string{"img0", "img1", "met0", "met1"} {
			h.create("-l 1 -n " + n + " vg0")
		}
		h.edit(func(s string) string {
			for from, to := range map[string]string{"img0": "r_rimage_0", "img1": "r_rimage_1", "met0": "r_rmeta_0", "met1": "r_rmeta_1"} {
				s = regexp.MustCompile(`(?s)\t\t`+from+` \{(.*?)"VISIBLE"`).ReplaceAllString(s, "\t\t"+to+" {${1}\"RAID\"")
			}
			s = strings.ReplaceAll(strings.ReplaceAll(s, `"READ", "WRITE", "RAID"`, `"READ", "WRITE"`), `"RAID"`, ``)
			return strings.Replace(s, "\t\tr_rimage_0 {", "\t\tr {\n"+lvHead(2, `"READ", "WRITE", "VISIBLE"`)+
				"segment1 {\nstart_extent = 0\nextent_count = 1\ntype = \"raid1\"\ndevice_count = 2\nregion_size = 1024\n"+
				"raids = [\n\"r_rmeta_0\", \"r_rimage_0\",\n\"r_rmeta_1\", \"r_rimage_1\"\n]\n}\n}\n\t\tr_rimage_0 {", 1)
		})
	}, nil},
	{"thin", "vg0/tp is of type thin-pool", []string{"tp_tdata", "tp_tmeta"}, func(h *host) {
		h.create("-L 8M -n dat vg0")
		h.create("-L 4M -n met vg0")
		h.edit(func(s string) string {
			for from, to := range map[string]string{"dat": "tp_tdata", "met": "tp_tmeta"} {
				s = regexp.MustCompile(`(?s)\t\t`+from+` \{(.*?)"READ", "WRITE", "VISIBLE"`).ReplaceAllString(s, "\t\t"+to+" {${1}\"READ\", \"WRITE\"")
			}
			return strings.Replace(s, "\t\ttp_tdata {", "\t\ttp {\n"+lvHead(3, `"READ", "WRITE", "VISIBLE"`)+
				"segment1 {\nstart_extent = 0\nextent_count = 8\ntype = \"thin-pool\"\nmetadata = \"tp_tmeta\"\npool = \"tp_tdata\"\n"+
				"transaction_id = 0\nchunk_size = 128\ndiscards = \"passdown\"\nzero_new_blocks = 1\n}\n}\n\t\ttp_tdata {", 1)
		})
	}, nil},
	{"exported", "vg0 is exported", nil, func(h *host) { h.lvm("vgexport vg0") }, nil},
	{"shared", "shared by lock type sanlock", nil, func(h *host) {
		h.edit(func(s string) string {
			return strings.Replace(s, "\textent_size", "\tlock_type = \"sanlock\"\n\tlock_args = \"1.0.0:lvmlock\"\n\textent_size", 1)
		})
	}, nil},
	{"header checksum", "LVM metadata area: its checksum is wrong", nil, nil, func(t *testing.T, p string) { filetest.Write(t, p, 9*mib+4096+200, []byte{1}) }},
	{"text checksum", "checksum of its text", nil, nil, func(t *testing.T, p string) {
		at := int64(9*mib + 4096)
		text := at + int64(filetest.Read(t, p, at+40, 2)[0]) + int64(filetest.Read(t, p, at+40, 2)[1])<<8
		filetest.Write(t, p, text+30, []byte("x"))
	}},
	{"label checksum", "LVM label: its checksum is wrong", nil, nil, func(t *testing.T, p string) { filetest.Write(t, p, 9*mib+512+300, []byte{1}) }},
	{"missing", "2 physical volumes, and", nil, nil, func(t *testing.T, p string) { filetest.Write(t, p, 89*mib+512, make([]byte, 512)) }},
	{"old copy", "copies of the metadata of its group vg0 differ", nil, nil, nil},
	{"cut short", "do not fit", nil, nil, func(t *testing.T, p string) {
		runInput(t, "size=60MiB\n", "sfdisk", "-q", "--no-reread", "-N", "2", p)
	}},
}

func lvHead(n int, status string) string {
	return fmt.Sprintf("id = \"%06d-aaaa-bbbb-cccc-dddd-eeee-ffffff\"\nstatus = [%s]\nflags = []\ncreation_time = 1\ncreation_host = \"h\"\nsegment_count = 1\n", n, status)
}

func TestLVMWhole(t *testing.T) {
	for _, c := range lvmCases {
		t.Run(c.name, func(t *testing.T) {
			path := sfdisk(t, 160*mib, 512, lvmScript)
			h := lvmHost(t, lvmParts(path)...)
			h.lvm("pvcreate -y DEV0 DEV1")
			h.lvm("vgcreate -s 1M vg0 DEV0 DEV1")
			h.create("-L 24M -n root vg0 DEV0")
			root, _ := makeExt(t, 24*mib, "-t ext4")
			h.fill("root", root)
			if c.name == "old copy" {
				h.detach()
				old := filetest.Read(t, path, 89*mib, mib)
				h = lvmHost(t, lvmParts(path)...)
				h.create("-L 1M -n more vg0")
				c.damage = func(t *testing.T, p string) { filetest.Write(t, p, 89*mib, old) }
			}
			if c.make != nil {
				c.make(h)
			}
			whole := lvmParts(path)
			if c.name == "cut short" {
				whole[0].size = 60 * mib
			}
			if c.name == "missing" {
				whole = whole[:1] // nothing says that the other one is LVM's
			}
			if len(c.volumes) > 0 {
				whole = nil
			}
			for _, lv := range c.volumes {
				devs, list := h.extents(lv)
				for i, e := range list {
					whole = append(whole, part{path, lvmParts(path)[devs[i]].off + e.Off, e.Len})
				}
			}
			h.detach()
			if c.damage != nil {
				c.damage(t, path)
			}
			s := open(t, path, Options{})
			if !strings.Contains(strings.Join(s.Notes(), "\n"), c.note) {
				t.Errorf("notes %q, want %q", s.Notes(), c.note)
			}
			for _, p := range whole {
				if !covered(s.Extents(), p.off, p.size) {
					t.Errorf("bytes %d+%d are not all used", p.off, p.size)
				}
			}
			if len(c.volumes) > 0 && used(s) > 80*mib {
				t.Errorf("%d bytes are used: more than the volumes that are not understood", used(s))
			}
		})
	}
}

// TestLVMOrphan: what is in no group, and another signature beside.
func TestLVMOrphan(t *testing.T) {
	path := sfdisk(t, 160*mib, 512, lvmScript)
	h := lvmHost(t, lvmParts(path)...)
	h.lvm("pvcreate -y DEV0 DEV1")
	h.detach()
	filetest.Write(t, path, 89*mib, []byte("XFSB"))
	s := open(t, path, Options{})
	notes := strings.Join(s.Notes(), "\n")
	if !strings.Contains(notes, "in no volume group") || !strings.Contains(notes, "XFS is not understood") ||
		volume.Sum(volume.Clip(s.Extents(), 9*mib, 153*mib)) != 144*mib {
		t.Errorf("notes %q", s.Notes())
	}
}
