package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/disk"
	"swarmboot/internal/filetest"
	"swarmboot/internal/layout"
	"swarmboot/internal/looptest"
	"swarmboot/internal/md"
)

// openDisk opens a file that stands for a disk or an array.
func openDisk(t *testing.T, path string) *disk.Device {
	t.Helper()
	d, err := disk.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() }) // a second time, mostly
	return d
}

// onBareArray has an image without a table in a mirror of two whole disks, for which a file stands.
func onBareArray(t *testing.T, f *fixture) (w *planned, array string) {
	t.Helper()
	array = sparseFile(t, f.Manifest.DiskSize)
	plan := &layout.Plan{
		Arrays:   []layout.ArrayPlan{{Name: "all", Level: 1, Metadata: "1.0", Size: f.Manifest.DiskSize}},
		Contents: []layout.Content{{On: layout.Ref{Disk: -1, Array: 0}, Source: imagefmt.Extent{Len: f.Manifest.DiskSize}}},
	}
	for i := range 2 {
		path := sparseFile(t, 64*mib)
		plan.Disks = append(plan.Disks, layout.DiskPlan{Disk: disk.Disk{Path: path, Size: 64 * mib, LogicalSector: 512}, Table: imagefmt.Table{Kind: imagefmt.TableNone}})
		plan.Arrays[0].Members = append(plan.Arrays[0].Members, layout.Ref{Disk: i, Array: -1})
	}
	w, err := newPlanned(f.Manifest, plan, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.close() }) //nolint:errcheck // a test's own
	w.arrays[0].dev = openDisk(t, array)
	if err := w.lay(); err != nil {
		t.Fatal(err)
	}
	return w, array
}

// An array of whole disks with metadata 1.0 begins with their first sectors: it is not known by anything, and has no boot sector, until all of
// the image is on it.
func TestArrayCutOffIsNothing(t *testing.T) {
	f := bareImage(t, true, 32*mib, "mkfs.ext4", "-q")
	source, err := os.ReadFile(filepath.Join(f.Dir, "source"))
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []bool{false, true} {
		w, array := onBareArray(t, f)
		look := func(when, kind string, want []byte) {
			t.Helper()
			if got := signature(t, array); got != kind || !bytes.Equal(readFirst(t, array), want) {
				t.Errorf("shown %v: %s blkid finds %q, the first sector is %x...", shown, when, got, readFirst(t, array)[:16])
			}
		}
		if _, err := w.image.WriteAt(source, 0); err != nil {
			t.Fatal(err)
		}
		if err := w.sync(); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(source))
		if _, err := w.image.ReadAt(got, 0); err != nil || !bytes.Equal(got, source) {
			t.Errorf("it does not read as it was written (%v)", err)
		}
		look("written,", "", make([]byte, 512))
		if shown {
			if err := w.showTable(); err != nil {
				t.Fatal(err)
			}
			if err := w.letGo(); err != nil {
				t.Fatal(err)
			}
			look("shown,", "ext4", make([]byte, 512))
		}
		if err := w.finishTable(); err != nil {
			t.Fatal(err)
		}
		if err := w.letGo(); err != nil {
			t.Fatal(err)
		}
		look("finished,", "ext4", source[:512])
		judge(t, "cmp", filepath.Join(f.Dir, "source"), array)
	}
}

// What is on the members is overwritten when the layout says so and it is not the array that is wanted; that one is taken.
func TestRecreate(t *testing.T) {
	old := fmt.Errorf("array a: %w", &md.ForeignError{Device: "/dev/vda2", Array: `"any:old"`, Reason: "which has another name"})
	broken := errors.New("no such device")
	for _, tt := range []struct {
		name            string
		recreate        bool
		first           error
		calls, code     int
		reused, succeed bool
	}{
		{"the array that is wanted", true, nil, 1, cli.CodeDone, true, true},
		{"another one", false, old, 1, cli.CodeDisk, false, false},
		{"another one, recreate", true, old, 2, cli.CodeDone, false, true},
		{"what the kernel refuses, recreate", true, broken, 1, cli.CodeOther, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := &plannedArray{ArrayPlan: layout.ArrayPlan{Name: "a", Recreate: tt.recreate}}
			calls := 0
			made, err := a.create(t.Context(), func(_ context.Context, s md.Spec) (md.Array, error) {
				calls++
				if s.Recreate || tt.first == nil {
					return md.Array{Reused: !s.Recreate}, nil
				}
				return md.Array{}, tt.first
			}, md.Spec{Name: "a"})
			if calls != tt.calls || made.Reused != tt.reused || (err == nil) != tt.succeed || cli.Code(err) != tt.code {
				t.Errorf("%d calls, reused %v, exit code %d: %v", calls, made.Reused, cli.Code(err), err)
			}
		})
	}
}

// arrayBefore makes superblocks of an array called name at the places of the plan's members: those of an array that nobody has stopped in
// good order, on disks whose table is gone.
func arrayBefore(t *testing.T, name string, files []string, places []imagefmt.Extent) {
	t.Helper()
	var members []md.Device
	spec := md.Spec{Shape: md.Shape{Level: 1}, Name: name}
	for i, file := range files {
		dev, detach := looptest.AttachFor(t, file, "--offset", fmt.Sprint(places[i].Off), "--sizelimit", fmt.Sprint(places[i].Len))
		defer detach()
		d := openDisk(t, dev)
		defer d.Close()
		members, spec.Members = append(members, d), append(spec.Members, dev)
	}
	if _, err := md.Format(t.Context(), spec, members); err != nil {
		t.Fatal(err)
	}
}

// Members of a foreign array are refused before the first write, also where no table lists them any more, but not those that the step wipe clears.
func TestForeignMembersAreRefusedInTime(t *testing.T) {
	for _, tt := range []struct {
		name, before string
		change       func(*layout.Plan)
		listed       bool // by a GPT at the end of the disk, of which the rest is gone
		refused      bool
	}{
		{name: "nothing"},
		{name: "another array", before: "old", refused: true},
		{name: "another array, recreate", before: "old", change: func(p *layout.Plan) { p.Arrays[0].Recreate = true }},
		{name: "another array, cleared", before: "old", change: func(p *layout.Plan) { p.Disks[0].Wipe, p.Disks[1].Wipe = disk.WipeZero, disk.WipeZero }},
		{name: "another array, one of the disks cleared", before: "old", change: func(p *layout.Plan) { p.Disks[0].Wipe = disk.WipeZero }, refused: true},
		{name: "another array, of which wipe learns", before: "old", listed: true},
		{name: "the array of a run that was cut off", before: "root"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plan := onArray(planOn(""))
			plan.Disks, plan.Contents = append(plan.Disks, plan.Disks[0]), plan.Contents[:1]
			plan.Contents[0].Source.Len = mib
			a := &plan.Arrays[0]
			a.Members, a.Metadata = append(a.Members, layout.Ref{Disk: 1, Array: -1, Partition: 1}), "1.2"
			table := plan.Disks[0].Table
			place := imagefmt.Extent{Off: table.Partitions[0].Start, Len: table.Partitions[0].Length}
			files := []string{sparseFile(t, 64*mib), sparseFile(t, 64*mib)}
			if tt.before != "" {
				arrayBefore(t, tt.before, files, []imagefmt.Extent{place, place})
			}
			for i, file := range files {
				if tt.listed {
					judge(t, "sgdisk", "--new=1:2M:+16M", file)
					filetest.Write(t, file, 0, make([]byte, mib))
				}
				plan.Disks[i].Disk.Path = looptest.Attach(t, file)
			}
			if tt.change != nil {
				tt.change(plan)
			}
			w, err := newPlanned(rootedImage(), plan, func(string) {})
			if err != nil {
				t.Fatal(err)
			}
			defer w.close() //nolint:errcheck // a test's own
			before := filetest.Read(t, files[0], 0, 64*mib)
			err = w.check()
			var foreign *md.ForeignError
			if refused := errors.As(err, &foreign) && cli.Code(err) == cli.CodeDisk; refused != tt.refused || err != nil && !refused {
				t.Errorf("%v (code %d)", err, cli.Code(err))
			}
			if refused := foreign != nil; refused && foreign.Device != disk.PartitionPath(plan.Disks[0].Disk.Path, 1) && foreign.Device != disk.PartitionPath(plan.Disks[1].Disk.Path, 1) {
				t.Errorf("%v: the device is %s", err, foreign.Device)
			}
			if !bytes.Equal(filetest.Read(t, files[0], 0, 64*mib), before) {
				t.Error("the disk was written to")
			}
			// It says what would come of it.
			if err := w.wipe(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := w.checkArrays(); errors.As(err, &foreign) != tt.refused {
				t.Errorf("wiped, %v", err)
			}
		})
	}
}
