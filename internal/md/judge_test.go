package md

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestJudge says of what may lie on members whether it is taken, overwritten or refused.
func TestJudge(t *testing.T) {
	rewrite := func(d Device, change func(*Superblock)) {
		sb, err := Read(d, d.Size())
		if err != nil {
			t.Fatal(err)
		}
		change(sb)
		b := make([]byte, maxSuper)
		copy(b, sb.marshal())
		if _, err := d.WriteAt(b, sb.SuperOffset); err != nil {
			t.Fatal(err)
		}
	}
	all := func(change func(*Superblock)) func([]Device) {
		return func(ds []Device) {
			for _, d := range ds {
				rewrite(d, change)
			}
		}
	}
	ran := all(func(sb *Superblock) { sb.Events = 17 })
	erase := func(ds []Device) {
		if err := clearSuperblocks(ds[1]); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name  string
		do    []func([]Device)
		spec  func(*Spec)
		reuse bool
		want  string // part of the error
	}{
		{name: "ran", do: []func([]Device){ran}, reuse: true},
		{name: "never ran", reuse: true},
		{name: "the rest of an interrupted format", do: []func([]Device){erase}},
		{name: "a member is gone", do: []func([]Device){ran, erase}, want: "not all members"},
		{name: "recreate", do: []func([]Device){ran, erase}, spec: func(s *Spec) { s.Recreate = true }},
		{name: "its UUID", do: []func([]Device){ran}, spec: func(s *Spec) { s.UUID = UUID{7} }, reuse: true},
		{name: "another UUID", do: []func([]Device){ran}, spec: func(s *Spec) { s.UUID = UUID{8} }, want: "another UUID"},
		{name: "another name", spec: func(s *Spec) { s.Name = "y" }, want: "another name"},
		{name: "another host", spec: func(s *Spec) { s.Homehost = "y" }, want: "another name"},
		{name: "another level", spec: func(s *Spec) { s.Level = 4 }, want: "level 5"},
		{name: "another chunk", spec: func(s *Spec) { s.Chunk = 64 << 10 }, want: "chunks of 524288"},
		{name: "another version", spec: func(s *Spec) { s.Metadata = "1.0" }, want: "metadata 1.2"},
		{name: "no bitmap", spec: func(s *Spec) { s.Bitmap = false }, want: "bitmap"},
		{name: "no spare", spec: func(s *Spec) { s.Members, s.Spares = append(s.Members, s.Spares...), nil }, want: "3 members"},
		{name: "members in another order", do: []func([]Device){ran, slices.Reverse[[]Device]}, reuse: true},
		{name: "one power cut behind", do: []func([]Device){ran, func(ds []Device) { rewrite(ds[2], func(sb *Superblock) { sb.Events++ }) }}, reuse: true},
		{name: "one is older", do: []func([]Device){ran, func(ds []Device) { rewrite(ds[2], func(sb *Superblock) { sb.Events += 9 }) }}, want: "went on without"},
		{name: "of two arrays", do: []func([]Device){func(ds []Device) { rewrite(ds[2], func(sb *Superblock) { sb.UUID[3]++ }) }}, want: "not that of the other"},
		{name: "a failed member", do: []func([]Device){ran, all(func(sb *Superblock) { sb.Roles[1] = RoleFaulty })}, want: "lost or moved"},
		{name: "the spare took over", do: []func([]Device){ran, all(func(sb *Superblock) { sb.Roles[1], sb.Roles[3] = RoleSpare, 1 })}, reuse: true},
		{name: "reshaping", do: []func([]Device){ran, all(func(sb *Superblock) { sb.Features |= featureReshape })}, want: "reshaped"},
		{name: "damaged", do: []func([]Device){func(ds []Device) {
			if _, err := ds[0].WriteAt(append([]byte("\xfc\x4e\x2b\xa9\x01"), make([]byte, 507)...), 4096); err != nil {
				t.Fatal(err)
			}
		}}, want: "damaged"},
	} {
		devices, paths := disks(t, 512, repeat(64*mib, 4)...)
		spec := Spec{Shape: Shape{Level: 5, Bitmap: true}, Name: "x", Members: paths[:3], Spares: paths[3:], UUID: UUID{7}}
		if _, err := Format(context.Background(), spec, devices); err != nil {
			t.Fatal(err)
		}
		for _, do := range tt.do {
			do(devices)
		}
		spec.UUID = UUID{}
		if tt.spec != nil {
			tt.spec(&spec)
		}
		if err := spec.check(); err != nil {
			t.Fatal(err)
		}
		g, err := spec.geometry(devices)
		if err != nil {
			t.Fatal(err)
		}
		reuse, err := spec.judge(g, superblocksOf(devices))
		if reuse != tt.reuse || (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, %v; want %v, %q", tt.name, reuse, err, tt.reuse, tt.want)
		}
		var foreign *ForeignError
		if err != nil && !errors.As(err, &foreign) {
			t.Errorf("%s: %T", tt.name, err)
		}
		if reuse && spec.UUID != (UUID{7}) {
			t.Errorf("%s: UUID %s", tt.name, spec.UUID)
		}
	}
}
