package deploy

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"swarmboot/internal/layout"
)

// hang has reads of a file wait until the end of the test, by whom it is opened from now on, as reads of a disk do that has stopped answering: they
// ask for a permission that nobody gives (fanotify(7)).
func hang(t *testing.T, path string) {
	t.Helper()
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) }) //nolint:errcheck // it has nothing to lose
	if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD, unix.FAN_ACCESS_PERM, unix.AT_FDCWD, path); err != nil {
		t.Fatal(err)
	}
}

// A disk that answers no more keeps neither the others from being cleared nor the run from its end.
func TestUndoGoesOnPastWhatHangs(t *testing.T) {
	for name, arrays := range map[string][]*plannedArray{
		"disks":       nil,
		"with arrays": {{ArrayPlan: layout.ArrayPlan{Name: "root", Members: []layout.Ref{{Disk: 1, Array: -1, Partition: 1}, {Disk: 2, Array: -1, Partition: 1}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			w := severalDisks(t, espType, varType, linuxType)
			if err := w.finishTable(); err != nil {
				t.Fatal(err)
			}
			if err := w.letGo(); err != nil {
				t.Fatal(err)
			}
			w.arrays = arrays
			w.setWhole(false)
			stuck := w.disks[1].Disk.Path
			hang(t, stuck)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			cleared := 0
			var said []string
			w.say = func(line string) {
				said = append(said, line)
				if strings.Contains(line, "is not whole: its") {
					cleared++
				}
				if cleared == 2 {
					cancel() // all but one: there is nothing more to wait for
				}
			}
			w.undo(ctx)
			all := strings.Join(said, "\n")
			if !strings.Contains(all, stuck+" does not answer") || strings.Contains(all, stuck+" is not whole") {
				t.Errorf("of the disk that hangs is said\n%s", all)
			}
			for _, i := range []int{0, 2} {
				if path := w.disks[i].Disk.Path; partitions(t, path) > 0 || !strings.Contains(all, path+" is not whole") {
					t.Errorf("%s is not cleared, and it is said\n%s", path, all)
				}
			}
			if err := w.close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// What does not return is left alone when the time is over, and what can is told to come to its end before.
func TestInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, release := time.Now(), make(chan struct{})
		work := map[string]func(context.Context) string{
			"quick": func(context.Context) string { return "done" },
			"slow":  func(ctx context.Context) string { <-ctx.Done(); return ctx.Err().Error() },
			"hangs": func(context.Context) string { <-release; return "too late" },
		}
		got := map[string]string{}
		hung := inTime(t.Context(), []string{"hangs", "slow", "quick"}, func(ctx context.Context, name string) string { return work[name](ctx) },
			func(name, result string) { got[name] = result })
		if !slices.Equal(hung, []string{"hangs"}) || len(got) != 2 || got["quick"] != "done" || got["slow"] != context.DeadlineExceeded.Error() {
			t.Errorf("%q hang, of the others %q", hung, got)
		}
		if d := time.Since(start); d != undoLimit+undoSpare {
			t.Errorf("it took %s", d)
		}
		close(release)
	})
}
