package deploy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/google/uuid"

	"swarmboot/imagefmt"
	"swarmboot/internal/event"
	"swarmboot/internal/params"
	"swarmboot/internal/target"
	"swarmboot/internal/target/identity"
)

// prepareUUIDs gives the table that this node writes GUIDs of its own. They come from the names of node and image: a deployment that is
// repeated, or goes on after a power cut, has the same again, so that what a site has noted of a node stays true.
func (e *engine) prepareUUIDs(p *params.Profile) error {
	if !p.HasNewUUIDs() {
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("newUUIDs: the deployed system can be changed by root only: its file systems have to be mounted")
	}
	for _, p := range e.m.Table.Partitions {
		if p.FileSystem == "LVM2_member" {
			return fmt.Errorf("newUUIDs: partition %d of the image holds LVM volumes: the UUIDs of volumes and of what is in them cannot be changed here", p.Number)
		}
	}
	if v := e.m.Boot.Volume; v != nil {
		return fmt.Errorf("newUUIDs: the root is the logical volume %s: the UUIDs of volumes and of what is in them cannot be changed here", v.Name)
	}
	e.changed = map[string]string{}
	freshTable(&e.m.Table, e.derive, e.changed)
	return nil
}

// derive makes a UUID for one thing on this node's disk.
func (e *engine) derive(what string) [16]byte {
	return target.DeriveUUID("swarmboot", e.o.Node, e.o.Image, what)
}

// freshTable puts new GUIDs, or a new disk signature, into a table, and notes the PARTUUIDs that change.
func freshTable(t *imagefmt.Table, derive func(what string) [16]byte, changed map[string]string) {
	switch t.Kind {
	case imagefmt.TableGPT:
		t.GUID = upper(derive("disk"))
		for i := range t.Partitions {
			p := &t.Partitions[i]
			fresh := upper(derive(fmt.Sprintf("partition %d", p.Number)))
			if p.UUID != "" {
				changed[strings.ToLower(p.UUID)] = strings.ToLower(fresh)
			}
			p.UUID = fresh
		}
	case imagefmt.TableMBR:
		id := derive("disk")
		id[0] |= 1 // never zero, which stands for none
		t.DiskSignature = fmt.Sprintf("%x", id[:4])
		for i := range t.Partitions {
			p := &t.Partitions[i]
			fresh := fmt.Sprintf("%s-%02x", t.DiskSignature, p.Number)
			if p.UUID != "" {
				changed[strings.ToLower(p.UUID)] = fresh
			}
			p.UUID = fresh
		}
	}
}

func upper(id [16]byte) string { return strings.ToUpper(uuid.UUID(id).String()) }

// uuids gives the file systems their new UUIDs and then puts these, and the PARTUUIDs, in the place of the old ones wherever the
// deployed system names them.
func (e *engine) uuids(ctx context.Context) error {
	if err := e.release(); err != nil {
		return err
	}
	e.w.setWhole(false)
	done := 0
	for _, c := range e.w.copies() {
		fresh, err := e.changeFileSystem(ctx, c)
		if err != nil {
			return err
		}
		if fresh {
			done++
		}
	}
	e.followPlaces()
	e.m.Boot.Cmdline = identity.ReplaceText(e.m.Boot.Cmdline, e.changed)
	files, err := e.changeReferences(ctx, e.changed)
	if err != nil {
		return err
	}
	e.w.setWhole(true)
	if slices.Contains(files, "/etc/initramfs-tools/conf.d/resume") {
		e.rep.warn("the initrd names the image's swap for resume: the first boot waits for it until update-initramfs has run")
	}
	e.rep.say(fmt.Sprintf("new UUIDs for the disk, %d partitions and %d file systems, in %s", len(e.m.Table.Partitions), done, strings.Join(files, ", ")))
	return nil
}

// followPlaces has files name what the image's partitions have become: the PARTUUIDs that freshTable made are those of their places, but
// where a layout says otherwise, and an array has none.
func (e *engine) followPlaces() {
	names := e.w.renamed()
	for old, fresh := range maps.Clone(e.changed) {
		if now, ok := names[fresh]; ok {
			e.changed[old] = now
		}
		for _, prefix := range []string{identity.PartUUID, identity.ByPartUUID} {
			if now, ok := names[prefix+fresh]; ok {
				delete(e.changed, old)
				e.changed[prefix+old] = now
			}
		}
	}
}

// changeFileSystem gives a copy of a file system of the image a new identifier, where that is possible.
func (e *engine) changeFileSystem(ctx context.Context, c fsCopy) (bool, error) {
	n := c.number
	i := e.partition(n)
	device, release, err := c.attach(ctx)
	if err != nil {
		return false, err
	}
	defer release() //nolint:errcheck // a loop device that goes away by itself
	ch, err := target.ChangeIdentifier(device, e.derive(fmt.Sprintf("file system %d", n)))
	if k := target.Kept(err); k != nil {
		if k.Kind != "" {
			e.rep.warn(fmt.Sprintf("partition %d keeps its UUID: %s", n, k.Reason))
		}
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if ch.Old != "" {
		e.changed[strings.ToLower(ch.Old)] = ch.New
	}
	if i >= 0 {
		// What an earlier run that was cut off has changed already is named as in the image.
		if old := e.m.Table.Partitions[i].FSUUID; old != "" && old != ch.New {
			e.changed[strings.ToLower(old)] = ch.New
		}
		e.m.Table.Partitions[i].FSUUID = ch.New
	}
	return true, nil
}

// partition is the index of partition n, -1 for the whole disk.
func (e *engine) partition(n int) int {
	for i, p := range e.m.Table.Partitions {
		if p.Number == n {
			return i
		}
	}
	return -1
}

// changeReferences puts new names for old ones in the files of the root and of every partition that may be /boot or hold a boot
// loader. The caller has let go of the disks.
func (e *engine) changeReferences(ctx context.Context, names map[string]string) (files []string, err error) {
	change := func(device string) error {
		return target.ChangeFiles(ctx, device, func(dir string) error {
			found, err := identity.Replace(ctx, dir, names)
			files = append(files, found...)
			return err
		})
	}
	root, release, err := e.attachRoot(ctx)
	if err != nil {
		return nil, err
	}
	err = errors.Join(change(root), release())
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	for _, c := range e.w.fsCopies() {
		device, release, err := c.attach(ctx)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(change(device), release()); err != nil {
			return nil, fmt.Errorf("partition %d: %w", c.number, err)
		}
	}
	return files, nil
}

// uuidStep is the step that uuids does.
func (e *engine) uuidStep() step {
	return step{name: event.PhaseUUIDs, run: e.uuids, when: e.hasNewUUIDs}
}

// hasNewUUIDs says whether this node gets UUIDs of its own; the step for them does what renameStep does too.
func (e *engine) hasNewUUIDs() bool { return e.profile != nil && e.profile.HasNewUUIDs() }
