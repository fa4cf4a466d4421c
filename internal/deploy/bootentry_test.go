package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/disk"
	"swarmboot/internal/efiboot"
	"swarmboot/internal/event"
	"swarmboot/internal/layout"
	"swarmboot/internal/params"
)

// bootEngine is an engine that has written a disk with this table (for sfdisk), in a machine with UEFI.
func bootEngine(t *testing.T, table string, block bool) *engine {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 64<<20); err != nil {
		t.Fatal(err)
	}
	partition(t, path, table)
	if block {
		out, err := exec.CommandContext(t.Context(), "losetup", "-f", "--show", path).Output()
		if err != nil {
			t.Fatal("losetup: ", err)
		}
		path = strings.TrimSpace(string(out))
		t.Cleanup(func() {
			if err := exec.Command("losetup", "-d", path).Run(); err != nil { //nolint:noctx // the test's context is over by then
				t.Error("losetup -d: ", err)
			}
		})
	}
	dev, err := disk.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	m := &imagefmt.Manifest{Name: "debian"}
	e := &engine{m: m, o: Options{BootEntry: params.BootEntryFirst, Firmware: t.TempDir()}, rep: newReporter(event.Progress{}, nil, nil)}
	e.w = &planned{m: m, plan: &layout.Plan{}, say: e.rep.say, disks: []*plannedDisk{{DiskPlan: layout.DiskPlan{Disk: disk.Disk{Path: path}}, dev: dev}}}
	t.Cleanup(e.close)
	return e
}

func partition(t *testing.T, path, table string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", path)
	cmd.Stdin = strings.NewReader(table)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v: %s", err, out)
	}
}

const (
	tableBefore = "label: gpt\nsize=20MiB, type=L, uuid=11111111-1111-1111-1111-111111111111\nsize=10MiB, type=L, uuid=22222222-2222-2222-2222-222222222222\n"
	tableAfter  = "label: gpt\nsize=20MiB, type=L, uuid=11111111-1111-1111-1111-111111111111\nsize=10MiB, type=L, uuid=33333333-3333-3333-3333-333333333333\n"
)

// The step is for a machine with UEFI and a disk that its firmware sees, where it was asked for.
func TestBootEntryStepIsSkipped(t *testing.T) {
	e, file := bootEngine(t, tableBefore, true), bootEngine(t, tableBefore, false)
	if !e.bootEntryStep().when() {
		t.Error("skipped with UEFI and a disk")
	}
	if file.bootEntryStep().when() {
		t.Error("not skipped for a file")
	}
	e.o.BootEntry = params.BootEntryNone
	if e.bootEntryStep().when() {
		t.Error("not skipped with none")
	}
	e.o.BootEntry, e.o.Firmware = params.BootEntryFirst, filepath.Join(t.TempDir(), "efi")
	if e.bootEntryStep().when() {
		t.Error("not skipped with a BIOS")
	}
	for given, want := range map[params.BootEntry]params.BootEntry{"": params.BootEntryNone, "first": "first", "last": ""} {
		if err := fillBootEntry(&given); (err != nil) != (want == "") || err == nil && given != want {
			t.Errorf("%q, want %q: %v", given, want, err)
		}
	}
}

// What cannot be done is a warning: the system is whole and verified.
func TestBootEntryFailureIsAWarning(t *testing.T) {
	e := bootEngine(t, tableBefore, true)
	if err := e.bootEntryStep().run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w := e.rep.snapshot().Warnings; len(w) != 1 || !strings.Contains(w[0], "no EFI system partition") {
		t.Errorf("warnings %q", w)
	}
}

// Entries are dead that start from a partition that was on the disk and is not there any more.
func TestGonePartitions(t *testing.T) {
	e := bootEngine(t, tableBefore, true)
	e.rememberPartitions()
	partition(t, e.w.bootDisks()[0].path, tableAfter)
	places, now, err := findESPs(t.Context(), e.w.bootDisks())
	if err != nil || len(places) != 0 {
		t.Fatalf("%v, %v", places, err)
	}
	var got []string
	for _, id := range e.gone {
		if !slices.Contains(now, id) {
			got = append(got, id.String())
		}
	}
	if strings.Join(got, " ") != "22222222-2222-2222-2222-222222222222" {
		t.Errorf("gone: %v", got)
	}
	if present := presentPartitions(); present != nil && present(e.gone[1]) {
		t.Error("a partition that is gone is on a disk of this machine")
	}
}

func TestDescribeEntries(t *testing.T) {
	r := efiboot.Request{Entries: []efiboot.Entry{{Label: entryLabel("debian", 0), Loader: `\EFI\debian\shimx64.efi`},
		{Label: entryLabel("debian", 1), Loader: `\EFI\debian\shimx64.efi`}}}
	c := efiboot.Change{Numbers: []uint16{1, 0xab}, Behind: "PXE", Removed: []string{`Boot0007 "old"`}, Written: true}
	want := `boot entry: Boot0001 "debian" starts \EFI\debian\shimx64.efi, Boot00AB "debian 2" starts \EFI\debian\shimx64.efi, behind "PXE", deleted Boot0007 "old"`
	if got := describeEntries(r, c); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	c.Behind, c.Removed, c.Written = "", nil, false
	if got := describeEntries(r, c); !strings.HasSuffix(got, "first of all, as it was") {
		t.Error(got)
	}
}
