package disk

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/filetest"
)

// seen lists the partitions that sfdisk sees, by UUID with their place, and what it complains of.
func seen(t *testing.T, path string) (parts map[string]string, complaint string) {
	t.Helper()
	var errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "sfdisk", "-J", path)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("sfdisk: %v\n%s", err, &errs)
	}
	var s sfdiskTable
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatal(err)
	}
	parts = map[string]string{}
	for _, p := range s.PartitionTable.Partitions {
		parts[p.UUID] = fmt.Sprintf("%s %d+%d %s %s", p.Node[len(p.Node)-1:], p.Start, p.Size, p.Type, p.Name)
	}
	return parts, errs.String()
}

// TestReplaceTable cuts the power after every write, and in the middle of every write of more than a sector: the partition that is in
// both tables is always there, in the copy that a kernel reads unless there is no room to keep that one whole.
func TestReplaceTable(t *testing.T) {
	const size = 64 * mib
	old := gptPartitions(mib, 16*mib)
	for _, c := range []struct {
		name    string
		start   int64 // of the first partition
		damaged bool  // the primary copy is
	}{
		{name: "gap", start: mib},
		{name: "just enough room", start: 66 * 512},
		{name: "no room", start: 65 * 512},
		{name: "damaged", start: mib, damaged: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := sparse(t, size)
			d := open(t, p)
			table := imagefmt.Table{Kind: imagefmt.TableGPT, GUID: diskGUID, BootCode: bytes.Repeat([]byte{0xeb}, 440), Partitions: old}
			table.Partitions[0].Start, table.Partitions[0].Length = c.start, mib
			if err := WriteTable(d, table); err != nil {
				t.Fatal(err)
			}
			if c.damaged {
				if _, err := d.WriteAt(make([]byte, 128), 1024); err != nil {
					t.Fatal(err)
				}
			}
			before, _ := seen(t, p)
			kept := table.Partitions[1].UUID
			staged := imagefmt.Table{Kind: imagefmt.TableGPT, GUID: diskGUID, Partitions: table.Partitions[1:2]}
			cut(t, d, p, staged, func(when string) {
				now, complaint := seen(t, p)
				if now[kept] != before[kept] || now[kept] == "" {
					t.Errorf("%s: the kept partition is %q, was %q", when, now[kept], before[kept])
				}
				if len(now) != 1 && len(now) != len(before) {
					t.Errorf("%s: %v is neither the old table nor the new one", when, now)
				}
				if strings.Contains(complaint, "primary GPT table is corrupt") && c.name != "no room" && !c.damaged {
					t.Errorf("%s: the primary copy is damaged: %s", when, complaint)
				}
			})
			// And on to another table with the kept one, from the state that the first has left.
			final := staged
			final.Partitions = append(final.Partitions, imagefmt.Partition{Number: 2, Start: 40 * mib, Length: mib, Type: linuxGUID, UUID: "6C4F5C6E-23D5-4B5E-9C67-0E3A5C3A0022"})
			cut(t, d, p, final, func(when string) {
				if now, _ := seen(t, p); now[kept] != before[kept] {
					t.Errorf("%s: the kept partition is %q, was %q", when, now[kept], before[kept])
				}
			})
			if out := run(t, "sgdisk", "-v", p); !strings.Contains(out, "No problems found") {
				t.Error(out)
			}
			checkSfdisk(t, p, imagefmt.Table{Kind: imagefmt.TableGPT, Partitions: []imagefmt.Partition{final.Partitions[1], final.Partitions[0]}}, 512)
		})
	}
}

// cut replaces the table on the disk, as often as it takes to have stopped after each write and in the middle of each. After every
// such stop it goes on from there: what a second run finds is what the first has left.
func cut(t *testing.T, d *Device, path string, table imagefmt.Table, check func(when string)) {
	t.Helper()
	original, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	writes, err := planReplace(d, table)
	if err != nil {
		t.Fatal(err)
	}
	for stop := range writes {
		for _, half := range []bool{false, true} {
			if half && len(writes[stop].b) <= 512 {
				continue // a sector is written or not
			}
			if _, err := d.WriteAt(original, 0); err != nil {
				t.Fatal(err)
			}
			for i, w := range writes[:stop+1] {
				b := w.b
				if half && i == stop {
					b = append(bytes.Repeat([]byte{0x5a}, 512), b[512:len(b)/2]...)
				}
				if _, err := d.WriteAt(b, w.off); err != nil {
					t.Fatal(err)
				}
			}
			check(fmt.Sprintf("write %d, half %v", stop, half))
			if err := ReplaceTable(d, table); err != nil {
				t.Errorf("write %d, half %v: and again: %v", stop, half, err)
			}
			check(fmt.Sprintf("write %d, half %v, and again", stop, half))
		}
	}
	if err := ReplaceTable(d, table); err != nil {
		t.Fatal(err)
	}
}

// The entry of a partition that stays is the same bytes afterwards, also where its name has what an inventory does not show; a partition that comes in the
// place of another has its own name.
func TestReplaceTableKeepsNames(t *testing.T) {
	p := sparse(t, 64*mib)
	run(t, "sgdisk", "-n", "1:2048:+8M", "-c", "1:old\u00a0name", "-n", "3:20480:+32M", "-t", "3:8309", "-c", "3:Daten\u00a0\ue000\U0001f4be\U000f0000 ß", "-A", "3:set:63", p)
	entry := func(n int) string { return string(filetest.Read(t, p, 1024+128*int64(n-1), 128)) }
	kept, old := entry(3), entry(1)
	table := inventory(t, p).Table
	if got := table.Partitions[1].Label; got != "Daten\ufffd\ufffd\U0001f4be\ufffd ß" {
		t.Errorf("the inventory says %q", got)
	}
	d := open(t, p)
	for _, label := range []string{"old\ufffd name", "new", "old\ufffdname"} {
		table.Partitions[0].Label = label
		staged := table
		staged.Partitions = table.Partitions[1:]
		for _, next := range []imagefmt.Table{staged, table, table} {
			if err := ReplaceTable(d, next); err != nil {
				t.Fatal(err)
			}
			if entry(3) != kept {
				t.Errorf("%s: the kept entry is %x, was %x", label, entry(3), kept)
			}
			if out := run(t, "sgdisk", "-v", p); !strings.Contains(out, "No problems found") {
				t.Error(out)
			}
			if backup := filetest.Read(t, p, 64*mib-33*512+2*128, 128); string(backup) != kept {
				t.Errorf("%s: the backup has %x, was %x", label, backup, kept)
			}
		}
		if got := inventory(t, p).Table.Partitions[0].Label; got != label || entry(1) == old {
			t.Errorf("the partition that comes is called %q, want %q", got, label)
		}
	}
}

// A table of another kind, or none, has nothing to be kept: the disk stays as it was.
func TestReplaceTableRefuses(t *testing.T) {
	gpt := imagefmt.Table{Kind: imagefmt.TableGPT, GUID: diskGUID, Partitions: gptPartitions(mib, mib)}
	mbr := imagefmt.Table{Kind: imagefmt.TableMBR, DiskSignature: "12345678", Partitions: []imagefmt.Partition{{Number: 2, Start: mib, Length: mib, Type: "0x83"}}}
	for name, c := range map[string]struct{ has, want imagefmt.Table }{
		"blank, GPT":   {imagefmt.Table{Kind: imagefmt.TableNone}, gpt},
		"blank, MBR":   {imagefmt.Table{Kind: imagefmt.TableNone}, mbr},
		"MBR, GPT":     {mbr, gpt},
		"GPT, MBR":     {gpt, mbr},
		"GPT, nothing": {gpt, imagefmt.Table{Kind: imagefmt.TableNone}},
	} {
		p := sparse(t, 16*mib)
		d := open(t, p)
		if err := WriteTable(d, c.has); err != nil {
			t.Fatal(err)
		}
		before, _ := os.ReadFile(p)
		if err := ReplaceTable(d, c.want); err == nil {
			t.Errorf("%s: no error", name)
		}
		if after, _ := os.ReadFile(p); !bytes.Equal(before, after) {
			t.Errorf("%s: the disk was written to", name)
		}
	}
	d := open(t, sparse(t, 16*mib))
	if err := WriteTable(d, mbr); err != nil {
		t.Fatal(err)
	}
	if err := ReplaceTable(d, mbr); err != nil {
		t.Errorf("MBR by MBR: %v", err)
	}
}

func TestLists(t *testing.T) {
	gpt := imagefmt.Table{Kind: imagefmt.TableGPT, GUID: diskGUID, Partitions: gptPartitions(mib, mib)}
	mbr := imagefmt.Table{Kind: imagefmt.TableMBR, DiskSignature: "12345678", Partitions: []imagefmt.Partition{{Number: 2, Start: mib, Length: mib, Type: "0x83"}}}
	for _, table := range []imagefmt.Table{gpt, mbr} {
		d := open(t, sparse(t, 16*mib))
		if err := WriteTable(d, table); err != nil {
			t.Fatal(err)
		}
		if table.Kind == imagefmt.TableGPT { // the backup is as good
			if _, err := d.WriteAt([]byte{1}, 512+90); err != nil {
				t.Fatal(err)
			}
		}
		if ok, err := d.Lists(table.Kind, table.Partitions); !ok || err != nil {
			t.Errorf("%s: %v, %v", table.Kind, ok, err)
		}
		p := table.Partitions[len(table.Partitions)-1]
		for name, q := range map[string]imagefmt.Partition{
			"number": {Number: p.Number + 1, Start: p.Start, Length: p.Length, UUID: p.UUID}, "start": {Number: p.Number, Start: p.Start + 512, Length: p.Length, UUID: p.UUID},
			"length": {Number: p.Number, Start: p.Start, Length: p.Length - 512, UUID: p.UUID}, "far": {Number: 200, Start: p.Start, Length: p.Length, UUID: p.UUID},
		} {
			if ok, err := d.Lists(table.Kind, []imagefmt.Partition{q}); ok || err != nil {
				t.Errorf("%s, another %s: %v, %v", table.Kind, name, ok, err)
			}
		}
	}
	other := gptPartitions(mib, mib)[:1]
	d := open(t, sparse(t, 16*mib))
	if err := WriteTable(d, gpt); err != nil {
		t.Fatal(err)
	}
	other[0].UUID = diskGUID
	if ok, err := d.Lists(gpt.Kind, other); ok || err != nil {
		t.Errorf("another UUID: %v, %v", ok, err)
	}
	if _, err := open(t, sparse(t, 16*mib)).Lists(gpt.Kind, other); err == nil {
		t.Error("a blank disk: no error")
	}
}
