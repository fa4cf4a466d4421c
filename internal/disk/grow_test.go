package disk

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/looptest"
)

const gib = 1 << 30

func anything(imagefmt.Partition) error { return nil }

// growingGPT is gptPartitions with the second one not marked read-only.
func growingGPT(start, length int64) imagefmt.Table {
	table := imagefmt.Table{Kind: imagefmt.TableGPT, GUID: diskGUID, Partitions: gptPartitions(start, length)}
	table.Partitions[1].Attributes = 1 << 59
	return table
}

func mbrTable(parts ...imagefmt.Partition) imagefmt.Table {
	return imagefmt.Table{Kind: imagefmt.TableMBR, DiskSignature: "0badcafe", Partitions: parts}
}

// Every grown table is one that WriteTable takes and that foreign tools find in order.
func TestGrow(t *testing.T) {
	gpt := growingGPT
	unsorted := gpt(mib, 16*mib)
	slices.Reverse(unsorted.Partitions)
	for _, tt := range []struct {
		name   string
		table  imagefmt.Table
		disk   int64
		number int
		end    int64
	}{
		{"gpt", gpt(mib, 16*mib), gib, 5, gib - mib},
		{"gpt, last one first in the table", unsorted, gib, 5, gib - mib},
		{"gpt, odd size", gpt(mib, 16*mib), gib + 3*mib + 12345*512 + 77, 5, gib + 9*mib},
		{"gpt, the backup just fits", gpt(mib, 16*mib), gib + 33*512, 5, gib},
		{"gpt, the backup just does not fit", gpt(mib, 16*mib), gib + 33*512 - 1, 5, gib - mib},
		{"gpt, one MiB", gpt(mib, 16*mib), 35 * mib, 5, 34 * mib},
		{"gpt, 3 TiB", gpt(mib, 16*mib), 3 << 40, 5, 3<<40 - mib},
		{"gpt, 100 TiB", gpt(mib, 16*mib), 100 << 40, 5, 100<<40 - mib},
		{"gpt, unaligned start", gpt(mib+512, 16*mib), gib, 5, gib - mib},
		{"mbr", mbrTable(imagefmt.Partition{Number: 1, Start: mib, Length: 30 * mib, Type: "0x83"}), gib, 1, gib},
		{"mbr, 2 TiB is the end", mbrTable(imagefmt.Partition{Number: 1, Start: mib, Length: 30 * mib, Type: "0x83"}), 3 << 40, 1, 2<<40 - mib},
		{"mbr, primary behind an extended one", mbrTable(imagefmt.Partition{Number: 1, Start: mib, Length: 8 * mib, Type: "0x5"},
			imagefmt.Partition{Number: 2, Start: 9 * mib, Length: 8 * mib, Type: "0x83"}), gib, 2, gib},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := fmt.Sprint(tt.table)
			grown, p, err := Grow(tt.table, Space{Disk: tt.disk, Image: 34 * mib, Sector: 512}, anything)
			if err != nil {
				t.Fatal(err)
			}
			if p.Number != tt.number || p.Start+p.Length != tt.end {
				t.Errorf("partition %d ends at %d; want %d, %d", p.Number, p.Start+p.Length, tt.number, tt.end)
			}
			if fmt.Sprint(tt.table) != before {
				t.Error("the image's own table was changed")
			}
			for i, old := range tt.table.Partitions {
				want := old
				if old.Number == tt.number {
					want.Length = tt.end - old.Start
				}
				if !reflect.DeepEqual(grown.Partitions[i], want) {
					t.Errorf("got %+v, want %+v", grown.Partitions[i], want)
				}
			}
			path := sparse(t, tt.disk)
			if err := WriteTable(open(t, path), grown); err != nil {
				t.Fatal(err)
			}
			if out := run(t, "sfdisk", "--verify", path); !strings.Contains(out, "No errors detected") {
				t.Error(out)
			}
			if grown.Kind == imagefmt.TableGPT {
				if out := run(t, "sgdisk", "-v", path); !strings.Contains(out, "No problems found") {
					t.Error(out)
				}
			}
			s := sfdiskJSON(t, path).PartitionTable.Partitions
			i := slices.IndexFunc(s, func(p struct {
				Node, Type, UUID, Name, Attrs string
				Start, Size                   int64
				Bootable                      bool
			}) bool {
				return strings.HasSuffix(p.Node, fmt.Sprint("disk", tt.number))
			})
			if i < 0 || (s[i].Start+s[i].Size)*512 != tt.end {
				t.Errorf("sfdisk sees %+v", s)
			}
		})
	}
}

func TestGrow4096(t *testing.T) {
	table := growingGPT(mib, 16*mib)
	dev := loop(t, sparse(t, 64*mib+5*4096), "-b", "4096")
	d := open(t, dev)
	grown, p, err := Grow(table, Space{Disk: d.Size(), Image: 34 * mib, Sector: d.SectorSize()}, anything)
	if err != nil || p.Start+p.Length != 64*mib {
		t.Fatalf("ends at %d, %v", p.Start+p.Length, err)
	}
	if err := WriteTable(d, grown); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if out := run(t, "sgdisk", "-v", dev); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
}

func TestGrowBareFileSystem(t *testing.T) {
	_, p, err := Grow(imagefmt.Table{Kind: imagefmt.TableNone}, Space{Disk: gib + 1, Image: gib, Sector: 512}, anything)
	if err != nil || p.Number != 0 || p.Start != 0 || p.Length != gib+1 {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestNotGrown(t *testing.T) {
	gpt := func(change func(*imagefmt.Partition)) imagefmt.Table {
		table := growingGPT(mib, 16*mib)
		change(&table.Partitions[1])
		return table
	}
	as := func(kind string) imagefmt.Table { return gpt(func(p *imagefmt.Partition) { p.Type = kind }) }
	plain := gpt(func(*imagefmt.Partition) {})
	swap := errors.New("what is in it cannot grow")
	for _, tt := range []struct {
		name  string
		table imagefmt.Table
		disk  int64
		can   func(imagefmt.Partition) error
		want  string
	}{
		{"same size", plain, 40 * mib, anything, "not larger than the image's"},
		{"smaller", plain, 36 * mib, anything, "not larger than the image's"},
		{"content", plain, gib, func(imagefmt.Partition) error { return swap }, "partition 5: what is in it cannot grow"},
		{"content of a bare disk", imagefmt.Table{Kind: imagefmt.TableNone}, gib, func(imagefmt.Partition) error { return swap }, "cannot grow"},
		{"no partitions", imagefmt.Table{Kind: imagefmt.TableGPT}, gib, anything, "no partitions"},
		{"RAID", as("a19d880f-05fc-4d3b-a006-743f0f84911e"), gib, anything, "part of RAID"},
		{"LVM", as("E6D6D379-F507-44C2-A23C-238F2A3DF928"), gib, anything, "part of LVM"},
		{"read-only", gpt(func(p *imagefmt.Partition) { p.Attributes = 1 << 60 }), gib, anything, "read-only"},
		{"MBR LVM", mbrTable(imagefmt.Partition{Number: 1, Start: mib, Length: mib, Type: "0x8e"}), gib, anything, "part of LVM"},
		{"MBR RAID", mbrTable(imagefmt.Partition{Number: 1, Start: mib, Length: mib, Type: "0xfd"}), gib, anything, "part of RAID"},
		{"extended", mbrTable(imagefmt.Partition{Number: 1, Start: mib, Length: mib, Type: "0x83"},
			imagefmt.Partition{Number: 2, Start: 2 * mib, Length: mib, Type: "0x0f"}), gib, anything, "logical"},
		{"logical", mbrTable(imagefmt.Partition{Number: 5, Start: 2 * mib, Length: mib, Type: "0x83"},
			imagefmt.Partition{Number: 2, Start: mib, Length: 2 * mib, Type: "0x05"}), gib, anything, "logical"},
		{"MBR full", mbrTable(imagefmt.Partition{Number: 1, Start: mib, Length: 2<<40 - 2*mib, Type: "0x83"}), 3 << 40, anything, "no room"},
		{"less than a MiB more", gpt(func(p *imagefmt.Partition) { p.Length = 24*mib - 33*512 }), 41*mib + 512, anything, "no room"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, p, err := Grow(tt.table, Space{Disk: tt.disk, Image: 40 * mib, Sector: 512}, tt.can)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("grew %+v, error %v; want %q", p, err, tt.want)
			}
			if !reflect.DeepEqual(got, tt.table) {
				t.Errorf("the table was changed: %+v", got)
			}
		})
	}
}

// A loop device made without partitions does not re-read a table: partitions of the last one must not stay as they were.
func TestRereadTableReplacesOldPartitions(t *testing.T) {
	dev := looptest.Attach(t, sparse(t, 128*mib))
	d := open(t, dev)
	small := growingGPT(mib, 16*mib)
	shifted := growingGPT(9*mib, 16*mib) // each partition overlaps both old ones
	shifted.Partitions = append(shifted.Partitions, imagefmt.Partition{Number: 7, Start: 41 * mib, Length: mib, Type: linuxGUID})
	grown, _, err := Grow(small, Space{Disk: 128 * mib, Image: 64 * mib, Sector: 512}, anything)
	if err != nil {
		t.Fatal(err)
	}
	for i, table := range []imagefmt.Table{small, grown, shifted, small, {Kind: imagefmt.TableGPT, GUID: diskGUID}} {
		if err := WriteTable(d, table); err != nil {
			t.Fatal(err)
		}
		if err := d.RereadTable(); err != nil {
			t.Fatal(err)
		}
		for _, p := range table.Partitions {
			if got := strings.TrimSpace(run(t, "blockdev", "--getsize64", PartitionPath(d.Path(), p.Number))); got != fmt.Sprint(p.Length) {
				t.Errorf("table %d: partition %d has %s bytes, want %d", i, p.Number, got, p.Length)
			}
		}
		found, err := filepath.Glob("/sys/class/block/" + filepath.Base(dev) + "p*")
		if err != nil || len(found) != len(table.Partitions) {
			t.Errorf("table %d: the kernel has %v (%v)", i, found, err)
		}
	}
}
