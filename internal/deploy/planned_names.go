package deploy

import (
	"context"
	"os"
	"slices"
	"strings"

	"swarmboot/imagefmt"
	"swarmboot/internal/event"
	"swarmboot/internal/target"
	"swarmboot/internal/target/identity"
)

// renamed are the names of partitions of the image that mean nothing where they have gone, and the new ones, for
// identity.Replace: a partition may have another PARTUUID there, and an array has none. What is in an array is named by the
// UUID of its file system, which any initramfs finds that assembles the array; one without a UUID by the array's own name.
func (w *planned) renamed() map[string]string {
	names := map[string]string{}
	for _, p := range w.m.Table.Partitions {
		r, ok := w.imagePlace(p.Number)
		if !ok || p.UUID == "" {
			continue
		}
		old, id := strings.ToLower(p.UUID), strings.ToLower(w.partUUID(r))
		switch {
		case old == id:
		case id != "":
			names[old] = id
		case p.FSUUID != "":
			names[identity.PartUUID+old] = "UUID=" + p.FSUUID
			names[identity.ByPartUUID+old] = "/dev/disk/by-uuid/" + p.FSUUID
		case r.Array >= 0:
			names[identity.PartUUID+old] = "/dev/md/" + w.plan.Arrays[r.Array].Name
			names[identity.ByPartUUID+old] = "/dev/md/" + w.plan.Arrays[r.Array].Name
		}
	}
	return names
}

// fsCopies are all places that have a copy of a file system of the image in which files may name partitions.
func (w *planned) fsCopies() []fsCopy {
	return slices.DeleteFunc(w.copies(), func(c fsCopy) bool {
		p, err := partExtent(w.m, c.number)
		return err != nil || c.number == 0 || c.number == w.m.Boot.Root || !slices.Contains([]string{"ext2", "ext3", "ext4", "vfat"}, p.FileSystem)
	})
}

// copies are all places of the image's partitions, or of a bare file system.
func (w *planned) copies() []fsCopy {
	var all []fsCopy
	for _, c := range w.plan.Contents {
		if c.Source.Len == 0 || c.Image == 0 && w.m.Table.Kind != imagefmt.TableNone {
			continue
		}
		all = append(all, fsCopy{c.Image, func(ctx context.Context) (string, func() error, error) { return w.attachRef(ctx, c.On) }})
	}
	return all
}

// fsCopy is a copy of the image's partition with this number.
type fsCopy struct {
	number int
	attach func(context.Context) (device string, release func() error, err error)
}

// renameStep has the deployed system's files and boot loaders name what has moved.
func (e *engine) renameStep() step {
	return step{name: event.PhaseUUIDs, run: e.rename, when: func() bool { return len(e.w.renamed()) > 0 && !e.hasNewUUIDs() }}
}

// rename puts the names of the places in the place of the image's names. Until it has come to a good end the disks count as
// unfinished: a system that is changed in part may not start.
func (e *engine) rename(ctx context.Context) error {
	root, err := partExtent(e.m, e.m.Boot.Root)
	switch {
	case os.Geteuid() != 0:
		e.rep.warn("only root can mount the deployed system: its files still name partitions as in the image")
		return nil
	case err != nil || e.m.Boot.Root > 0 && root.FileSystem == "" || target.CheckRoot(ctx, e.m) != nil:
		e.rep.warn("the image's root file system cannot be mounted here: its files still name partitions as in the image")
		return nil
	}
	if err := e.release(); err != nil {
		return err
	}
	e.w.setWhole(false)
	changed, err := e.changeReferences(ctx, e.w.renamed())
	if err != nil {
		return err
	}
	e.w.setWhole(true)
	if len(changed) > 0 {
		e.rep.say("partitions that have other names now are named so in " + strings.Join(changed, ", "))
	}
	return nil
}
