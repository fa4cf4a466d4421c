package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/disk"
	"swarmboot/internal/event"
	"swarmboot/internal/layout"
	"swarmboot/internal/params"
)

// makePlan decides what goes where on this machine's disks. It writes nothing.
func (e *engine) makePlan(ctx context.Context) (*layout.Plan, error) {
	e.look = e.remoteImage(ctx)
	im := layout.Image{Manifest: e.m, Used: e.look.used}
	if !e.hasLayout() {
		d, err := chooseDisk(e.o.Disk)
		if err != nil {
			return nil, err
		}
		inv := disk.Inventory{Disk: d}
		if e.o.Plan { // only people ask what is lost
			inv = disk.InventoryOf(d)
		}
		p, err := layout.Default(inv, im, layout.Scale(e.o.Grow))
		return p, planError(err)
	}
	b := e.o.LayoutJSON
	if b == nil {
		var err error
		if b, err = e.c.layout(ctx, e.o.Layout, e.o.Patience, e.rep.say); err != nil {
			return nil, fmt.Errorf("layout %q: %w", e.o.Layout, err)
		}
	}
	l, err := layout.Parse(b)
	if err != nil {
		return nil, cli.WithCode(cli.CodeUsage, fmt.Errorf("layout %q: %w", e.o.Layout, err))
	}
	inv, err := disk.ReadInventory(l.Files())
	if err != nil {
		return nil, fmt.Errorf("disks of this machine: %w", err)
	}
	p, err := l.Plan(inv, im)
	if err != nil {
		return nil, planError(fmt.Errorf("layout %q: %w", e.o.Layout, err))
	}
	p.Layout = e.o.Layout
	return p, nil
}

func (e *engine) hasLayout() bool { return e.o.Layout != "" || e.o.LayoutJSON != nil }

// planError gives an error of package layout its exit code.
func planError(err error) error {
	var small *disk.TooSmallError
	var none *layout.NoCandidateError
	var refused *layout.RefusedError
	switch {
	case errors.As(err, &small):
		return cli.WithCode(cli.CodeTooSmall, err)
	case errors.As(err, &none), errors.As(err, &refused):
		return cli.WithCode(cli.CodeDisk, err)
	}
	return err
}

// selectPlan is the step select: it decides what goes where, opens the disks, and looks whether the plan can be carried out.
func (e *engine) selectPlan(ctx context.Context) error {
	plan, err := e.makePlan(ctx)
	if err != nil {
		return err
	}
	var paths []string
	for _, d := range plan.Disks {
		paths = append(paths, d.Disk.Path)
	}
	e.rep.update(func(p *event.Progress) { p.Disk = strings.Join(paths, " ") })
	if !e.hasLayout() {
		e.rep.say(describe(plan.Disks[0].Disk))
	}
	for _, line := range slices.Concat(plan.Reasons, plan.Notes) {
		e.rep.say(line)
	}
	root := &planned{m: e.m, plan: plan}
	if _, ok := root.imagePlace(e.m.Boot.Root); !ok && e.hasLayout() && (e.o.Then == string(params.ThenKexec) || e.hasIdentity()) {
		return cli.WithCode(cli.CodeDisk, errors.New("the layout has no place for the image's root: it can be neither changed nor started"))
	}
	if err := e.takeMounts(plan); err != nil {
		return err
	}
	if err := loadLevels(ctx, plan); err != nil {
		return err
	}
	if err := stopRunning(ctx, plan); err != nil {
		return err
	}
	w, err := newPlanned(e.m, plan, e.rep.say)
	if err != nil {
		return err
	}
	e.w, w.look = w, e.look
	if err := w.check(); err != nil {
		return err
	}
	e.resume = w.unfinished() // before the wipe takes the mark away
	return nil
}

// takeMounts adds the mounts of the plan to what the profile says; a line of the profile for the same path wins.
func (e *engine) takeMounts(plan *layout.Plan) error {
	mounts := fstab(e.m, plan)
	if len(mounts) == 0 {
		return nil
	}
	if root, err := partExtent(e.m, e.m.Boot.Root); err == nil && e.m.Boot.Root > 0 && root.FileSystem == "" && !e.hasIdentity() {
		e.rep.warn("the image's root file system is not known: the layout's mounts are not in its fstab")
		return nil
	}
	if os.Geteuid() != 0 {
		return cli.WithCode(cli.CodeUsage, errors.New("the layout's mounts can be put into the deployed system by root only: its file system has to be mounted"))
	}
	p := params.Profile{}
	if e.profile != nil {
		p = *e.profile
	}
	e.profile = (&params.Profile{Fstab: mounts}).Merge(&p)
	return nil
}

// fstab makes lines for the deployed system of a plan's mounts. Those of the image stay, and name what has moved as renameStep says.
func fstab(m *imagefmt.Manifest, plan *layout.Plan) []params.Mount {
	var lines []params.Mount
	w := &planned{m: m, plan: plan}
	for _, mt := range plan.Mounts {
		device := w.fileSystemName(mt.On)
		if device == "" {
			continue // nothing that could be mounted by name is there
		}
		lines = append(lines, params.Mount{Device: device, Path: mt.Path, Type: mt.FSType, Options: mt.Options, Pass: pass(mt.Path, mt.FSType)})
	}
	return lines
}

// pass is the order of checks at boot: the root first; XFS, btrfs and swap are not checked.
func pass(path, fsType string) int {
	switch {
	case !slices.Contains([]string{"ext2", "ext3", "ext4", "vfat"}, fsType):
		return 0
	case path == "/":
		return 1
	}
	return 2
}

// fileSystemName is how fstab names what is in a place: by the UUID of its file system, of the partition, or by the array's name.
func (w *planned) fileSystemName(r layout.Ref) string {
	for _, c := range w.plan.Contents {
		if c.On != r {
			continue
		}
		if c.Source.Len == 0 && c.UUID != "" {
			return "UUID=" + c.UUID
		}
		if p, err := partExtent(w.m, c.Image); err == nil && c.Image > 0 && p.FSUUID != "" {
			return "UUID=" + p.FSUUID
		}
	}
	if id := w.partUUID(r); id != "" {
		return "PARTUUID=" + strings.ToLower(id)
	}
	if r.Array >= 0 {
		return "/dev/md/" + w.plan.Arrays[r.Array].Name
	}
	return ""
}

// layout gets a layout from the server, with attempts until patience is over.
func (c *client) layout(ctx context.Context, name string, patience time.Duration, say func(string)) ([]byte, error) {
	b, err := c.fetch(ctx, c.base+"/layouts/"+url.PathEscape(name), layout.MaxLayout, patience, say)
	var se *statusError
	if errors.As(err, &se) && se.Status == http.StatusNotFound {
		return nil, cli.WithCode(cli.CodeUsage, fmt.Errorf("the server has no layout of this name: %w", se))
	}
	return b, err
}

// showPlan is all that a dry run does after the manifest: it makes the plan, shows it, and looks whether it could be carried out.
func (e *engine) showPlan(ctx context.Context) error {
	plan, err := e.makePlan(ctx)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := plan.Describe(&b); err != nil {
		return err
	}
	stops := slices.ContainsFunc(plan.Disks, func(d layout.DiskPlan) bool { return len(d.Stop) > 0 })
	if stops {
		b.WriteString("arrays would be stopped: whether the disks are free afterwards is not known\n")
	}
	e.rep.end = event.PhasePlan
	e.rep.say(strings.TrimRight(b.String(), "\n"))
	if stops {
		return nil
	}
	w, err := newPlanned(e.m, plan, e.rep.say)
	if err != nil {
		return err
	}
	defer w.close() //nolint:errcheck // nothing was written
	w.look = e.look
	if err := w.check(); err != nil {
		return err
	}
	return nil
}
