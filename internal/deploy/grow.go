package deploy

import (
	"context"
	"fmt"
	"io"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/disk"
	"swarmboot/internal/params"
	"swarmboot/internal/progress"
	"swarmboot/internal/target"
)

// fillGrow checks a choice and fills in the default: a disk is used to its end; a file keeps what the image has, since its
// file systems cannot be mounted as they are, and people compare such files.
func fillGrow(g *params.Grow, selector string) error {
	switch *g {
	case params.GrowLast, params.GrowNone:
		return nil
	case "":
	default:
		return cli.Usagef("grow %q: want last or none", *g)
	}
	*g = params.GrowLast
	if isFile, err := regularFile(selector); isFile && err == nil {
		*g = params.GrowNone
	}
	return nil
}

// finalTable returns the image's table, its last partition grown into the rest of a larger disk. What is in that partition
// is on the disk by now and is looked at: a manifest does not know every file system.
func (w *writer) finalTable() imagefmt.Table {
	if !w.grow {
		return w.m.Table
	}
	space := disk.Space{Disk: w.dev.Size(), Image: w.m.DiskSize, Sector: w.dev.SectorSize()}
	t, p, err := disk.Grow(w.m.Table, space, func(p imagefmt.Partition) error {
		return target.CanGrow(io.NewSectionReader(w.dev, p.Start, p.Length))
	})
	if err != nil {
		if space.Disk > space.Image {
			w.say("not grown: " + err.Error())
		}
		return w.m.Table
	}
	w.grown = &p
	return t
}

// grow makes the file system in the partition that finishTable has grown as large as that.
func (e *engine) grow(ctx context.Context) error {
	if err := e.leaveSwarm(); err != nil {
		return fmt.Errorf("leave the swarm: %w", err)
	}
	return e.w.growFileSystem(ctx, e.rep.warn)
}

// growFileSystem lets go of the disk and grows the file system. A file system that does not grow is a warning: the image
// is whole and verified, and its system boots.
func (w *writer) growFileSystem(ctx context.Context, warn func(string)) error {
	if w.grown == nil {
		return nil
	}
	if err := w.close(); err != nil {
		return err
	}
	name := "disk"
	if w.grown.Number > 0 {
		name = fmt.Sprintf("partition %d", w.grown.Number)
	}
	g, err := w.growOn(ctx, *w.grown)
	switch {
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil:
		warn(fmt.Sprintf("%s is larger, its file system is not: %v", name, err))
	default:
		w.say(fmt.Sprintf("%s grown: %s from %s to %s", name, g.FileSystem, progress.Bytes(g.Before), progress.Bytes(g.After)))
	}
	return nil
}

// growOn grows the file system in a partition through its device node; for a file there is a loop device meanwhile.
func (w *writer) growOn(ctx context.Context, p imagefmt.Partition) (g target.Grown, err error) {
	device := w.device(p.Number)
	if !w.dev.IsBlock() {
		loop, err := target.AttachLoop(w.dev.Path(), p.Start, p.Length)
		if err != nil {
			return g, err
		}
		defer loop.Close()
		return target.GrowFileSystem(ctx, loop.Path)
	}
	if err := waitFor(ctx, device, nodeLimit); err != nil {
		return g, err
	}
	return target.GrowFileSystem(ctx, device)
}
