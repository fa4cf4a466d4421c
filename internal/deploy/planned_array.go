package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/disk"
	"swarmboot/internal/layout"
	"swarmboot/internal/md"
)

// plannedArray is an array of the plan.
type plannedArray struct {
	layout.ArrayPlan
	device string       // node, "" until it runs
	dev    *disk.Device // nil until it runs
	held   *held        // nil: nothing is held back
	hung   bool         // as that of a disk
}

// front is the array as it will be.
func (a *plannedArray) front() space {
	if a.held != nil {
		return a.held
	}
	return a.dev
}

// show lets others open an array that something of the image is on. It stays open: its boot sector may still be held back.
func (a *plannedArray) show() error {
	if a.held == nil {
		return nil
	}
	if err := a.held.release(false); err != nil {
		return err
	}
	return a.dev.Share()
}

// finish writes what is held back.
func (a *plannedArray) finish() error {
	if a.held == nil {
		return nil
	}
	return a.held.release(true)
}

// boots says whether a firmware, which knows nothing of md, may start from the array: with metadata 1.0 the data begins where the members do.
func (a *plannedArray) boots() bool {
	return a.held != nil && a.Metadata == "1.0" && a.Members[0].Partition == 0
}

// resyncSpeed is how fast arrays are brought in line, in bytes a second, as long as the image is being written: whatever is deployed is
// on all members anyhow, and the kernel, which lets others go first, does not see what waits in the page cache.
const resyncSpeed = 16 << 20

// superblockRoom is what is zeroed at both ends of a member so that no version of an md superblock is left: 1.0 and 0.90 lie
// within the last 128 KiB, the others in the first 8.
const superblockRoom = 128 << 10

// checkArrays refuses members that the kernel's md cannot take, and those that md.Create would not overwrite once the disks are wiped, before
// anything is written: superblocks of which no inventory tells, since no table lists where they are.
func (w *planned) checkArrays() error {
	for _, a := range w.arrays {
		for _, r := range slices.Concat(a.Members, a.Spares) {
			if !w.disks[r.Disk].dev.IsBlock() {
				return cli.WithCode(cli.CodeDisk, fmt.Errorf("array %s: %s is a file: members of arrays are block devices", a.Name, w.disks[r.Disk].Disk.Path))
			}
		}
		if a.Recreate {
			continue
		}
		places, err := w.wipedMembers(a)
		if err != nil {
			return err
		}
		if err := md.Judge(w.spec(a), places); err != nil {
			return cli.WithCode(cli.CodeDisk, err)
		}
	}
	return nil
}

// wipedMembers are the members of an array as they will be after the step wipe.
func (w *planned) wipedMembers(a *plannedArray) (all []md.Place, err error) {
	for _, r := range slices.Concat(a.Members, a.Spares) {
		d := w.disks[r.Disk]
		e, err := d.extent(r.Partition)
		if err != nil {
			return nil, err
		}
		cleared, err := disk.WouldClear(d.dev, d.keptExtents(), w.fresh(r.Disk)...)
		if err != nil {
			return nil, err
		}
		all = append(all, md.Place{ReaderAt: io.NewSectionReader(&wiped{d.dev, cleared}, e.Off, e.Len), Size: e.Len})
	}
	return all, nil
}

// wiped reads a disk as if parts of it were zero.
type wiped struct {
	disk  io.ReaderAt
	zeros []imagefmt.Extent
}

// ReadAt implements io.ReaderAt.
func (w *wiped) ReadAt(p []byte, off int64) (int, error) {
	n, err := w.disk.ReadAt(p, off)
	for _, z := range w.zeros {
		if lo, hi := max(z.Off, off), min(z.End(), off+int64(n)); lo < hi {
			clear(p[lo-off : hi-off])
		}
	}
	return n, err
}

// loadLevels has the kernel learn the levels of a plan's arrays. What it cannot do has to be known before the disks are written.
func loadLevels(ctx context.Context, plan *layout.Plan) error {
	for _, a := range plan.Arrays {
		if err := md.Load(ctx, a.Level); err != nil {
			return cli.WithCode(cli.CodeDisk, fmt.Errorf("array %s: %w", a.Name, err))
		}
	}
	return nil
}

// stopRunning stops the arrays that a plan wants stopped, so that their disks can be opened.
func stopRunning(ctx context.Context, plan *layout.Plan) error {
	var stopped []string
	for _, d := range plan.Disks {
		for _, name := range d.Stop {
			if slices.Contains(stopped, name) {
				continue
			}
			if err := md.Stop(ctx, "/dev/"+name); err != nil {
				return cli.WithCode(cli.CodeDisk, err)
			}
			stopped = append(stopped, name)
		}
	}
	return nil
}

// assemble makes the arrays. The kernel is shown partitions that no table lists yet: see planned. An array that is there as
// planned, of a run that was cut off, is taken as it is.
func (w *planned) assemble(ctx context.Context) error {
	for i, d := range w.disks {
		if !w.holdsMembers(i) {
			continue
		}
		if err := d.show(); err != nil {
			return err
		}
	}
	for _, a := range w.arrays {
		if err := w.makeArray(ctx, a); err != nil {
			return err
		}
	}
	return w.lay()
}

// assemble is the step that makes the arrays; from then on reports say how far the kernel has brought them in line.
func (e *engine) assemble(ctx context.Context) error {
	if err := e.w.assemble(ctx); err != nil {
		return err
	}
	e.rep.setArrays(e.w.resyncs)
	return nil
}

// fresh are the places of new partitions on disk i. Members of arrays are left out: an array that a run which was cut off has made
// is taken as it is, and md.Create looks at everything else. Not so on disks that are cleared: a discard may leave the superblocks of some members.
func (w *planned) fresh(i int) (places []imagefmt.Extent) {
	for _, p := range w.disks[i].Table.Partitions {
		member := slices.ContainsFunc(w.arrays, func(a *plannedArray) bool {
			return slices.Contains(slices.Concat(a.Members, a.Spares), layout.Ref{Disk: i, Array: -1, Partition: p.Number})
		})
		if (!member || w.disks[i].clears()) && !slices.Contains(w.disks[i].Kept, p.Number) {
			places = append(places, imagefmt.Extent{Off: p.Start, Len: p.Length})
		}
	}
	return places
}

func (w *planned) makesArrays() bool { return len(w.arrays) > 0 }

func (w *planned) holdsMembers(i int) bool {
	return slices.ContainsFunc(w.arrays, func(a *plannedArray) bool {
		return slices.ContainsFunc(slices.Concat(a.Members, a.Spares), func(r layout.Ref) bool { return r.Disk == i })
	})
}

func (w *planned) makeArray(ctx context.Context, a *plannedArray) error {
	made, err := a.create(ctx, md.Create, w.spec(a))
	if err != nil {
		return err
	}
	a.device = made.Device
	if a.dev, err = disk.Open(made.Device); err != nil {
		return openError(err)
	}
	if a.dev.Size() != a.Size {
		return fmt.Errorf("array %s: it has %d bytes, %d were planned", a.Name, a.dev.Size(), a.Size)
	}
	if err := md.LimitResync(made.Device, resyncSpeed); err != nil {
		return err
	}
	state := "made"
	if made.Reused {
		state = "was there"
	}
	w.say(fmt.Sprintf("array %s: RAID %d, %s, %s", a.Name, a.Level, disk.FormatSize(a.Size), state))
	return nil
}

func (w *planned) spec(a *plannedArray) md.Spec {
	return md.Spec{
		Shape: md.Shape{Level: a.Level, Metadata: a.Metadata, Chunk: a.Chunk, Bitmap: a.Bitmap},
		Name:  a.Name, Members: w.nodes(a.Members), Spares: w.nodes(a.Spares),
	}
}

// create makes the array with md.Create. Members may hold superblocks that no inventory has shown: those of a table that was cleared, or of
// an array that a run which was cut off has made with another layout. Recreate is only for these: with it md.Create takes nothing as it is.
func (a *plannedArray) create(ctx context.Context, create func(context.Context, md.Spec) (md.Array, error), spec md.Spec) (md.Array, error) {
	made, err := create(ctx, spec)
	var foreign *md.ForeignError
	if !errors.As(err, &foreign) {
		return made, err
	}
	if !a.Recreate {
		return made, cli.WithCode(cli.CodeDisk, err)
	}
	spec.Recreate = true
	return create(ctx, spec)
}

func (w *planned) nodes(refs []layout.Ref) []string {
	var all []string
	for _, r := range refs {
		all = append(all, disk.PartitionPath(w.disks[r.Disk].Disk.Path, r.Partition))
	}
	return all
}

// zeroEdges zeroes the first and the last n bytes of a place.
func zeroEdges(ctx context.Context, s space, size, n int64) error {
	n = min(n, size)
	if err := s.Zero(ctx, 0, n); err != nil {
		return err
	}
	return s.Zero(ctx, size-n, n)
}

// freeResync lifts the limit of makeArray.
func (w *planned) freeResync() error {
	var errs []error
	for _, a := range w.arrays {
		errs = append(errs, md.LimitResync(a.device, 0))
	}
	return errors.Join(errs...)
}

// resyncs says how far the arrays' initial resync has come; it goes on in the background, and after kexec.
func (w *planned) resyncs() (all []string) {
	for _, a := range w.arrays {
		if p, err := md.Resync(a.device); err == nil && p.Action != "idle" {
			all = append(all, fmt.Sprintf("array %s: %s", a.Name, p))
		}
	}
	return all
}
