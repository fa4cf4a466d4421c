package lvm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// head is the first 8 KiB of a physical volume that LVM 2.03.16 has made, with two linear volumes.
func head(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/pv.img")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const headSize = 256 << 20 // of the device that it is from

// sparse is a device with data at its start only.
type sparse struct{ data []byte }

func (s sparse) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(s.data)) {
		copy(p, s.data[off:])
	}
	return len(p), nil
}

// text is that of the volume group in head.
func text(t testing.TB) string {
	t.Helper()
	b := head(t)
	i := bytes.Index(b, []byte("vg0 {"))
	return strings.TrimRight(string(b[i:]), "\x00")
}

func TestRead(t *testing.T) {
	pv, err := Read(sparse{head(t)}, headSize)
	if err != nil || pv.bad != "" || pv.UUID != "Uy1nsg-NbCz-NeH2-aKuE-YLZP-Ptpk-42GHix" || len(pv.Metadata) != 1 {
		t.Fatalf("%+v, %v", pv, err)
	}
	groups := Groups([]*PV{pv})
	if len(groups) != 1 || groups[0].Whole != "" || len(groups[0].Volumes) != 2 || groups[0].Data[0] != (Area{1 << 20, 255 << 20}) {
		t.Fatalf("%+v", groups)
	}
	want := []Segment{{0, 1 << 20, 40 << 20}, {0, 49 << 20, 20 << 20}}
	if v := groups[0].Volumes[0]; v.Name != "root" || v.Size != 60<<20 || fmt.Sprint(v.Segments) != fmt.Sprint(want) {
		t.Errorf("%+v", v)
	}
	if _, err := Read(sparse{}, headSize); !errors.Is(err, ErrNone) {
		t.Errorf("an empty device: %v", err)
	}
}

// assembled is the group of one physical volume whose metadata has this text.
func assembled(text string) (*PV, []Group) {
	pv := &PV{UUID: "Uy1nsg-NbCz-NeH2-aKuE-YLZP-Ptpk-42GHix", Size: headSize}
	if err := pv.takeText([]byte(text), checksum([]byte(text))); err != nil {
		pv.bad = err.Error()
	}
	return pv, Groups([]*PV{pv})
}

// Each change of a good text makes the group, or a volume, one that is copied whole, with these words.
func TestText(t *testing.T) {
	good := text(t)
	for _, tt := range []struct{ old, new, want string }{
		{"", "", ""},
		{"stripes = [", "stripes = [ # a comment\n", ""},
		{"pe_count = 255", "pe_count = 256", "do not fit"},
		{"pe_start = 2048", "pe_start = 0", "do not fit"},
		{"pe_start = 2048", "pe_start = 9223372036854775807", "do not fit"},
		{"pe_start = 2048", "pe_start = \"a\"", "do not fit"},
		{"extent_size = 2048", "extent_size = 0", "extents of 0"},
		{"extent_size = 2048", "extent_size = 9007199254740992", "extents of 9007199254740992"},
		{"\"pv0\", 48", "\"pv0\", 39", "share"},
		{"\"pv0\", 48", "\"pv0\", 236", "of a physical volume with 255"},
		{"\"pv0\", 48", "\"pv0\", -1", "of a physical volume with 255"},
		{"\"pv0\", 48", "\"swap\", 48", "root is of type stacked"},
		{"\"pv0\", 48", "\"swap\", 48", "swap is a part of root"},
		{"\"pv0\", 48", "\"pv0\"", "not understood"},
		{"start_extent = 40", "start_extent = 41", "behind extent 40"},
		{"extent_count = 20", "extent_count = 4294967296", "behind extent 40"},
		{"segment_count = 2", "segment_count = 3", "2 segments, not 3"},
		{"type = \"striped\"", "type = \"mirror\"", "not linear lies on physical"},
		{"\"READ\", \"WRITE\", \"VISIBLE\"", "\"READ\", \"PVMOVE\"", "root is pvmove"},
		{"status = [\"ALLOCATABLE\"]", "status = [\"MISSING\"]", "is missing"},
		{"\"RESIZEABLE\"", "\"EXPORTED\"", "is exported"},
		{"Uy1nsg", "Xy1nsg", "does not list the physical"},
		{"pv0 {", "pv0 { id = \"x\" } pv0 {", "found 0 times"},
		{"vg0 {", "vg1 { } vg0 {", "two groups"},
		{"vg0 {", "vg0 ", "behind the name"},
		{"version = 1", "version = 2", "another kind"},
		{"max_lv = 0", "max_lv = x", "no value"},
		{"max_lv = 0", "max_lv = \"", "behind the name"},
		{"max_lv = 0", strings.Repeat("a { ", 20), "sections in one another"},
	} {
		changed := strings.Replace(good, tt.old, tt.new, 1)
		if tt.old != "" && changed == good {
			t.Fatalf("%q is not there", tt.old)
		}
		pv, groups := assembled(changed)
		said := pv.bad
		for _, g := range groups {
			said += g.Whole + "; "
			for _, v := range g.Volumes {
				if v.Whole != "" {
					said += v.Name + " " + v.Whole + "; "
				}
			}
		}
		if !strings.Contains(said, tt.want) || tt.want == "" && strings.Trim(said, "; ") != "" {
			t.Errorf("%q instead of %q: %q, want %q", tt.new, tt.old, said, tt.want)
		}
	}
}

// check wants every physical volume in one group, and every segment inside of it and for itself.
func check(t *testing.T, pvs []*PV, groups []Group) {
	t.Helper()
	seen := map[int]bool{}
	for _, g := range groups {
		inside := map[int]Area{}
		for i, n := range g.PVs {
			if seen[n] {
				t.Fatalf("physical volume %d is in two groups", n)
			}
			seen[n] = true
			if g.Whole == "" {
				inside[n] = g.Data[i]
				if d := g.Data[i]; d.Off < 0 || d.Len < 0 || d.Off > pvs[n].Size || d.Len > pvs[n].Size-d.Off {
					t.Fatalf("extents at %+v of %d", d, pvs[n].Size)
				}
			}
		}
		var all []Volume
		for _, v := range g.Volumes {
			size := int64(0)
			for _, s := range v.Segments {
				a, ok := inside[s.PV]
				if !ok || s.Len <= 0 || s.Off < a.Off || s.Len > a.Len || s.Off-a.Off > a.Len-s.Len {
					t.Fatalf("segment %+v outside of %+v", s, inside)
				}
				size += s.Len
			}
			if v.Whole == "" && size != v.Size {
				t.Fatalf("%d bytes in segments of %d", size, v.Size)
			}
			all = append(all, v)
		}
		if err := checkOverlap(all); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != len(pvs) {
		t.Fatalf("%d of %d physical volumes are in groups", len(seen), len(pvs))
	}
}

func FuzzText(f *testing.F) {
	f.Add(text(f))
	f.Fuzz(func(t *testing.T, text string) {
		pv, groups := assembled(text)
		check(t, []*PV{pv}, groups)
	})
}

// FuzzRead gives the same bytes twice, so that there are two physical volumes.
func FuzzRead(f *testing.F) {
	f.Add(head(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		var pvs []*PV
		for _, size := range []int64{headSize, headSize / 2} {
			if pv, err := Read(sparse{b}, size); err == nil {
				pvs = append(pvs, pv)
			}
		}
		check(t, pvs, Groups(pvs))
	})
}
