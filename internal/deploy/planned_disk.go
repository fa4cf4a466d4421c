package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"swarmboot/imagefmt"
	"swarmboot/internal/disk"
	"swarmboot/internal/layout"
	"swarmboot/internal/progress"
	"swarmboot/internal/target"
)

// plannedDisk is a disk of the plan, open.
type plannedDisk struct {
	layout.DiskPlan
	dev   *disk.Device
	held  *held // nil: nothing is held back but the table
	dirty bool  // was written to
	hung  bool  // it does not answer: all but Disk belongs to the call that waits for it
}

// keptParts are the entries of the partitions that stay.
func (d *plannedDisk) keptParts() []imagefmt.Partition {
	var kept []imagefmt.Partition
	for _, p := range d.Table.Partitions {
		if slices.Contains(d.Kept, p.Number) {
			kept = append(kept, p)
		}
	}
	return kept
}

func (d *plannedDisk) keptExtents() []imagefmt.Extent {
	var kept []imagefmt.Extent
	for _, p := range d.keptParts() {
		kept = append(kept, imagefmt.Extent{Off: p.Start, Len: p.Length})
	}
	return kept
}

// staged is the table that the disk has while it is being filled.
func (d *plannedDisk) staged() imagefmt.Table {
	t := d.Table
	t.BootCode, t.Partitions = nil, d.keptParts()
	return t
}

// clears says whether the old bytes of the disk are discarded or zeroed.
func (d *plannedDisk) clears() bool { return d.Wipe != disk.WipeNone && d.Wipe != "" }

// extent is where partition n lies, for 0 the disk.
func (d *plannedDisk) extent(n int) (imagefmt.Extent, error) {
	if n == 0 {
		return imagefmt.Extent{Len: d.dev.Size()}, nil
	}
	for _, p := range d.Table.Partitions {
		if p.Number == n {
			return imagefmt.Extent{Off: p.Start, Len: p.Length}, nil
		}
	}
	return imagefmt.Extent{}, fmt.Errorf("plan: %s has no partition %d", d.Disk.Path, n)
}

// wipe clears signatures, and what the layout wants cleared, on all disks, around what is kept. The old tables of disks with
// kept partitions stay until stageTable replaces them.
func (w *planned) wipe(ctx context.Context) error {
	for i, d := range w.disks {
		kept := d.keptExtents()
		cleared, err := disk.WipeKeeping(ctx, d.dev, kept, w.fresh(i)...)
		d.dirty = err == nil || cleared != nil
		if err != nil {
			return err
		}
		if len(cleared) > 0 {
			w.say(d.Disk.Path + ": cleared: " + strings.Join(cleared, ", "))
		}
		if !d.clears() {
			continue
		}
		if len(kept) > 0 {
			kept = append(kept, imagefmt.Extent{Len: tableRoom}, imagefmt.Extent{Off: d.dev.Size() - tableRoom, Len: tableRoom})
		}
		if err := w.clearDisk(ctx, d, disk.Gaps(d.dev.Size(), kept)); err != nil {
			return err
		}
	}
	return nil
}

// tableRoom is what is left alone at both ends of a disk that is cleared around kept partitions: the table that
// lists them, with room to spare for an array that is not at its usual place.
const tableRoom = 1 << 20

func (w *planned) clearDisk(ctx context.Context, d *plannedDisk, gaps []imagefmt.Extent) error {
	var done, total atomic.Int64
	say := func() {
		w.say(fmt.Sprintf("%s: %s: %s of %s", d.Disk.Path, d.Wipe, progress.Bytes(done.Load()), progress.Bytes(total.Load())))
	}
	stop := every(2*time.Second, say)
	d.dirty = true
	c, err := disk.Clear(ctx, d.dev, d.Wipe, gaps, func(n, all int64) { done.Store(n); total.Store(all) })
	stop()
	switch {
	case err != nil:
		return err
	case c.Reason != "":
		w.say(c.Reason)
	default:
		say()
	}
	return nil
}

// stageTable writes the staged tables; see planned.
func (w *planned) stageTable() error {
	for _, d := range w.disks {
		if err := d.stage(); err != nil {
			return err
		}
	}
	return nil
}

func (d *plannedDisk) stage() error {
	d.dirty = true
	if len(d.Kept) > 0 {
		return disk.ReplaceTable(d.dev, d.staged())
	}
	if err := disk.WriteTable(d.dev, d.staged()); err != nil {
		return err
	}
	return d.dev.Sync()
}

// showTable has the kernel see the partitions of the final tables, while the disks keep the staged ones.
func (w *planned) showTable() error {
	if err := w.settleGrowth(); err != nil {
		return err
	}
	w.shown = true
	for _, a := range w.arrays {
		if err := a.show(); err != nil {
			return err
		}
	}
	for _, d := range w.disks {
		if err := d.show(); err != nil {
			return err
		}
	}
	return nil
}

// show lets others open the disk, and has the kernel see the partitions that it is to have.
func (d *plannedDisk) show() error {
	if d.held != nil {
		if err := d.held.release(false); err != nil {
			return err
		}
	}
	if err := d.dev.Share(); err != nil || d.Table.Kind == imagefmt.TableNone {
		return err
	}
	return d.dev.ShowPartitions(d.Table)
}

// letGo lets others mount what is on the disks. Those whose partitions only the kernel knows stay open, and so locked: udev would
// have it look at their tables again. So do arrays of which something is held back.
func (w *planned) letGo() error {
	if !w.shown {
		return w.close()
	}
	var errs []error
	for _, a := range w.arrays {
		if a.dev != nil && a.held == nil {
			errs = append(errs, a.dev.Close())
			a.dev = nil
		}
	}
	return errors.Join(errs...)
}

// finishTable writes the final tables, the last step to disks that boot.
func (w *planned) finishTable() error {
	if !w.shown {
		if err := w.settleGrowth(); err != nil {
			return err
		}
	}
	if w.shown { // partitions were written to by other ways than ours
		for _, dev := range w.devices() {
			if err := dev.DropCaches(); err != nil {
				return err
			}
		}
	}
	for _, finish := range w.finishOrder() {
		if err := finish(); err != nil {
			return err
		}
	}
	w.whole, w.shown = true, false
	for _, d := range w.disks {
		if err := d.dev.RereadTable(); err != nil {
			return err
		}
	}
	return nil
}

// finish writes the final table, or what is held back of a disk without one.
func (d *plannedDisk) finish() error {
	if d.held != nil {
		return d.held.release(true)
	}
	if d.Table.Kind == imagefmt.TableNone {
		return nil
	}
	write := disk.WriteTable
	if len(d.Kept) > 0 {
		write = disk.ReplaceTable
	}
	if err := write(d.dev, d.Table); err != nil {
		return err
	}
	return d.dev.Sync()
}

// finishOrder is what finishes the arrays and disks, in an order in which the power may fail: what a firmware starts from comes last, and the
// root just before, so that nothing starts of which another disk lacks a part. Of arrays nothing is found before a table lists their members.
func (w *planned) finishOrder() []func() error {
	var order [3][]func() error
	for _, a := range w.arrays {
		rank := 0
		if a.boots() {
			rank = 2
		}
		order[rank] = append(order[rank], a.finish)
	}
	var rootDisks []int
	for _, n := range target.RootPartitions(w.m) {
		if r, ok := w.imagePlace(n); ok {
			rootDisks = append(rootDisks, w.disksOf(r)...)
		}
	}
	for i, d := range w.disks {
		rank := 0
		switch {
		case d.boots():
			rank = 2
		case slices.Contains(rootDisks, i):
			rank = 1
		}
		order[rank] = append(order[rank], d.finish)
	}
	return slices.Concat(order[:]...)
}

// firmwareTypes are the types of partitions that a firmware starts from: EFI system (UEFI 2.10, 5.3.3), BIOS boot (GRUB), PReP; the last two are of
// an MBR.
var firmwareTypes = []string{"C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "21686148-6449-6E6F-744E-656564454649", "9E1A2D38-C612-4316-AA26-8B49521E5A8B", "0xef", "0x41"}

// boots says whether a firmware may start from the disk.
func (d *plannedDisk) boots() bool {
	return d.held != nil || len(d.Table.BootCode) > 0 || slices.ContainsFunc(d.Table.Partitions, func(p imagefmt.Partition) bool {
		return slices.ContainsFunc(firmwareTypes, func(kind string) bool { return strings.EqualFold(kind, p.Type) })
	})
}

// setWhole notes whether everything that is to be on the disks is there; if not, undo makes them unbootable. Before finishTable it
// never is.
func (w *planned) setWhole(whole bool) { w.whole = whole && !w.shown }

// bootDisks are the disks that firmware could start from.
func (w *planned) bootDisks() []bootDisk {
	var all []bootDisk
	for _, d := range w.disks {
		if d.dev.IsBlock() {
			all = append(all, bootDisk{path: d.Disk.Path, kept: d.Kept})
		}
	}
	return all
}
