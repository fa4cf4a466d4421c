package deploy

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/disk"
	"swarmboot/internal/layout"
	"swarmboot/internal/target"
)

// check refuses a plan that cannot be carried out on the disks as they are now. It writes nothing.
func (w *planned) check() error {
	if err := w.plan.Check(w.m); err != nil {
		return cli.WithCode(cli.CodeDisk, err)
	}
	for _, d := range w.disks {
		if d.dev.Size() != d.Disk.Size {
			return cli.WithCode(cli.CodeDisk, fmt.Errorf("%s has %d bytes, and %d when the plan was made", d.Disk.Path, d.dev.Size(), d.Disk.Size))
		}
		if err := w.checkTables(d); err != nil {
			return cli.WithCode(tableCode(err), err)
		}
	}
	for _, c := range w.plan.Contents {
		if err := w.checkContent(c); err != nil {
			return cli.WithCode(cli.CodeDisk, err)
		}
	}
	if err := w.checkSectors(); err != nil {
		return err
	}
	if err := w.checkRoot(); err != nil {
		return cli.WithCode(cli.CodeDisk, err)
	}
	if err := w.checkArrays(); err != nil || len(w.arrays) > 0 {
		return err
	}
	return w.lay()
}

// checkSectors refuses file systems of the image that cannot be used on a disk with sectors of another size. The manifest tells
// only what kind they are; their superblocks, and the files of a FAT, are read from the payload.
func (w *planned) checkSectors() error {
	for _, c := range w.plan.Contents {
		if !w.otherSectors(c) || w.look == nil {
			continue
		}
		im, err := w.look()
		if err != nil {
			return fmt.Errorf("%s: sectors of another size than the image's: %w", w.plan.Name(c.On), err)
		}
		size, err := w.plannedSize(c.On)
		if err != nil {
			return err
		}
		if err := target.CheckSector(io.NewSectionReader(im, c.Source.Off, c.Source.Len), size, w.sector(c.On)); err != nil {
			return cli.WithCode(cli.CodeDisk, fmt.Errorf("%s: partition %d of the image: %w", w.plan.Name(c.On), c.Image, err))
		}
	}
	return nil
}

func tableCode(err error) int {
	var small *disk.TooSmallError
	if errors.As(err, &small) {
		return cli.CodeTooSmall
	}
	return cli.CodeDisk
}

// checkTables looks at the table that a disk is to have, and that what is kept is where the plan says: somebody may have changed it
// between the moment when it was read and the one from which on the disk is held.
func (w *planned) checkTables(d *plannedDisk) error {
	keep := len(d.Kept) > 0
	for _, t := range []imagefmt.Table{d.staged(), d.Table} {
		if err := d.dev.CheckTable(t, d.Disk.LogicalSector, keep); err != nil {
			return err
		}
	}
	if !keep {
		return nil
	}
	ok, err := d.dev.Lists(d.Table.Kind, d.keptParts())
	if err == nil && !ok {
		err = fmt.Errorf("%s: the partitions that are to be kept are not where they were when the plan was made", d.Disk.Path)
	}
	return err
}

// checkContent refuses what would overwrite a table and file systems that cannot be made.
func (w *planned) checkContent(c layout.Content) error {
	if c.Source.Len > 0 {
		return w.checkBounds(c)
	}
	if c.FS == "" {
		return nil
	}
	if err := w.checkNew(c); err != nil {
		return fmt.Errorf("%s: %w", w.plan.Name(c.On), err)
	}
	return nil
}

func (w *planned) checkBounds(c layout.Content) error {
	if c.On.Disk < 0 || c.On.Partition > 0 {
		return nil
	}
	d := w.disks[c.On.Disk]
	if d.Table.Kind == imagefmt.TableNone {
		return nil
	}
	first, end := int64(d.Disk.LogicalSector), d.Disk.Size
	if d.Table.Kind == imagefmt.TableGPT {
		first, end = disk.Usable(d.Table.Kind, d.Disk.Size, d.Disk.LogicalSector)
	}
	if c.Offset < first || c.Offset+c.Source.Len > end {
		return fmt.Errorf("plan: %s: %d bytes of the image at %d would lie on the partition table", d.Disk.Path, c.Source.Len, c.Offset)
	}
	return nil
}

// checkRoot refuses a root that the deployed system could not be told of.
func (w *planned) checkRoot() error {
	root := w.m.Boot.Root
	i := slices.IndexFunc(w.m.Table.Partitions, func(p imagefmt.Partition) bool { return p.Number == root })
	if i < 0 {
		return nil
	}
	r, ok := w.imagePlace(root)
	if ok && !strings.EqualFold(w.partUUID(r), w.m.Table.Partitions[i].UUID) && w.partUUID(r) == "" && w.m.Table.Partitions[i].FSUUID == "" {
		return fmt.Errorf("%s: the image's root is to be there, and has neither a PARTUUID there nor a file system with a UUID", w.plan.Name(r))
	}
	return nil
}
