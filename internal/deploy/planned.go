package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"swarmboot/imagefmt"
	"swarmboot/internal/disk"
	"swarmboot/internal/layout"
	"swarmboot/internal/progress"
	"swarmboot/internal/swarm"
)

// planned puts an image where a plan says: that of a layout, or the one without (layout.Default). The steps call its methods in
// this order: check, unfinished, wipe, stageTable, assemble, target, sync, readBack, makeFS, finishTable, growFileSystem; or, where
// the deployed system is still to be changed, showTable in the place of finishTable, and that last. After each of them the power may fail.
//
// What is on the disks while they are being filled: a disk on which nothing is kept has a table without partitions. A disk on
// which partitions are kept has one that lists these and no others, at their places and with their UUIDs; it is
// put in the place of the old table so that the kept ones are in the valid one at every moment (disk.ReplaceTable). No
// staged table has boot code. So nothing of the image can be found by a firmware, and nothing that is kept is lost,
// whenever the power fails. Only when everything is verified, and the system what it is to be, the final tables follow.
// Of a disk that the image has as a whole, without a table, the first bytes are held back instead, and of every array; see held.
//
// Members of arrays have their superblocks before that, and a rescue system may assemble the array: it finds there nothing that
// can be mounted, and no firmware starts from it.
type planned struct {
	m      *imagefmt.Manifest
	plan   *layout.Plan
	say    func(string)
	disks  []*plannedDisk // as in plan.Disks
	arrays []*plannedArray
	image  *mapped
	look   look // into the image before it is fetched; nil: nobody can

	shown  bool // the kernel sees partitions that the disks do not list yet
	whole  bool // everything is there, verified
	closed bool
}

// newPlanned opens the disks.
func newPlanned(m *imagefmt.Manifest, plan *layout.Plan, say func(string)) (*planned, error) {
	w := &planned{m: m, plan: plan, say: say}
	for i := range plan.Arrays {
		w.arrays = append(w.arrays, &plannedArray{ArrayPlan: plan.Arrays[i]})
	}
	for _, d := range plan.Disks {
		dev, err := disk.Open(d.Disk.Path)
		if err != nil {
			_ = w.close() // nothing was written
			return nil, openError(err)
		}
		w.disks = append(w.disks, &plannedDisk{DiskPlan: d, dev: dev})
		// As long as somebody has the disk open the kernel keeps what it has read of it, also where a run that was cut off has written to a
		// partition since: pieces would be found that are not there.
		if err := dev.DropCaches(); err != nil {
			_ = w.close()
			return nil, err
		}
	}
	return w, nil
}

// unfinished says whether every disk that bytes of the image go to has the table that stageTable leaves. One that is to be cleared counts as if
// it had not: the table does not tell how far that had come, nor for which plan, and what a disk returns after a discard may change.
func (w *planned) unfinished() bool {
	found := false
	for _, i := range w.imageDisks() {
		if d := w.disks[i]; d.clears() || !isStaged(d.dev, d.staged()) {
			return false
		}
		found = true
	}
	return found
}

// imageDisks are the indices of the disks that bytes of the image go to.
func (w *planned) imageDisks() []int {
	var all []int
	for _, c := range w.plan.Contents {
		if c.Source.Len == 0 {
			continue
		}
		for _, i := range w.disksOf(c.On) {
			if !slices.Contains(all, i) {
				all = append(all, i)
			}
		}
	}
	return all
}

// disksOf are the indices of the disks that a place lies on.
func (w *planned) disksOf(r layout.Ref) []int {
	if r.Array < 0 {
		return []int{r.Disk}
	}
	var all []int
	for _, m := range w.plan.Arrays[r.Array].Members {
		all = append(all, m.Disk)
	}
	return all
}

// target lays the image over the places. What has none is dropped, but for what hashes need.
func (w *planned) target(index func() *imagefmt.Index) swarm.Target {
	w.image.aside.must = sync.OnceValue(func() []imagefmt.Extent {
		must, err := w.image.partlyPlaced(index())
		if err != nil {
			w.say("what is not placed cannot be told from the index: " + err.Error()) // ParseIndex has read it all: it cannot be
		}
		return must
	})
	return w.image
}

// lay makes the map of the image. The arrays are there.
func (w *planned) lay() error {
	w.hold()
	var segments []segment
	for _, c := range w.plan.Contents {
		if c.Source.Len == 0 {
			continue
		}
		dev, _, err := w.place(c.On)
		if err != nil {
			return err
		}
		segments = append(segments, segment{c.Source, dev, c.Offset})
	}
	var err error
	w.image, err = newMapped(w.m.DiskSize, segments)
	return err
}

// place returns the space that a ref means, and its size in bytes.
func (w *planned) place(r layout.Ref) (space, int64, error) {
	if r.Array >= 0 {
		a := w.arrays[r.Array]
		return part{a.front(), 0, a.dev.Size()}, a.dev.Size(), nil
	}
	d := w.disks[r.Disk]
	e, err := d.extent(r.Partition)
	return part{d.front(), e.Off, e.Len}, e.Len, err
}

// devices are all open disks and arrays that answer, arrays first.
func (w *planned) devices() []*disk.Device {
	var all []*disk.Device
	for _, a := range w.arrays {
		if !a.hung && a.dev != nil {
			all = append(all, a.dev)
		}
	}
	for _, d := range w.disks {
		if !d.hung {
			all = append(all, d.dev)
		}
	}
	return all
}

// writeDirect has what is written from now on until sync go past the kernel's cache, where the devices can.
// The error names those that cannot.
func (w *planned) writeDirect() error {
	var errs []error
	for _, dev := range w.devices() {
		errs = append(errs, dev.WriteDirect())
	}
	return errors.Join(errs...)
}

// sync returns when the media have everything.
func (w *planned) sync() error {
	for _, dev := range w.devices() {
		if err := dev.EndDirect(); err != nil {
			return err
		}
	}
	if n := w.image.dropped.Load(); n > 0 {
		w.say(fmt.Sprintf("%s of the image have no place on these disks and were left out", progress.Bytes(n)))
	}
	return nil
}

// readBack compares what the devices return, not the kernel's cache of it, with every raw hash of the index and with zero where
// the image has zeros.
func (w *planned) readBack(ctx context.Context, ix *imagefmt.Index) error {
	for _, dev := range w.devices() {
		if err := dev.DropCaches(); err != nil {
			return err
		}
	}
	var done atomic.Int64
	stop := every(2*time.Second, func() {
		w.say(fmt.Sprintf("read back %s of %s", progress.Bytes(done.Load()), progress.Bytes(w.m.UsedBytes+w.m.ZeroBytes)))
	})
	defer stop()
	if err := verifyMapped(ctx, w.image, ix, &done); err != nil {
		return err
	}
	return verifyZero(ctx, w.image, ix.Zero(), &done)
}

// close lets go of the disks; a second call does nothing.
func (w *planned) close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	var errs []error
	for _, dev := range w.devices() {
		errs = append(errs, dev.Close())
	}
	return errors.Join(errs...)
}
