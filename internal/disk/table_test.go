package disk

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"swarmboot/imagefmt"
)

const (
	diskGUID  = "6C4F5C6E-23D5-4B5E-9C67-0E3A5C3A0001"
	linuxGUID = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
	espGUID   = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
)

// gptPartitions is an ESP and, with a gap in the numbers, a Linux partition, length bytes each.
func gptPartitions(start, length int64) []imagefmt.Partition {
	return []imagefmt.Partition{
		{Number: 1, Start: start, Length: length, Type: espGUID, UUID: "6C4F5C6E-23D5-4B5E-9C67-0E3A5C3A0011", Label: "EFI-System", Attributes: 1},
		{Number: 5, Start: start + length, Length: length, Type: linuxGUID, UUID: "6C4F5C6E-23D5-4B5E-9C67-0E3A5C3A0055", Label: "Wurzel-ß-根", Attributes: 1 << 60},
	}
}

// sfdiskTable is the part of sfdisk -J that is compared.
type sfdiskTable struct {
	PartitionTable struct {
		Label, ID  string
		LastLBA    int64
		SectorSize int64
		Partitions []struct {
			Node, Type, UUID, Name, Attrs string
			Start, Size                   int64
			Bootable                      bool
		}
	}
}

func sfdiskJSON(t *testing.T, path string) sfdiskTable {
	t.Helper()
	var s sfdiskTable
	if err := json.Unmarshal(stdout(t, "sfdisk", "-J", path), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func checkSfdisk(t *testing.T, path string, table imagefmt.Table, sector int64) {
	t.Helper()
	s := sfdiskJSON(t, path).PartitionTable
	if len(s.Partitions) != len(table.Partitions) {
		t.Fatalf("sfdisk sees %d partitions, want %d", len(s.Partitions), len(table.Partitions))
	}
	for i, p := range table.Partitions {
		g := s.Partitions[i]
		if !strings.HasSuffix(g.Node, fmt.Sprint(p.Number)) || g.Start*sector != p.Start || g.Size*sector != p.Length || g.Bootable != p.Bootable {
			t.Errorf("sfdisk sees %+v, want %+v", g, p)
		}
		if table.Kind == imagefmt.TableGPT && (g.Type != p.Type || g.UUID != p.UUID || g.Name != p.Label || (g.Attrs != "") != (p.Attributes != 0)) {
			t.Errorf("sfdisk sees %+v, want %+v", g, p)
		}
	}
}

func TestWriteGPT(t *testing.T) {
	boot := bytes.Repeat([]byte{0xeb, 0x63}, 220)
	for _, size := range []int64{40 * mib, 40*mib + 512, 999_999_999, 3 << 40, 10 << 40, 100 << 40} {
		t.Run(FormatSize(size), func(t *testing.T) {
			p := sparse(t, size)
			d := open(t, p)
			table := imagefmt.Table{Kind: imagefmt.TableGPT, GUID: diskGUID, BootCode: boot, Partitions: gptPartitions(mib, 16*mib)}
			if size > 1<<40 { // and one that ends beyond 2 TiB
				table.Partitions[1].Length = size - 34*mib
			}
			if err := WriteTable(d, table); err != nil {
				t.Fatal(err)
			}
			if out := run(t, "sgdisk", "-v", p); !strings.Contains(out, "No problems found") {
				t.Error(out)
			}
			if out := run(t, "sfdisk", "--verify", p); strings.Contains(out, "ackup") || !strings.Contains(out, "No errors detected") {
				t.Error(out)
			}
			checkProtectiveMBR(t, p, size/512)
			checkSfdisk(t, p, table, 512)
			if s := sfdiskJSON(t, p).PartitionTable; s.ID != diskGUID || s.LastLBA != size/512-34 {
				t.Errorf("disk %s, last usable sector %d; want %s, %d", s.ID, s.LastLBA, diskGUID, size/512-34)
			}
			b := make([]byte, 512)
			if _, err := d.ReadAt(b, 0); err != nil || !bytes.Equal(b[:440], boot) {
				t.Errorf("boot code differs (%v)", err)
			}
		})
	}
}

// The same with sectors of 4096 bytes, to 100 TiB. sgdisk and sfdisk must be told of the sector size by a block device.
func TestWriteGPT4096(t *testing.T) {
	for _, size := range []int64{64 * mib, 3 << 40, 10 << 40, 100 << 40} {
		t.Run(FormatSize(size), func(t *testing.T) {
			dev := loop(t, sparse(t, size), "-b", "4096")
			d := open(t, dev)
			if d.SectorSize() != 4096 {
				t.Fatalf("sector size %d", d.SectorSize())
			}
			table := imagefmt.Table{Kind: imagefmt.TableGPT, GUID: diskGUID, Partitions: gptPartitions(mib, 16*mib)}
			if size > 1<<40 {
				table.Partitions[1].Length = size - 34*mib
			}
			if err := WriteTable(d, table); err != nil {
				t.Fatal(err)
			}
			if err := d.RereadTable(); err != nil {
				t.Fatal(err)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			if out := run(t, "sgdisk", "-v", dev); !strings.Contains(out, "No problems found") {
				t.Error(out)
			}
			if out := run(t, "sfdisk", "--verify", dev); strings.Contains(out, "ackup") || !strings.Contains(out, "No errors detected") {
				t.Error(out)
			}
			checkSfdisk(t, dev, table, 4096)
			if s := sfdiskJSON(t, dev).PartitionTable; s.LastLBA != size/4096-6 {
				t.Errorf("last usable sector %d, want %d", s.LastLBA, size/4096-6)
			}
			want := fmt.Sprint(table.Partitions[1].Length)
			if got := strings.TrimSpace(run(t, "blockdev", "--getsize64", PartitionPath(dev, 5))); got != want {
				t.Errorf("the kernel says that partition 5 has %s bytes, want %s", got, want)
			}
			checkProtectiveMBR(t, dev, size/4096)
		})
	}
}

// checkProtectiveMBR looks at UEFI 2.10, 5.2.3: one partition of type 0xee from sector 1 over the whole disk, or 2^32-1 sectors.
func checkProtectiveMBR(t *testing.T, path string, sectors int64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 512)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	e := b[446:462]
	first, n := binary.LittleEndian.Uint32(e[8:]), binary.LittleEndian.Uint32(e[12:])
	if e[4] != 0xee || first != 1 || int64(n) != min(sectors-1, 1<<32-1) || len(bytes.Trim(b[462:510], "\x00")) > 0 || b[510] != 0x55 || b[511] != 0xaa {
		t.Errorf("the protective MBR says % x", b[446:])
	}
}

func TestWriteMBR(t *testing.T) {
	boot := bytes.Repeat([]byte{0xfa, 0x31}, 220)
	for _, size := range []int64{64 * mib, 3 << 40} {
		p := sparse(t, size)
		d := open(t, p)
		table := imagefmt.Table{Kind: imagefmt.TableMBR, BootCode: boot, DiskSignature: "0badcafe", Partitions: []imagefmt.Partition{
			{Number: 1, Start: mib, Length: 16 * mib, Type: "0x83", Bootable: true},
			{Number: 3, Start: 17 * mib, Length: 32 * mib, Type: "0xc"},
		}}
		if err := WriteTable(d, table); err != nil {
			t.Fatal(err)
		}
		if out := run(t, "sfdisk", "--verify", p); !strings.Contains(out, "No errors detected") {
			t.Error(out)
		}
		checkSfdisk(t, p, table, 512)
		s := sfdiskJSON(t, p).PartitionTable
		if s.Label != "dos" || s.ID != "0x0badcafe" || s.Partitions[0].Type != "83" || s.Partitions[1].Type != "c" {
			t.Errorf("sfdisk sees %+v", s)
		}
		b := make([]byte, 512)
		if _, err := d.ReadAt(b, 0); err != nil || !bytes.Equal(b[:440], boot) {
			t.Errorf("boot code differs (%v)", err)
		}
	}
}

// sfdisk writes the same bytes for the same table, disk addresses for old firmware included.
func TestMBRIsLikeSfdisks(t *testing.T) {
	ours, theirs := sparse(t, 64*mib), sparse(t, 64*mib)
	script := "label: dos\nlabel-id: 0x0badcafe\nstart=2048, size=32768, type=83, bootable\nstart=34816, size=65536, type=c\n"
	run(t, "sh", "-c", "printf '"+strings.ReplaceAll(script, "\n", `\n`)+"' | sfdisk -q "+theirs)
	d := open(t, ours)
	err := WriteTable(d, imagefmt.Table{Kind: imagefmt.TableMBR, DiskSignature: "0badcafe", Partitions: []imagefmt.Partition{
		{Number: 1, Start: mib, Length: 16 * mib, Type: "0x83", Bootable: true}, {Number: 2, Start: 17 * mib, Length: 32 * mib, Type: "0x0c"}}})
	if err != nil {
		t.Fatal(err)
	}
	a, b := head(t, ours), head(t, theirs)
	if !bytes.Equal(a, b) {
		t.Errorf("ours   % x\ntheirs % x", a[440:], b[440:])
	}
}

func head(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b[:512]
}

// Every refusal leaves the disk as it was.
func TestWriteTableRefuses(t *testing.T) {
	change := func(f func(*imagefmt.Table)) imagefmt.Table {
		table := imagefmt.Table{Kind: imagefmt.TableGPT, GUID: diskGUID, Partitions: gptPartitions(mib, 16*mib)}
		f(&table)
		return table
	}
	tests := map[string]imagefmt.Table{
		"unknown kind":     change(func(t *imagefmt.Table) { t.Kind = "apm" }),
		"overlap":          change(func(t *imagefmt.Table) { t.Partitions[1].Start = 2 * mib }),
		"number twice":     change(func(t *imagefmt.Table) { t.Partitions[1].Number = 1 }),
		"number 129":       change(func(t *imagefmt.Table) { t.Partitions[1].Number = 129 }),
		"number 0":         change(func(t *imagefmt.Table) { t.Partitions[1].Number = 0 }),
		"unaligned":        change(func(t *imagefmt.Table) { t.Partitions[1].Start++ }),
		"inside the table": change(func(t *imagefmt.Table) { t.Partitions[0].Start = 33 * 512 }),
		"negative":         change(func(t *imagefmt.Table) { t.Partitions[0].Start = -mib }),
		"overflow":         change(func(t *imagefmt.Table) { t.Partitions[1].Length = 1<<63 - 512 }),
		"beyond the end":   change(func(t *imagefmt.Table) { t.Partitions[1].Length = 64 * mib }),
		"in the backup":    change(func(t *imagefmt.Table) { t.Partitions[1].Length = 64*mib - 17*mib }),
		"type unused":      change(func(t *imagefmt.Table) { t.Partitions[0].Type = "00000000-0000-0000-0000-000000000000" }),
		"type of an MBR":   change(func(t *imagefmt.Table) { t.Partitions[0].Type = "0x83" }),
		"UUID":             change(func(t *imagefmt.Table) { t.Partitions[0].UUID = "x" }),
		"disk GUID":        change(func(t *imagefmt.Table) { t.GUID = "x" }),
		"label":            change(func(t *imagefmt.Table) { t.Partitions[0].Label = strings.Repeat("😀", 36) }),
		"boot code":        change(func(t *imagefmt.Table) { t.BootCode = make([]byte, 441) }),
		"MBR with GUID":    change(func(t *imagefmt.Table) { t.Kind = imagefmt.TableMBR }),
		"MBR signature":    {Kind: imagefmt.TableMBR, DiskSignature: "nope"},
		"MBR sector 0":     {Kind: imagefmt.TableMBR, Partitions: []imagefmt.Partition{{Number: 1, Length: mib, Type: "0x83"}}},
	}
	for name, table := range tests {
		t.Run(name, func(t *testing.T) {
			p := sparse(t, 64*mib)
			err := WriteTable(open(t, p), table)
			if err == nil {
				t.Fatal("accepted")
			}
			var small *TooSmallError
			if beyond := name == "beyond the end" || name == "in the backup"; beyond != errors.As(err, &small) {
				t.Errorf("got %v", err)
			}
			b, _ := os.ReadFile(p)
			if len(bytes.Trim(b, "\x00")) > 0 {
				t.Error("something was written")
			}
		})
	}
}
