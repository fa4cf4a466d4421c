package layouts

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"swarmboot/imagefmt"
	"swarmboot/internal/disk"
	"swarmboot/internal/layout"
	"swarmboot/internal/looptest"
)

var update = flag.Bool("update", false, "write the plans of testdata anew")

const (
	mib = 1 << 20
	gib = 1 << 30
)

func part(n int, start, length int64, kind, label, fs string) imagefmt.Partition {
	return imagefmt.Partition{
		Number: n, Start: start, Length: length, Type: kind, Label: label, FileSystem: fs, UsedBytes: min(length, 100*mib),
		UUID: fmt.Sprintf("11111111-2222-4333-8444-%012d", n),
	}
}

const (
	typeESP   = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	typeBIOS  = "21686148-6449-6E6F-744E-656564454649"
	typeLinux = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
	typeRoot  = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
	typeSwap  = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"
)

// images are made up, each like a kind that people have.
var images = map[string]func() *imagefmt.Manifest{
	// An ESP, a root file system, swap at the end.
	"uefi": func() *imagefmt.Manifest {
		return manifest(imagefmt.TableGPT, 2, 8*gib,
			part(1, mib, 512*mib, typeESP, "esp", "vfat"), part(2, 513*mib, 6*gib, typeRoot, "root", "ext4"), part(3, 6657*mib, gib, typeSwap, "swap", "swap"))
	},
	// As Debian's cloud images: the root file system last on the disk and first in the table.
	"cloud": func() *imagefmt.Manifest {
		m := manifest(imagefmt.TableGPT, 1, 3*gib, part(1, 128*mib, 3*gib-129*mib, typeRoot, "", "ext4"),
			part(14, mib, 3*mib, typeBIOS, "", ""), part(15, 4*mib, 124*mib, typeESP, "", "vfat"))
		m.Table.BootCode = []byte{0xeb, 0x63, 0x90}
		return m
	},
	"mbr": func() *imagefmt.Manifest {
		m := manifest(imagefmt.TableMBR, 1, 3*gib, part(1, mib, 2*gib, "0x83", "", "ext4"), part(2, 2049*mib, 512*mib, "0x82", "", "swap"))
		m.Table.BootCode = []byte{0xeb, 0x63, 0x90}
		return m
	},
	"bare": func() *imagefmt.Manifest { return manifest(imagefmt.TableNone, 0, 3*gib) },
	// Its last partition has 4 GiB, the file system in it 1.
	"slack": func() *imagefmt.Manifest {
		m := manifest(imagefmt.TableGPT, 2, 5*gib, part(1, mib, 511*mib, typeESP, "esp", "vfat"), part(2, 512*mib, 4*gib, typeRoot, "root", "ext4"))
		m.Table.Partitions[1].FSLength = gib
		return m
	},
}

func manifest(kind string, root int, size int64, parts ...imagefmt.Partition) *imagefmt.Manifest {
	t := imagefmt.Table{Kind: kind, Partitions: parts}
	least := size
	switch kind {
	case imagefmt.TableGPT:
		t.GUID = "AAAAAAAA-BBBB-4CCC-8DDD-EEEEEEEEEEEE"
	case imagefmt.TableMBR:
		t.DiskSignature = "deadbeef"
		for i := range t.Partitions {
			t.Partitions[i].UUID, t.Partitions[i].Label = fmt.Sprintf("deadbeef-%02x", t.Partitions[i].Number), ""
		}
	}
	if kind != imagefmt.TableNone {
		least = 0
		for _, p := range parts {
			least = max(least, p.Start+p.Length+33*512)
		}
	}
	return &imagefmt.Manifest{
		FormatVersion: 1, Name: "test", DiskSize: size, MinDiskSize: least, SectorSize: 512, Table: t, Boot: imagefmt.Boot{Root: root},
		Layout: imagefmt.Packed, PieceLength: 256 << 10, FrameLength: 256 << 10, PayloadLength: 1 << 20, IndexLength: 100, UsedBytes: mib,
		InfoHash: strings.Repeat("0", 40), IndexSHA256: strings.Repeat("0", 64),
	}
}

// parseDisks reads lines "PATH SIZE [WORD...] [JSON]": 4k, rotational, usb, a transport, serial=, wwn=, model=, optimal=; JSON holds what is on it.
func parseDisks(t *testing.T, text string) []disk.Inventory {
	t.Helper()
	var inv []disk.Inventory
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		before, more, hasJSON := strings.Cut(line, "{")
		f := strings.Fields(before)
		d := disk.Inventory{Table: imagefmt.Table{Kind: imagefmt.TableNone}}
		if hasJSON {
			if err := json.Unmarshal([]byte("{"+more), &d); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
		size, err := disk.ParseSize(f[1])
		if err != nil {
			t.Fatal(err)
		}
		d.Path, d.Name, d.Size, d.LogicalSector, d.PhysicalSector = f[0], filepath.Base(f[0]), size/4096*4096, 512, 4096
		d.Serial = "S-" + d.Name
		for _, w := range f[2:] {
			switch key, value, _ := strings.Cut(w, "="); key {
			case "4k":
				d.LogicalSector = 4096
			case "rotational":
				d.Rotational = true
			case "usb":
				d.Transport, d.Removable = "usb", true
			case "serial":
				d.Serial = value
			case "wwn":
				d.WWN = value
			case "model":
				d.Model = strings.ReplaceAll(value, "_", " ")
			case "optimal":
				if d.OptimalIO, err = strconv.Atoi(value); err != nil {
					t.Fatal(err)
				}
			default:
				d.Transport = w
			}
		}
		inv = append(inv, d)
	}
	return inv
}

// A plan is written to the file as people see it, then to the byte.
func golden(t *testing.T, p *layout.Plan) string {
	t.Helper()
	var b strings.Builder
	if err := p.Describe(&b); err != nil {
		t.Fatal(err)
	}
	b.WriteString("\nto the byte:\n")
	for _, d := range p.Disks {
		fmt.Fprintf(&b, "%s: guid %s, boot code %d bytes, kept %v\n", d.Disk.Path, d.Table.GUID, len(d.Table.BootCode), d.Kept)
		for _, q := range d.Table.Partitions {
			fmt.Fprintf(&b, "  %d: %d+%d uuid %s attributes %#x\n", q.Number, q.Start, q.Length, q.UUID, q.Attributes)
		}
	}
	for _, a := range p.Arrays {
		fmt.Fprintf(&b, "array %s: %d bytes\n", a.Name, a.Size)
	}
	for _, c := range p.Contents {
		fmt.Fprintf(&b, "%s at %d: image %d, bytes %d+%d; fs %q label %q uuid %q; grow %v\n", p.Name(c.On), c.Offset, c.Image, c.Source.Off, c.Source.Len, c.FS, c.Label, c.UUID, c.Grow)
	}
	return b.String()
}

// plan makes the plan of a case: its comment names the image ("image: uefi"), and may ask for the plan without a layout.
func plan(t *testing.T, a *txtar.Archive) (*layout.Plan, error) {
	t.Helper()
	files := map[string]string{}
	for _, f := range a.Files {
		files[f.Name] = string(f.Data)
	}
	var im layout.Image
	for line := range strings.Lines(string(a.Comment)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "image: "); ok {
			im.Manifest = images[name]()
		}
	}
	inv := parseDisks(t, files["disks"])
	if _, ok := files["layout.yaml"]; !ok {
		how := layout.ScaleLast
		if text, ok := files["scale"]; ok {
			how = layout.Scale(strings.TrimSpace(text))
		}
		return layout.Default(inv[0], im, how)
	}
	l, err := Parse("layout.yaml", []byte(files["layout.yaml"]))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(l) // as the node gets it
	if err != nil {
		t.Fatal(err)
	}
	node, err := layout.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	p, err := node.Plan(inv, im)
	direct, err2 := l.Plan(inv, im)
	if err == nil && err2 == nil && golden(t, p) != golden(t, direct) {
		t.Error("by way of JSON the plan is another one")
	}
	return p, err
}

// TestPlans: testdata/*.txtar hold a layout, the disks of a machine, and the plan or the reason why there is none.
func TestPlans(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d cases, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p, err := plan(t, a)
			var got string
			if err != nil {
				got = "error: " + err.Error() + "\n"
			} else {
				got = golden(t, p)
				judge(t, p)
			}
			last := &a.Files[len(a.Files)-1]
			if last.Name != "plan" {
				a.Files = append(a.Files, txtar.File{Name: "plan"})
				last = &a.Files[len(a.Files)-1]
			}
			if *update {
				last.Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got != string(last.Data) {
				t.Errorf("got\n%s\nwant\n%s", got, last.Data)
			}
		})
	}
}

// judge writes the tables of a plan to sparse disks of their size and has sgdisk and sfdisk look at them.
func judge(t *testing.T, p *layout.Plan) {
	t.Helper()
	for _, d := range p.Disks {
		if d.Table.Kind == imagefmt.TableNone {
			continue
		}
		path := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, d.Disk.Size); err != nil {
			t.Fatal(err)
		}
		if d.Disk.LogicalSector == 4096 {
			path = looptest.Attach(t, path, "-b", "4096")
		}
		dev, err := disk.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		err = disk.WriteTable(dev, d.Table)
		dev.Close()
		if err != nil {
			t.Errorf("%s: %v", d.Disk.Path, err)
			continue
		}
		out, err := exec.CommandContext(t.Context(), "sfdisk", "--verify", path).CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("No errors detected")) {
			t.Errorf("%s: sfdisk: %v\n%s", d.Disk.Path, err, out)
		}
		if d.Table.Kind == imagefmt.TableGPT {
			out, err := exec.CommandContext(t.Context(), "sgdisk", "-v", path).CombinedOutput()
			if err != nil || !bytes.Contains(out, []byte("No problems found")) {
				t.Errorf("%s: sgdisk: %v\n%s", d.Disk.Path, err, out)
			}
		}
	}
}

// Every refusal of a plan names what is wrong, by type for exit codes.
func TestRefusals(t *testing.T) {
	const one = "candidates:\n- name: a\n  disks:\n  - name: os\n"
	two := func(raid string) string {
		return one + "    count: 2\n    partitions: [{name: root, size: rest}]\n  raid: [{name: root, of: os/root, " + raid + "}]\n"
	}
	gpt := `{"table":{"kind":"gpt","partitions":[{"number":1,"start":1048576,"length":1073741824,"type":"` + typeLinux + `","uuid":"u1","label":"data"}]},"tableSector":512}`
	md := `{"members":[{"partition":0,"array":"0:1:2:3","name":"any:root","level":1,"metadata":"1.2"}]}`
	for _, tt := range []struct{ name, image, layout, disks, want string }{
		{"two disks for one", "uefi", one + "    scale: last\n", "/dev/sda 1T\n/dev/sdb 1T", `candidate "a": not taken: disks "os": 2 disks match: /dev/sda, /dev/sdb: wanted 1, and no pick says which`},
		{"no disk", "uefi", one + "    scale: last\n", "", "no disk matches: wanted 1"},
		{"smallest of alike ones", "uefi", one + "    pick: smallest\n    scale: last\n", "/dev/sda 1T\n/dev/sdb 1T", "are alike"},
		{"largest of alike ones", "uefi", one + "    pick: largest\n    scale: last\n", "/dev/sda 1T\n/dev/sdb 1T", "are alike"},
		{"unequal", "uefi", one + "    count: 2\n    equal: true\n    partitions: [{name: a, size: 1G}]\n", "/dev/sda 1T\n/dev/sdb 2T", "no 2 of them are equal"},
		{"two groups", "uefi", one + "    count: 2..\n    equal: true\n    partitions: [{name: a, size: 1G}]\n", "/dev/sda 1T\n/dev/sdb 1T\n/dev/sdc 2T\n/dev/sdd 2T", "are equal, and so are"},
		{"usb", "uefi", one + "    scale: last\n", "/dev/sda 1T usb", "removable: taken only when named"},
		{"mounted", "uefi", one + "    scale: last\n", `/dev/sda 1T {"inUse":"mounted on /"}`, "in use: mounted on /"},
		{"read-only", "uefi", one + "    scale: last\n", `/dev/sda 1T {"readOnly":true}`, "read-only"},
		{"array on it", "uefi", one + "    scale: last\n", "/dev/sda 1T " + md, `it belongs to the array "any:root": recreate: true`},
		{"array assembled", "uefi", one + "    scale: last\n", `/dev/sda 1T {"inUse":"part of md127","arrays":["md127"]}`, "in use: part of md127"},
		{"array mounted, recreate", "uefi", one + "    recreate: true\n    scale: last\n", `/dev/sda 1T {"inUse":"part of md127"}`, "in use: part of md127"},
		{"same disk twice", "uefi", one + "    scale: last\n  - {name: b, fs: ext4}\n", "/dev/sda 1T", `/dev/sda (belongs to disks os)`},
		{"too small", "uefi", one + "    scale: last\n", "/dev/sda 7G", "too small"},
		{"too small for fixed sizes", "uefi", one + "    partitions: [{name: root, image: 2}, {name: big, size: 1T}]\n", "/dev/sda 100G", `no room for partition "big": /dev/sda is too small`},
		{"too small for the rest", "uefi", one + "    partitions: [{name: root, image: 2}, {name: big, size: rest}]\n", "/dev/sda 6146M", `no room for partition "big"`},
		{"smaller than the image's partition", "uefi", one + "    partitions: [{name: root, image: 2, size: 1G}]\n", "/dev/sda 1T", "image: 2 does not fit"},
		{"root has no place", "uefi", one + "    partitions: [{name: esp, image: 1}]\n", "/dev/sda 1T", "nothing holds partition 2 of the image, its root file system"},
		{"no such partition", "uefi", one + "    partitions: [{name: root, image: 9}]\n", "/dev/sda 1T", `image: "9": the image has no such partition`},
		{"no such label", "uefi", one + "    partitions: [{name: root, image: rooot}]\n", "/dev/sda 1T", `image: "rooot": the image has no such partition`},
		{"whole of a table", "uefi", one + "    partitions: [{name: root, image: whole}]\n", "/dev/sda 1T", "whole means a bare file system"},
		{"partition of a bare image", "bare", one + "    partitions: [{name: root, image: 1}]\n", "/dev/sda 1T", "image: whole"},
		{"bare image without a place", "bare", one + "    partitions: [{name: x, size: 1G}]\n", "/dev/sda 1T", "nothing holds the image"},
		{"root on two disks", "uefi", one + "    count: 2\n    partitions: [{name: root, image: 2}]\n", "/dev/sda 1T\n/dev/sdb 1T", "make an array of them"},
		{"array too small for the image", "uefi", two("level: 1, image: 2"), "/dev/sda 5G\n/dev/sdb 5G", `array "root": image: 2 does not fit`},
		{"members too small", "uefi", one + "    count: 2\n    partitions: [{name: r, size: 1M}]\n  raid: [{name: r, of: os/r, level: 0, chunk: 2M}]\n", "/dev/sda 50G\n/dev/sdb 50G", `array "r": a member of 1048576 bytes is too small`},
		{"keep: not there", "uefi", one + "    partitions: [{name: root, image: 2}, {name: data, keep: true}]\n", "/dev/sda 1T", `partition "data" is to be kept, but the disk has no partition with the label "data"; keep: or-create would make it`},
		{"keep: wrong number", "uefi", one + "    partitions: [{name: root, image: 2}, {name: data, label: data, number: 2, keep: true}]\n", "/dev/sda 1T " + gpt, `with the number 2 and the label "data"`},
		{"keep: MBR", "uefi", one + "    partitions: [{name: root, image: 2}, {name: data, number: 1, keep: true}]\n", "/dev/sda 1T " + strings.Replace(gpt, `"gpt"`, `"mbr"`, 1), "only partitions of a GPT are kept"},
		{"keep: other sectors", "uefi", one + "    partitions: [{name: root, image: 2}, {name: data, keep: true}]\n", "/dev/sda 1T " + strings.Replace(gpt, `"tableSector":512`, `"tableSector":4096`, 1), "made for sectors of 4096 bytes"},
		{"keep: damaged table", "uefi", one + "    partitions: [{name: root, image: 2}, {name: data, keep: or-create, size: 1G}]\n", `/dev/sda 1T {"tableError":"the checksum of the header is wrong"}`, "cannot be trusted (the checksum of the header is wrong)"},
		{"keep: twice", "uefi", one + "    partitions: [{name: root, image: 2}, {name: data, keep: true}]\n",
			"/dev/sda 1T " + strings.Replace(gpt, `}]`, `},{"number":2,"start":2147483648,"length":1048576,"type":"`+typeLinux+`","label":"data"}]`, 1), "the disk has 2 partitions with the label"},
		{"keep: overlapped", "uefi", one + "    partitions: [{name: root, image: 2}, {name: data, keep: true}]\n",
			"/dev/sda 1T " + strings.Replace(gpt, `}]`, `},{"number":2,"start":2097152,"length":1048576,"type":"`+typeLinux+`","label":"x"}]`, 1), "it overlaps partition 2"},
		{"keep: in the way", "uefi", one + "    partitions: [{name: root, image: 2}, {name: data, keep: true}]\n",
			"/dev/sda 9G " + strings.Replace(gpt, `"start":1048576`, `"start":4294967296`, 1), `no room for partition "root" (6.0 GiB) beside the partitions that stay`},
		{"keep: inside the new table's room", "uefi", one + "    partitions: [{name: root, image: 2}, {name: data, keep: true}]\n",
			"/dev/sda 1T " + strings.Replace(gpt, `"start":1048576`, `"start":16384`, 1), "and the new table leaves 17408"},
		{"keep elsewhere protects", "uefi", "candidates:\n- name: a\n  disks: [{name: os, select: transport=nvme, partitions: [{name: data, keep: true}]}]\n- name: b\n  disks: [{name: os, scale: last}]\n",
			"/dev/sda 1T sata " + gpt, `its partition 1, "data", is kept`},
		{"BIOS boot partition on 4096", "cloud", one + "    partitions: [{name: bios, image: 14}, {name: root, image: 1}]\n", "/dev/sda 1T 4k", "the boot code of the image counts in sectors of 512"},
		{"MBR on 4096", "mbr", one + "    scale: last\n", "/dev/sda 1T 4k", "the image has an MBR, made for sectors of 512 bytes"},
		{"BIOS image on 4096", "cloud", one + "    scale: last\n", "/dev/sda 1T 4k", "the boot code counts in sectors"},
		{"exact: the file system is longer", "slack", one + "    scale: exact\n", "/dev/sda 1400M", "its ext4 has 1073741824 bytes, and there is room for"},
		{"exact: unknown length", "uefi", one + "    scale: exact\n", "/dev/sda 7000M", "it is not known how long its swap is"},
		{"exact: behind the end", "slack", one + "    scale: exact\n", "/dev/sda 400M", "partition 1: it is not known how long its vfat is"},
		{"ESP in an array of untyped members", "uefi", two("level: 1, metadata: 1.0, image: 1"), "/dev/sda 1T\n/dev/sdb 1T", "are partitions with type: esp, in level 1"},
		{"ESP in an array of Linux partitions", "uefi", strings.Replace(two("level: 1, metadata: 1.0, image: 1"), "name: root,", "name: root, type: linux,", 1),
			"/dev/sda 1T\n/dev/sdb 1T", "are partitions with type: esp, in level 1"},
		{"ESP in an array of whole disks", "uefi", one + "    count: 2\n  raid: [{name: esp, of: os, level: 1, metadata: 1.0, image: 1}]\n", "/dev/sda 1T\n/dev/sdb 1T", "are partitions with type: esp"},
		{"ESP behind a superblock", "uefi", two("level: 1, image: 1"), "/dev/sda 1T\n/dev/sdb 1T", `with metadata "1.0"`},
		{"BIOS boot partition in an array", "cloud", strings.Replace(two("level: 1, metadata: 1.0, image: 14"), "name: root,", "name: root, type: bios,", 1),
			"/dev/sda 1T\n/dev/sdb 1T", "knows nothing of arrays"},
		{"two sets with one mount path", "uefi", one + "    scale: last\n    select: transport=sata\n  - {name: a, count: 0..1, select: transport=nvme, fs: xfs, mount: /data}\n  - {name: b, count: 0..1, select: transport=sas, fs: xfs, mount: /data}\n",
			"/dev/sda 1T sata\n/dev/nvme0n1 1T nvme\n/dev/sdb 1T sas", `disks[2].mount: "/data": another place has this too`},
		{"a number with the mount path of a name", "uefi", one + "    scale: last\n    select: transport=sata\n  - {name: a, count: 2.., select: transport=nvme, fs: xfs, mount: \"/data{n}\"}\n  - {name: b, select: transport=sas, fs: xfs, mount: /data2}\n",
			"/dev/sda 1T sata\n/dev/nvme0n1 1T nvme\n/dev/nvme1n1 1T nvme\n/dev/sdb 1T sas", `disks[2].mount: "/data2": another place has this too`},
		{"one part of the image twice", "uefi", one + "    partitions: [{name: a, image: 2}, {name: b, image: root}]\n", "/dev/sda 1T", "image: root has another place already"},
		{"BIOS boot partition over a kept one", "cloud", one + "    partitions: [{name: data, keep: true}, {name: bios, image: 14}, {name: root, image: 1}]\n", "/dev/sda 1T " + gpt, `partitions "data" and "bios" cannot be moved, and overlap`},
		{"number taken by the kept one", "uefi", one + "    partitions: [{name: root, image: 2, number: 1}, {name: data, keep: true}]\n", "/dev/sda 1T " + gpt, `partitions "data" and "root" would both have the number 1`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := Parse("l.yaml", []byte(tt.layout))
			if err != nil {
				t.Fatal(err)
			}
			p, err := l.Plan(parseDisks(t, tt.disks), layout.Image{Manifest: images[tt.image]()})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, %+v\nwant %s", err, p, tt.want)
			}
			var none *layout.NoCandidateError
			var refused *layout.RefusedError
			var small *disk.TooSmallError
			if !errors.As(err, &none) && !errors.As(err, &refused) && !errors.As(err, &small) {
				t.Errorf("%T: an error without a class: %v", err, err)
			}
		})
	}
}
