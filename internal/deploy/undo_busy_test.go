package deploy

import (
	"os"
	"slices"
	"strings"
	"testing"

	"swarmboot/internal/disk"
	"swarmboot/internal/layout"
)

// A hook that fails after the final tables may leave an array busy, a disk mounted, or a disk gone: all others are cleared, and what
// is only held too.
func TestUndoGoesOnPastWhatIsBusy(t *testing.T) {
	w := severalDisks(t, espType, linuxType, varType, varType)
	var said []string
	w.say = func(line string) { said = append(said, line) }
	if err := w.finishTable(); err != nil {
		t.Fatal(err)
	}
	if err := w.letGo(); err != nil {
		t.Fatal(err)
	}
	if got := finished(t, w); !slices.Equal(got, []int{0, 1, 2, 3}) {
		t.Fatalf("%v are finished", got)
	}
	w.arrays = []*plannedArray{{ArrayPlan: layout.ArrayPlan{Members: []layout.Ref{{Disk: 3, Array: -1, Partition: 1}}}, device: "/dev/null"}} // it cannot be stopped
	gone, held := w.disks[0].Disk.Path, w.disks[1].Disk.Path
	if err := os.Rename(gone, gone+".gone"); err != nil {
		t.Fatal(err)
	}
	holder := openDisk(t, held)
	w.setWhole(false)
	w.undo(t.Context())
	if err := holder.Close(); err != nil {
		t.Fatal(err)
	}
	if got := finished(t, w); got != nil {
		t.Errorf("%v are still listed, and %q was said", got, said)
	}
	all := strings.Join(said, "\n")
	for _, want := range []string{(&disk.BusyError{Device: held}).Error(), held + " is not whole", "/dev/null", gone + ": no such file"} {
		if !strings.Contains(all, want) {
			t.Errorf("nothing is said of %q:\n%s", want, all)
		}
	}
	if strings.Contains(all, gone+" is not whole") {
		t.Errorf("it is said that a disk was cleared which is gone:\n%s", all)
	}
}
