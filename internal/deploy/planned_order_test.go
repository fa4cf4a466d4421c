package deploy

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/disk"
	"swarmboot/internal/layout"
)

// sparseFile is a file of zeros.
func sparseFile(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

// severalDisks are files with a partition of each of these types, staged. The image's root goes to the one that is of type linux.
func severalDisks(t *testing.T, types ...string) *planned {
	t.Helper()
	plan := &layout.Plan{}
	for i, kind := range types {
		d := layout.DiskPlan{Disk: disk.Disk{Path: sparseFile(t, 64*mib), Size: 64 * mib, LogicalSector: 512}, Wipe: disk.WipeNone}
		d.Table = imagefmt.Table{Kind: imagefmt.TableGPT, GUID: otherUUID, Partitions: []imagefmt.Partition{
			{Number: 1, Start: mib, Length: 16 * mib, Type: kind, UUID: imageRoot}}}
		switch kind {
		case linuxType:
			plan.Contents = append(plan.Contents, layout.Content{On: layout.Ref{Disk: i, Array: -1, Partition: 1}, Source: imagefmt.Extent{Off: mib, Len: 16 * mib}, Image: 1})
		case "boot code":
			d.Table.Partitions[0].Type, d.Table.BootCode = varType, []byte{0xfa}
		case "0xef":
			d.Table.Kind, d.Table.GUID, d.Table.DiskSignature = imagefmt.TableMBR, "", "5a3b0001"
			d.Table.Partitions[0].UUID = "5a3b0001-01"
		}
		plan.Disks = append(plan.Disks, d)
	}
	w, err := newPlanned(rootedImage(), plan, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.close() }) //nolint:errcheck // a test's own
	if err := w.stageTable(); err != nil {
		t.Fatal(err)
	}
	return w
}

const (
	varType  = "4D21B016-B534-45C2-A9FB-5C16E091FD2D"
	espType  = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	biosType = "21686148-6449-6E6F-744E-656564454649"
)

// finished lists the disks that have their final tables.
func finished(t *testing.T, w *planned) (all []int) {
	t.Helper()
	for i, d := range w.disks {
		if partitions(t, d.Disk.Path) == 1 {
			all = append(all, i)
		}
	}
	return all
}

// The power may fail between the final tables of two disks: the one that a firmware starts from comes last, and the root just before.
func TestBootDisksAreFinishedLast(t *testing.T) {
	for _, boot := range []string{espType, biosType, "0xef", "boot code"} {
		order := []int{2, 1, 0}
		for n, broken := range order {
			w := severalDisks(t, boot, linuxType, varType)
			if err := w.disks[broken].dev.Close(); err != nil {
				t.Fatal(err)
			}
			if err := w.finishTable(); err == nil {
				t.Errorf("%s: disk %d was written to", boot, broken)
			}
			want := slices.Sorted(slices.Values(order[:n]))
			if got := finished(t, w); !slices.Equal(got, want) {
				t.Errorf("%s: when disk %d is written to, %v are finished, want %v", boot, broken, got, want)
			}
		}
	}
}

// So does an array of whole disks that a firmware takes for one of them; others come first.
func TestArrayIsFinishedInOrder(t *testing.T) {
	for metadata, want := range map[string][]int{"1.0": {0, 1}, "1.2": nil} {
		w := severalDisks(t, linuxType, varType)
		array := openDisk(t, sparseFile(t, mib))
		w.arrays = []*plannedArray{{ArrayPlan: layout.ArrayPlan{Metadata: metadata, Members: []layout.Ref{{Disk: 2, Array: -1}}}, dev: array, held: &held{dev: array}}}
		if err := array.Close(); err != nil {
			t.Fatal(err)
		}
		if err := w.finishTable(); err == nil {
			t.Error("a closed array was written to")
		}
		if got := finished(t, w); !slices.Equal(got, want) {
			t.Errorf("metadata %s: when the array is written to, %v are finished, want %v", metadata, got, want)
		}
	}
}
