package deploy

import (
	"context"
	"fmt"
	"io"
	"slices"

	"swarmboot/internal/cli"
	"swarmboot/internal/params"
	"swarmboot/internal/target"
)

// fillGrow checks a choice and fills in the default: a disk is used to its end; a file keeps what the image has, since its
// file systems cannot be mounted as they are, and people compare such files.
func fillGrow(g *params.Grow, selector string) error {
	switch *g {
	case params.GrowLast, params.GrowProportional, params.GrowExact, params.GrowNone:
		return nil
	case "":
	default:
		return cli.Usagef("grow %q: want last, proportional, exact or none", *g)
	}
	*g = params.GrowLast
	if isFile, err := regularFile(selector); isFile && err == nil {
		*g = params.GrowNone
	}
	return nil
}

// grows says whether file systems may have become larger places.
func grows(g params.Grow) bool { return g == params.GrowLast || g == params.GrowProportional }

// settleGrowth looks at what was given a larger place only because there was room (layout.Content.Back): what cannot grow goes
// back to where it ended, since a manifest does not know every file system. Everything is on the disks by now, and no table lists it.
func (w *planned) settleGrowth() error {
	for i := range w.plan.Contents {
		c := &w.plan.Contents[i]
		if !enlarged(*c) || c.Back == 0 {
			continue
		}
		s, size, err := w.place(c.On)
		if err != nil {
			return err
		}
		reason := target.CanGrow(io.NewSectionReader(s, 0, size))
		if reason == nil {
			continue
		}
		what := "disk"
		if c.On.Partition > 0 {
			what = fmt.Sprintf("partition %d", c.On.Partition)
		}
		w.say(fmt.Sprintf("not grown: %s: %v", what, reason))
		c.Grow = false
		t := &w.disks[c.On.Disk].Table
		t.Partitions = slices.Clone(t.Partitions)
		for j := range t.Partitions {
			if t.Partitions[j].Number == c.On.Partition {
				t.Partitions[j].Length = c.Back
			}
		}
	}
	return nil
}

// grow makes the file systems as large as their places.
func (e *engine) grow(ctx context.Context) error {
	if err := e.leaveSwarm(); err != nil {
		return fmt.Errorf("leave the swarm: %w", err)
	}
	return e.w.growFileSystem(ctx, e.rep.warn)
}
