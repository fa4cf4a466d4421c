package layout

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/disk"
)

// machine makes disks at random, some with a table, and a layout and an image for them.
func machine(r *rand.Rand) (*Layout, []disk.Inventory, Image) {
	var inv []disk.Inventory
	for i := range 1 + r.IntN(6) {
		d := disk.Inventory{Table: imagefmt.Table{Kind: imagefmt.TableNone}}
		d.Path, d.Serial = fmt.Sprintf("/dev/sd%c", 'a'+i), fmt.Sprint("S", i)
		d.LogicalSector = []int{512, 512, 512, 4096}[r.IntN(4)]
		d.OptimalIO = []int{0, 0, 4096, 1 << 20, 4 << 20}[r.IntN(5)]
		d.Size = (64<<20 + r.Int64N(1<<(27+r.IntN(21)))) / int64(d.LogicalSector) * int64(d.LogicalSector)
		d.Transport = []string{"sata", "nvme"}[r.IntN(2)]
		if r.IntN(2) == 0 {
			oldTable(r, &d)
		}
		inv = append(inv, d)
	}
	sizes := []string{"1M", "3M", "100M", "10%", "33.3%", "rest", ""}
	k := Candidate{Name: "c"}
	for i := range 1 + r.IntN(2) {
		s := DiskSet{Name: fmt.Sprint("s", i), Count: []string{"", "2", "1..", "2..4"}[r.IntN(4)], Pick: []string{"", "first", "largest"}[r.IntN(3)]}
		for j := range 1 + r.IntN(5) {
			p := Partition{Name: fmt.Sprint("p", j), Size: sizes[r.IntN(len(sizes))]}
			switch {
			case p.Size == "":
				p.Image = fmt.Sprint(1 + r.IntN(3))
			case r.IntN(3) == 0:
				p.Keep, p.FS = KeepOrCreate, "xfs"
			case r.IntN(3) == 0:
				p.FS = "swap"
			}
			s.Partitions = append(s.Partitions, p)
		}
		k.Disks = append(k.Disks, s)
	}
	if r.IntN(3) == 0 {
		k.Raid = []Raid{{Name: "r", Of: "s0/p0", Level: []int{0, 1, 5, 10}[r.IntN(4)], Recreate: true}}
	}
	m := &imagefmt.Manifest{DiskSize: 64 << 20, MinDiskSize: 64 << 20, SectorSize: 512, Table: imagefmt.Table{Kind: imagefmt.TableGPT, Partitions: []imagefmt.Partition{
		{Number: 1, Start: 1 << 20, Length: 3 << 20, Type: types["bios"], UUID: "B1"}, {Number: 2, Start: 4 << 20, Length: 20<<20 + 512, Type: types["esp"], UUID: "B2", FileSystem: "vfat"},
		{Number: 3, Start: 25 << 20, Length: 30 << 20, Type: types["linux"], UUID: "B3", FileSystem: "ext4"},
	}}}
	return &Layout{Candidates: []Candidate{k}}, inv, Image{Manifest: m}
}

func oldTable(r *rand.Rand, d *disk.Inventory) {
	d.Table.Kind, d.TableSector = imagefmt.TableGPT, d.LogicalSector
	at := int64(0)
	for n := range r.IntN(5) {
		sector := int64(d.LogicalSector)
		start := at + r.Int64N(max(1, d.Size/4))/sector*sector
		length := (1 + r.Int64N(max(1, d.Size/(8*sector)))) * sector
		if start+length > d.Size {
			return
		}
		d.Table.Partitions = append(d.Table.Partitions, imagefmt.Partition{
			Number: n + 1, Start: start, Length: length, Type: types["linux"], UUID: []string{"B2", "U"}[r.IntN(2)] + fmt.Sprint(n), Label: fmt.Sprint("p", r.IntN(6)), Attributes: 4,
		})
		at = start + length
	}
}

// prove holds a plan against the disks that it is for, in another way than Plan.Check does: byte ranges drawn on each disk.
func prove(t *testing.T, p *Plan, inv []disk.Inventory) {
	t.Helper()
	seen := map[string]bool{}
	for _, d := range p.Disks {
		i := slices.IndexFunc(inv, func(v disk.Inventory) bool { return v.Path == d.Disk.Path })
		if i < 0 || seen[d.Disk.Path] || d.Disk.InUse != "" && len(inv[i].Arrays) == 0 {
			t.Fatalf("%s: not a disk to take", d.Disk.Path)
		}
		seen[d.Disk.Path] = true
		for _, n := range d.Kept {
			was, ok := numbered(inv[i].Table, n)
			is, ok2 := numbered(d.Table, n)
			if !ok || !ok2 || !reflect.DeepEqual(was, is) {
				t.Fatalf("%s: kept %d: %+v became %+v", d.Disk.Path, n, was, is)
			}
		}
		if d.Table.Kind != imagefmt.TableGPT {
			continue
		}
		sector := int64(d.Disk.LogicalSector)
		for j, a := range d.Table.Partitions {
			if a.Start < 2*sector+16<<10 || a.Length <= 0 || a.Start+a.Length > d.Disk.Size-sector-16<<10 || a.Start%sector != 0 || a.Length%sector != 0 {
				t.Fatalf("%s of %d: %+v", d.Disk.Path, d.Disk.Size, a)
			}
			pinned := strings.EqualFold(a.Type, types["bios"]) || slices.Contains(d.Kept, a.Number)
			if align := max(1<<20, int64(d.Disk.OptimalIO)); !pinned && (a.Start%align != 0 || a.Length%align != 0) {
				t.Fatalf("%s: %+v is not aligned to %d", d.Disk.Path, a, align)
			}
			for _, b := range d.Table.Partitions[:j] {
				if a.Number == b.Number || a.UUID == b.UUID || a.Start < b.Start+b.Length && b.Start < a.Start+a.Length {
					t.Fatalf("%s: %+v and %+v", d.Disk.Path, a, b)
				}
			}
		}
	}
	for _, c := range p.Contents {
		size, err := p.size(c.On)
		if err != nil || c.Source.Len > size {
			t.Fatalf("%+v in %d: %v", c, size, err)
		}
		if c.On.Disk >= 0 && slices.Contains(p.Disks[c.On.Disk].Kept, c.On.Partition) {
			t.Fatalf("%+v goes over a partition that is kept", c)
		}
	}
}

// Whatever the disks: partitions are aligned, inside their disk, share no byte, and what is kept stays. The same question has
// the same answer, and a plan that was carried out half way leads to itself.
func TestPlanProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	plans, kept := 0, 0
	for range 30000 {
		l, inv, im := machine(r)
		p, err := l.Plan(inv, im)
		if err != nil {
			if strings.Contains(err.Error(), "plan: ") {
				t.Fatalf("a plan that contradicts itself: %v\n%+v\n%+v", err, l, inv)
			}
			continue
		}
		plans++
		prove(t, p, inv)
		again, err := l.Plan(inv, im)
		if err != nil || !reflect.DeepEqual(p, again) {
			t.Fatalf("another plan for the same: %v", err)
		}
		for _, d := range p.Disks {
			kept += len(d.Kept)
		}
		// Interrupted: the disks have a table with nothing but what is kept.
		for i := range inv {
			if j := slices.IndexFunc(p.Disks, func(d DiskPlan) bool { return d.Disk.Path == inv[i].Path }); j >= 0 {
				inv[i].Table = imagefmt.Table{Kind: imagefmt.TableGPT}
				inv[i].TableSector = inv[i].LogicalSector
				for _, n := range p.Disks[j].Kept {
					q, _ := numbered(p.Disks[j].Table, n)
					inv[i].Table.Partitions = append(inv[i].Table.Partitions, q)
				}
			}
		}
		resumed, err := l.Plan(inv, im)
		if err != nil {
			t.Fatalf("after an interruption: %v", err)
		}
		for i := range p.Disks {
			if !reflect.DeepEqual(p.Disks[i].Table, resumed.Disks[i].Table) {
				t.Fatalf("after an interruption another table:\n%+v\n%+v", p.Disks[i].Table, resumed.Disks[i].Table)
			}
		}
	}
	if plans < 3000 || kept < 300 {
		t.Errorf("only %d plans with %d partitions kept: the machines are too poor", plans, kept)
	}
}

func TestNatural(t *testing.T) {
	want := []string{"/dev/nvme0n1", "/dev/nvme2n1", "/dev/nvme10n1", "/dev/sda", "/dev/sdb", "/dev/sdz", "/dev/sdaa", "/dev/vda"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, natural)
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// FuzzPlan: whatever layout the server sends and whatever is on the disks, a plan is sound or refused.
func FuzzPlan(f *testing.F) {
	for seed := range uint64(20) {
		l, inv, im := machine(rand.New(rand.NewPCG(seed, 1)))
		a, _ := json.Marshal(l)
		b, _ := json.Marshal(inv)
		c, _ := json.Marshal(im.Manifest)
		f.Add(a, b, c)
	}
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		l, err := Parse(a)
		if err != nil {
			return
		}
		var inv []disk.Inventory
		var im Image
		if json.Unmarshal(b, &inv) != nil || json.Unmarshal(c, &im.Manifest) != nil || im.Manifest == nil || !soundTable(im.Manifest) {
			return
		}
		p, err := l.Plan(inv, im)
		if err != nil {
			if strings.Contains(err.Error(), "plan: ") {
				t.Fatal(err)
			}
			return
		}
		prove(t, p, inv)
	})
}

// soundTable is what a manifest that was parsed is known to be.
func soundTable(m *imagefmt.Manifest) bool {
	if m.SectorSize != 512 && m.SectorSize != 4096 || m.DiskSize <= 0 || m.DiskSize > imagefmt.MaxDiskSize || m.MinDiskSize <= 0 || m.MinDiskSize > m.DiskSize {
		return false
	}
	if k := m.Table.Kind; k != imagefmt.TableGPT && k != imagefmt.TableNone || k == imagefmt.TableNone && len(m.Table.Partitions) > 0 {
		return false
	}
	seen := map[int]bool{}
	for i, p := range m.Table.Partitions {
		if p.Number < 1 || p.Number > imagefmt.MaxPartitions || seen[p.Number] || p.Start < 0 || p.Length <= 0 || p.Start > m.MinDiskSize || p.Length > m.MinDiskSize-p.Start ||
			p.Start%int64(m.SectorSize) != 0 || p.Length%int64(m.SectorSize) != 0 {
			return false
		}
		seen[p.Number] = true
		for _, q := range m.Table.Partitions[:i] {
			if p.UUID == q.UUID || p.Start < q.Start+q.Length && q.Start < p.Start+p.Length {
				return false
			}
		}
	}
	return true
}
