package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"swarmboot/imagefmt"
	"swarmboot/internal/disk"
	"swarmboot/internal/layout"
	"swarmboot/internal/md"
	"swarmboot/internal/swarm"
)

const (
	undoLimit = 20 * time.Second // for each part of clearing the disks of a failed run
	undoSpare = 5 * time.Second  // and until what looks at its context has returned
)

// inTime calls f for every item, all at once, and told here with what f returns, one after the other. A disk that has stopped answering keeps a call
// in the kernel for ever, whatever its context says: what has not returned when the time is over, or ctx ends, is left alone. It is returned, and belongs
// to f from then on.
func inTime[T, R any](ctx context.Context, items []T, f func(context.Context, T) R, told func(T, R)) (hung []T) {
	work, cancel := context.WithTimeout(ctx, undoLimit)
	defer cancel()
	wait, stop := context.WithTimeout(ctx, undoLimit+undoSpare)
	defer stop()
	type result struct {
		item int
		of   R
	}
	results := make(chan result, len(items)) // nobody may be waiting any more
	for i, item := range items {
		go func() { results <- result{i, f(work, item)} }()
	}
	returned := make([]bool, len(items))
	for range items {
		select {
		case r := <-results:
			returned[r.item] = true
			told(items[r.item], r.of)
			continue
		case <-wait.Done():
		}
		break
	}
	for i, item := range items {
		if !returned[i] {
			hung = append(hung, item)
		}
	}
	return hung
}

// undo is called when a step failed: whatever was begun on the disk is made unbootable.
func (e *engine) undo() {
	ctx := context.Background()
	if s := e.takeSession(); s != nil {
		// What it still writes are blocks of the image: no table is among them.
		left := func(_ context.Context, s *swarm.Session) error { return s.Close() }
		if hung := inTime(ctx, []*swarm.Session{s}, left, func(*swarm.Session, error) {}); len(hung) > 0 {
			e.rep.say("a write does not end: the disks are cleared beside it")
		}
	}
	if e.w != nil {
		e.w.undo(ctx)
	}
}

// undo puts the staged tables back, and clears what made parts of the disks members of the arrays that were made. What is kept stays as it is. A disk that
// does not answer, within the time or until ctx ends, does not keep the others from being cleared.
func (w *planned) undo(ctx context.Context) {
	if w.whole || !slices.ContainsFunc(w.disks, func(d *plannedDisk) bool { return d.dirty }) {
		return
	}
	anew := w.closed || len(w.arrays) > 0
	stopped, errs := w.stopArrays(ctx)
	hung := inTime(ctx, w.disks, func(ctx context.Context, d *plannedDisk) undone {
		return w.undoDisk(ctx, d, anew, stopped)
	}, func(d *plannedDisk, u undone) {
		if u.busy != nil {
			w.say(u.busy.Error())
		}
		if u.err != nil {
			errs = append(errs, u.err)
		} else if d.dirty {
			w.say(d.cleared())
		}
	})
	w.closed = false
	for _, d := range hung {
		d.hung = true
		errs = append(errs, fmt.Errorf("%s does not answer", d.Disk.Path))
	}
	if err := errors.Join(errs...); err != nil {
		w.say(fmt.Sprintf("what is not whole could not all be cleared: %v", err))
	}
}

// cleared says that undo has done its work.
func (d *plannedDisk) cleared() string {
	what := "partition table was"
	if d.Table.Kind == imagefmt.TableNone {
		what = "superblocks were"
	}
	return fmt.Sprintf("%s is not whole: its %s cleared, it does not boot", d.Disk.Path, what)
}

// stopArrays lets go of the arrays, and stops and returns those that were made.
func (w *planned) stopArrays(ctx context.Context) (stopped []*plannedArray, errs []error) {
	hung := inTime(ctx, w.arrays, func(ctx context.Context, a *plannedArray) error {
		if a.dev != nil {
			_ = a.dev.Close() // nobody wants what is on it
			a.dev = nil
		}
		if a.device == "" {
			return nil
		}
		return md.Stop(ctx, a.device)
	}, func(a *plannedArray, err error) {
		if err != nil {
			errs = append(errs, err)
		} else if a.device != "" {
			stopped = append(stopped, a)
		}
	})
	for _, a := range hung {
		a.hung = true
		errs = append(errs, fmt.Errorf("array %s does not answer", a.Name))
	}
	return stopped, errs
}

// undone is what came of undoDisk.
type undone struct {
	busy error // something else holds the disk, which was cleared all the same
	err  error
}

func (w *planned) undoDisk(ctx context.Context, d *plannedDisk, anew bool, stopped []*plannedArray) (u undone) {
	if anew {
		if u.busy, u.err = d.reopen(); u.err != nil {
			return u
		}
	}
	var errs []error
	for _, a := range stopped {
		for _, r := range slices.Concat(a.Members, a.Spares) {
			if w.disks[r.Disk] == d {
				errs = append(errs, w.clearMember(ctx, r))
			}
		}
	}
	if d.dirty {
		errs = append(errs, d.undo(ctx))
	}
	u.err = errors.Join(errs...)
	return u
}

// reopen takes hold of the disk again. One that something else holds is opened all the same.
func (d *plannedDisk) reopen() (busy, err error) {
	_ = d.dev.Close() // it may be closed
	dev, err := disk.Open(d.Disk.Path)
	var held *disk.BusyError
	if errors.As(err, &held) {
		busy = err
		dev, err = disk.OpenShared(d.Disk.Path)
	}
	if err != nil {
		return busy, err
	}
	d.dev = dev
	return busy, dev.CheckTable(d.staged(), d.Disk.LogicalSector, len(d.Kept) > 0)
}

func (w *planned) clearMember(ctx context.Context, r layout.Ref) error {
	s, size, err := w.place(r)
	if err != nil {
		return err
	}
	return zeroEdges(ctx, s, size, superblockRoom)
}

func (d *plannedDisk) undo(ctx context.Context) error {
	// The table goes first here: a final one may be on the disk.
	if len(d.Kept) > 0 {
		if err := disk.ReplaceTable(d.dev, d.staged()); err != nil {
			return err
		}
	}
	if _, err := disk.WipeKeeping(ctx, d.dev, d.keptExtents()); err != nil {
		return err
	}
	return d.dev.Sync()
}
