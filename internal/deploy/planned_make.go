package deploy

import (
	"context"
	"fmt"
	"slices"

	"swarmboot/internal/layout"
	"swarmboot/internal/target"
)

// makeFS makes the new file systems and swap areas, and has the image's fit disks of another sector size. No table lists
// them yet.
func (w *planned) makeFS(ctx context.Context) error {
	for _, c := range w.plan.Contents {
		var err error
		switch {
		case newFS(c):
			w.say(fmt.Sprintf("%s: new %s %s", w.plan.Name(c.On), c.FS, c.Label))
			err = w.makeOne(ctx, c)
		case w.otherSectors(c):
			err = w.fitOne(ctx, c)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", w.plan.Name(c.On), err)
		}
	}
	return w.sync()
}

func (w *planned) makesFS() bool {
	return slices.ContainsFunc(w.plan.Contents, func(c layout.Content) bool { return newFS(c) || w.otherSectors(c) })
}

func newFS(c layout.Content) bool { return c.FS != "" && c.Source.Len == 0 }

// otherSectors says whether a file system of the image goes to a disk with sectors of another size.
func (w *planned) otherSectors(c layout.Content) bool {
	return c.Source.Len > 0 && c.Image > 0 && w.sector(c.On) != w.m.SectorSize
}

func (w *planned) makeOne(ctx context.Context, c layout.Content) error {
	s, size, err := w.place(c.On)
	if err != nil {
		return err
	}
	return target.MakeScratch(ctx, s, w.scratch(c, size))
}

// checkNew refuses a file system that could not be made, before anything is written.
func (w *planned) checkNew(c layout.Content) error {
	size, err := w.plannedSize(c.On)
	if err != nil {
		return err
	}
	return target.CheckScratch(w.scratch(c, size))
}

// plannedSize is how many bytes a place will have; an array need not be there yet.
func (w *planned) plannedSize(r layout.Ref) (int64, error) {
	if r.Array >= 0 {
		return w.arrays[r.Array].Size, nil
	}
	e, err := w.disks[r.Disk].extent(r.Partition)
	return e.Len, err
}

func (w *planned) scratch(c layout.Content, size int64) target.Scratch {
	return target.Scratch{Kind: c.FS, Size: size, Sector: w.sector(c.On), Label: c.Label, UUID: c.UUID}
}

// sector is the logical sector size of a place in bytes: an array has the largest of its members'.
func (w *planned) sector(r layout.Ref) int {
	if r.Array < 0 {
		return w.disks[r.Disk].Disk.LogicalSector
	}
	largest := 0
	for _, m := range w.arrays[r.Array].Members {
		largest = max(largest, w.sector(m))
	}
	return largest
}

// fitOne has a file system of the image fit its disk's sectors: a FAT is built anew, what cannot be used is an error, and the
// disk does not boot.
func (w *planned) fitOne(ctx context.Context, c layout.Content) error {
	s, size, err := w.place(c.On)
	if err != nil {
		return err
	}
	w.say(fmt.Sprintf("%s: from sectors of %d bytes to %d", w.plan.Name(c.On), w.m.SectorSize, w.sector(c.On)))
	return target.FitSector(ctx, s, size, w.sector(c.On))
}
