package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"swarmboot/imagefmt"
	"swarmboot/internal/disk"
	"swarmboot/internal/layout"
	"swarmboot/internal/progress"
	"swarmboot/internal/target"
)

// growFileSystem lets go of the disks, and has the image's file systems fill their places where the plan wants it. One that does not
// grow is a warning: the image is whole and verified, and its system boots.
func (w *planned) growFileSystem(ctx context.Context, warn func(string)) error {
	if err := w.letGo(); err != nil {
		return err
	}
	for _, c := range w.plan.Contents {
		if !enlarged(c) {
			continue
		}
		g, err := w.growOne(ctx, c.On)
		switch {
		case err != nil && ctx.Err() != nil:
			return err
		case err != nil:
			warn(fmt.Sprintf("%s is larger, its file system is not: %v", w.plan.Name(c.On), err))
		case g.After > g.Before:
			w.say(fmt.Sprintf("%s grown: %s from %s to %s", w.plan.Name(c.On), g.FileSystem, progress.Bytes(g.Before), progress.Bytes(g.After)))
		}
	}
	for _, line := range w.resyncs() {
		w.say(line)
	}
	if err := w.freeResync(); err != nil {
		warn(err.Error())
	}
	return nil
}

func enlarged(c layout.Content) bool { return c.Grow && c.Source.Len > 0 }

func (w *planned) growOne(ctx context.Context, r layout.Ref) (target.Grown, error) {
	device, release, err := w.attachRef(ctx, r)
	if err != nil {
		return target.Grown{}, err
	}
	g, err := target.GrowFileSystem(ctx, device)
	return g, errors.Join(err, release())
}

// attachRef returns the block device of a place; in a file it is a loop device until release.
func (w *planned) attachRef(ctx context.Context, r layout.Ref) (device string, release func() error, err error) {
	none := func() error { return nil }
	if r.Array >= 0 {
		return w.arrays[r.Array].device, none, waitFor(ctx, w.arrays[r.Array].device, nodeLimit)
	}
	d := w.disks[r.Disk]
	if d.dev.IsBlock() {
		device = disk.PartitionPath(d.Disk.Path, r.Partition)
		return device, none, waitFor(ctx, device, nodeLimit)
	}
	e, err := d.extent(r.Partition)
	if err != nil {
		return "", nil, err
	}
	loop, err := target.AttachLoop(d.Disk.Path, e.Off, e.Len)
	if err != nil {
		return "", nil, err
	}
	return loop.Path, loop.Close, nil
}

// imagePlace finds where the image's partition n has gone, for 0 a bare file system.
func (w *planned) imagePlace(n int) (layout.Ref, bool) {
	for _, c := range w.plan.Contents {
		if c.Source.Len > 0 && c.Image == n && (n > 0 || w.m.Table.Kind == imagefmt.TableNone) {
			return c.On, true
		}
	}
	return layout.Ref{}, false
}

// attach returns the block device of the image's partition n (0: of the whole disk), waits for its node, and returns what
// gives it back. A partition that has no place is an error.
func (w *planned) attach(ctx context.Context, n int) (device string, release func() error, err error) {
	r, ok := w.imagePlace(n)
	if !ok {
		return "", nil, fmt.Errorf("the layout has no place for the image's partition %d", n)
	}
	return w.attachRef(ctx, r)
}

// device returns the node of the image's partition n (0: of the whole disk), "" if it has none.
func (w *planned) device(n int) string {
	r, ok := w.imagePlace(n)
	switch {
	case !ok:
		return ""
	case r.Array >= 0:
		return w.arrays[r.Array].device
	}
	return disk.PartitionPath(w.disks[r.Disk].Disk.Path, r.Partition)
}

// partUUID is the PARTUUID of a place, "" if it is no partition.
func (w *planned) partUUID(r layout.Ref) string {
	if r.Disk < 0 || r.Partition == 0 {
		return ""
	}
	for _, p := range w.plan.Disks[r.Disk].Table.Partitions {
		if p.Number == r.Partition {
			return p.UUID
		}
	}
	return ""
}

// booted gives the image's partitions the PARTUUIDs of their places, and names a root that is no partition any more by the
// UUID of its file system.
func (w *planned) booted() *imagefmt.Manifest {
	m := *w.m
	m.Table.Partitions = slices.Clone(m.Table.Partitions)
	for i := range m.Table.Partitions {
		p := &m.Table.Partitions[i]
		r, ok := w.imagePlace(p.Number)
		if !ok {
			continue
		}
		old := p.UUID
		if p.UUID = w.partUUID(r); p.UUID == old {
			continue
		}
		if p.Number == m.Boot.Root {
			m.Boot.Cmdline = rootCmdline(m.Boot.Cmdline, old, *p)
		}
	}
	return &m
}

// rootCmdline puts the new name of the root into an image's own kernel command line.
func rootCmdline(line, old string, root imagefmt.Partition) string {
	words := strings.Fields(line)
	at := slices.IndexFunc(words, func(s string) bool { return strings.HasPrefix(s, "root=") })
	name := "root=PARTUUID=" + strings.ToLower(root.UUID)
	if root.UUID == "" {
		name = "root=UUID=" + root.FSUUID
	}
	switch {
	case at < 0 && root.UUID != "":
		return line // package target adds it
	case at < 0:
		words = append([]string{name, "ro"}, words...)
	case old != "" && strings.EqualFold(words[at], "root=PARTUUID="+old):
		words[at] = name
	}
	return strings.Join(words, " ")
}
