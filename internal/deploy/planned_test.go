package deploy

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/disk"
	"swarmboot/internal/layout"
	"swarmboot/internal/params"
)

const (
	imageRoot = "AAAAAAAA-0000-4000-8000-000000000001"
	otherUUID = "AAAAAAAA-0000-4000-8000-000000000002"
	rootFS    = "5a3b0001-0000-4000-8000-000000000004"
	linuxType = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
)

// rootedImage is an image of one root partition.
func rootedImage() *imagefmt.Manifest {
	return &imagefmt.Manifest{
		DiskSize: 32 * mib, MinDiskSize: 32 * mib, SectorSize: 512, Boot: imagefmt.Boot{Root: 1},
		Table: imagefmt.Table{Kind: imagefmt.TableGPT, Partitions: []imagefmt.Partition{
			{Number: 1, Start: mib, Length: 16 * mib, Type: linuxType, UUID: imageRoot, FileSystem: "ext4", FSUUID: rootFS}}},
	}
}

// planOn has that root in a partition of a disk of 64 MiB at path, and swap behind it.
func planOn(path string) *layout.Plan {
	onDisk := func(n int) layout.Ref { return layout.Ref{Disk: 0, Array: -1, Partition: n} }
	return &layout.Plan{
		Disks: []layout.DiskPlan{{
			Disk: disk.Disk{Path: path, Size: 64 * mib, LogicalSector: 512}, Wipe: disk.WipeNone,
			Table: imagefmt.Table{Kind: imagefmt.TableGPT, GUID: "AAAAAAAA-0000-4000-8000-0000000000FF", Partitions: []imagefmt.Partition{
				{Number: 1, Start: 2 * mib, Length: 16 * mib, Type: linuxType, UUID: imageRoot},
				{Number: 2, Start: 20 * mib, Length: 8 * mib, Type: linuxType, UUID: otherUUID},
			}},
		}},
		Contents: []layout.Content{
			{On: onDisk(1), Source: imagefmt.Extent{Off: mib, Len: 16 * mib}, Image: 1},
			{On: onDisk(2), FS: "swap", UUID: otherUUID},
		},
	}
}

// onArray moves the root to an array.
func onArray(p *layout.Plan) *layout.Plan {
	p.Arrays = []layout.ArrayPlan{{Name: "root", Level: 1, Size: 15 * mib, Members: []layout.Ref{{Disk: 0, Array: -1, Partition: 1}}}}
	p.Contents[0].On = layout.Ref{Disk: -1, Array: 0}
	return p
}

func TestFstab(t *testing.T) {
	m := rootedImage()
	moved := planOn("/dev/x")
	moved.Disks[0].Table.Partitions[0].UUID = otherUUID
	scratch := planOn("/dev/x")
	scratch.Mounts = []layout.Mount{{On: scratch.Contents[1].On, Path: "none", FSType: "swap"}, {On: scratch.Contents[0].On, Path: "/", FSType: "ext4", Options: "noatime"}}
	bare := planOn("/dev/x")
	bare.Contents[1].FS, bare.Contents[1].UUID = "", ""
	bare.Mounts = []layout.Mount{{On: bare.Contents[1].On, Path: "/data", FSType: "xfs"}}
	for name, c := range map[string]struct {
		plan *layout.Plan
		want []params.Mount
	}{
		"where it was":     {planOn("/dev/x"), nil},
		"another PARTUUID": {moved, nil},
		"array":            {onArray(planOn("/dev/x")), nil},
		"hints": {scratch, []params.Mount{{Device: "UUID=" + otherUUID, Path: "none", Type: "swap"},
			{Device: "UUID=" + rootFS, Path: "/", Type: "ext4", Options: "noatime", Pass: 1}}},
		"kept": {bare, []params.Mount{{Device: "PARTUUID=" + strings.ToLower(otherUUID), Path: "/data", Type: "xfs"}}},
	} {
		if got := fstab(m, c.plan); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// Names of partitions that are not there any more are replaced: by the new PARTUUID, or by what an array can be named by.
func TestRenamed(t *testing.T) {
	old := strings.ToLower(imageRoot)
	moved, bare := planOn("/dev/x"), rootedImage()
	moved.Disks[0].Table.Partitions[0].UUID = otherUUID
	bare.Table.Partitions[0].FSUUID = ""
	for name, c := range map[string]struct {
		m    *imagefmt.Manifest
		plan *layout.Plan
		want map[string]string
	}{
		"where it was":         {rootedImage(), planOn("/dev/x"), map[string]string{}},
		"another PARTUUID":     {rootedImage(), moved, map[string]string{old: strings.ToLower(otherUUID)}},
		"array":                {rootedImage(), onArray(planOn("/dev/x")), map[string]string{"PARTUUID=" + old: "UUID=" + rootFS, "/dev/disk/by-partuuid/" + old: "/dev/disk/by-uuid/" + rootFS}},
		"array without a UUID": {bare, onArray(planOn("/dev/x")), map[string]string{"PARTUUID=" + old: "/dev/md/root", "/dev/disk/by-partuuid/" + old: "/dev/md/root"}},
	} {
		if got := (&planned{m: c.m, plan: c.plan}).renamed(); !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// Superblocks are looked for where new partitions will be, but not on members, whose array may be that of a run that was cut off.
func TestFresh(t *testing.T) {
	plan := onArray(planOn("/dev/x"))
	w := &planned{m: rootedImage(), plan: plan, disks: []*plannedDisk{{DiskPlan: plan.Disks[0]}}, arrays: []*plannedArray{{ArrayPlan: plan.Arrays[0]}}}
	if got := w.fresh(0); !slices.Equal(got, []imagefmt.Extent{{Off: 20 * mib, Len: 8 * mib}}) {
		t.Errorf("%v, want the second partition", got)
	}
	w.disks[0].Wipe = disk.WipeDiscard
	if got := w.fresh(0); !slices.Equal(got, []imagefmt.Extent{{Off: 2 * mib, Len: 16 * mib}, {Off: 20 * mib, Len: 8 * mib}}) {
		t.Errorf("%v of a disk that is cleared, want both partitions", got)
	}
	w.disks[0].Wipe, w.disks[0].Kept = disk.WipeNone, []int{2}
	if got := w.fresh(0); len(got) > 0 {
		t.Errorf("%v, though it is kept", got)
	}
}

// The kernel that is loaded is told where the root has gone.
func TestBooted(t *testing.T) {
	for _, c := range []struct {
		name, cmdline, want, uuid string
		plan                      *layout.Plan
	}{
		{"where it was", "quiet", "quiet", imageRoot, planOn("/dev/x")},
		{"array", "quiet", "root=UUID=" + rootFS + " ro quiet", "", onArray(planOn("/dev/x"))},
		{"array, named", "root=PARTUUID=" + strings.ToLower(imageRoot) + " rw", "root=UUID=" + rootFS + " rw", "", onArray(planOn("/dev/x"))},
		{"array, by label", "root=LABEL=sys", "root=LABEL=sys", "", onArray(planOn("/dev/x"))},
	} {
		m := rootedImage()
		m.Boot.Cmdline = c.cmdline
		got := (&planned{m: m, plan: c.plan}).booted()
		if got.Boot.Cmdline != c.want || got.Table.Partitions[0].UUID != c.uuid {
			t.Errorf("%s: %q, root %q; want %q, %q", c.name, got.Boot.Cmdline, got.Table.Partitions[0].UUID, c.want, c.uuid)
		}
		if m.Table.Partitions[0].UUID != imageRoot {
			t.Errorf("%s: the manifest was changed", c.name)
		}
	}
}

// checkPlan opens the plan's disk, a blank file unless make has made it something else, and checks the plan.
func checkPlan(t *testing.T, change func(*layout.Plan), prepare func(*disk.Device)) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 64*mib); err != nil {
		t.Fatal(err)
	}
	if prepare != nil {
		d, err := disk.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		prepare(d)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	plan := planOn(path)
	change(plan)
	w, err := newPlanned(rootedImage(), plan, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close() //nolint:errcheck // a test's own
	err = w.check()
	if after, rerr := os.ReadFile(path); rerr != nil || string(after) != string(before) {
		t.Errorf("check wrote to the disk (%v)", rerr)
	}
	return err
}

// A plan that does not fit what is on the disks now is refused before anything is written.
func TestCheckPlan(t *testing.T) {
	keep := func(p *layout.Plan) { p.Disks[0].Kept = []int{2}; p.Contents = p.Contents[:1] }
	table := func(change func(*imagefmt.Partition)) func(*disk.Device) {
		return func(d *disk.Device) {
			tab := planOn("").Disks[0].Table
			tab.Partitions = tab.Partitions[1:]
			change(&tab.Partitions[0])
			if err := disk.WriteTable(d, tab); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name    string
		change  func(*layout.Plan)
		prepare func(*disk.Device)
		word    string // "" = no error
		code    int
	}{
		{"good", func(*layout.Plan) {}, nil, "", 0},
		{"kept", keep, table(func(*imagefmt.Partition) {}), "", 0},
		{"kept, but the disk is blank", keep, nil, "no GPT", cli.CodeDisk},
		{"kept, but it has moved", keep, table(func(p *imagefmt.Partition) { p.Start += mib }), "not where they were", cli.CodeDisk},
		{"kept, but it is another one", keep, table(func(p *imagefmt.Partition) { p.UUID = imageRoot }), "not where they were", cli.CodeDisk},
		{"a file system in what is kept", func(p *layout.Plan) { p.Disks[0].Kept = []int{2} }, table(func(*imagefmt.Partition) {}), "", cli.CodeDisk},
		{"another size", func(p *layout.Plan) { p.Disks[0].Disk.Size = 65 * mib }, nil, "when the plan was made", cli.CodeDisk},
		{"too small a place", func(p *layout.Plan) { p.Disks[0].Table.Partitions[0].Length = mib }, nil, "do not fit", cli.CodeDisk},
		{"over the table", func(p *layout.Plan) { p.Contents[0].On.Partition = 0 }, nil, "partition table", cli.CodeDisk},
		{"an unknown file system", func(p *layout.Plan) { p.Contents[1].FS = "zfs" }, nil, "zfs", cli.CodeDisk},
		{"an array of files", func(p *layout.Plan) { onArray(p); p.Contents[0].Source.Len = mib }, nil, "is a file", cli.CodeDisk},
	} {
		err := checkPlan(t, c.change, c.prepare)
		switch {
		case c.code == 0 && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.code != 0 && (err == nil || !strings.Contains(err.Error(), c.word) || cli.Code(err) != c.code):
			t.Errorf("%s: %v (code %d), want %q and %d", c.name, err, cli.Code(err), c.word, c.code)
		}
	}
}

// The profile's disk does not add to a layout of the command line, nor the other way round.
func TestDiskOrLayout(t *testing.T) {
	profile := func(name, value string) *params.Profile {
		return &params.Profile{Parameters: map[string]string{name: value}}
	}
	for _, c := range []struct {
		name         string
		o            Options
		p            *params.Profile
		disk, layout string
		fails        bool
	}{
		{"layout of the profile", Options{}, profile("layout", "raid1"), "", "raid1", false},
		{"layout given", Options{Layout: "a", Given: map[string]bool{"layout": true}}, profile("disk", "only"), "", "a", false},
		{"disk given", Options{Disk: "/dev/sda", Given: map[string]bool{"disk": true}}, profile("layout", "raid1"), "/dev/sda", "", false},
		{"both of the profile", Options{}, &params.Profile{Parameters: map[string]string{"disk": "only", "layout": "a"}}, "", "", true},
	} {
		e := &engine{o: c.o}
		err := e.settle(c.p)
		if (err != nil) != c.fails {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil && (e.o.Disk != c.disk || e.o.Layout != c.layout) {
			t.Errorf("%s: disk %q, layout %q", c.name, e.o.Disk, e.o.Layout)
		}
	}
	_, err := Run(context.Background(), Options{Server: "http://192.0.2.1", Image: "i", Disk: "only", Layout: "a"}, nil)
	if cli.Code(err) != cli.CodeUsage {
		t.Errorf("both given: %v", err)
	}
}
