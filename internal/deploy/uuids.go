package deploy

import (
	"context"
	"errors"
	"fmt"
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
	if e.hasLayout() {
		return errors.New("newUUIDs: not together with a layout, which has UUIDs of its own")
	}
	if err := target.CheckRoot(e.m); err != nil {
		return fmt.Errorf("newUUIDs: %w", err)
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
	numbers := []int{0}
	if e.m.Table.Kind != imagefmt.TableNone {
		numbers = nil
		for _, p := range e.m.Table.Partitions {
			numbers = append(numbers, p.Number)
		}
	}
	done := 0
	for _, n := range numbers {
		fresh, err := e.changeFileSystem(ctx, n)
		if err != nil {
			return err
		}
		if fresh {
			done++
		}
	}
	e.m.Boot.Cmdline = identity.ReplaceText(e.m.Boot.Cmdline, e.changed)
	files, err := e.changeReferences(ctx, numbers)
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

// changeFileSystem gives the file system in partition n a new identifier, where that is possible.
func (e *engine) changeFileSystem(ctx context.Context, n int) (bool, error) {
	i := e.partition(n)
	if i >= 0 && extended(e.m.Table, i) {
		return false, nil
	}
	device, release, err := e.w.attach(ctx, n)
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
		if old := e.m.Table.Partitions[i].FSUUID; old != "" {
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

// extended says whether a partition only contains others.
func extended(t imagefmt.Table, i int) bool {
	kind := t.Partitions[i].Type
	return t.Kind == imagefmt.TableMBR && (kind == "0x05" || kind == "0x0f" || kind == "0x85")
}

// changeReferences looks through the root and through every partition that may be /boot or hold a boot loader.
func (e *engine) changeReferences(ctx context.Context, numbers []int) (files []string, err error) {
	change := func(device string) error {
		return target.ChangeFiles(ctx, device, func(dir string) error {
			found, err := identity.Replace(ctx, dir, e.changed)
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
	for _, n := range numbers {
		i := e.partition(n)
		if i < 0 || n == e.m.Boot.Root && e.m.Boot.Volume == nil {
			continue
		}
		switch e.m.Table.Partitions[i].FileSystem {
		case "ext2", "ext3", "ext4", "vfat":
		default:
			continue
		}
		device, release, err := e.w.attach(ctx, n)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(change(device), release()); err != nil {
			return nil, fmt.Errorf("partition %d: %w", n, err)
		}
	}
	return files, nil
}

// uuidStep is the step that uuids does.
func (e *engine) uuidStep() step {
	return step{name: event.PhaseUUIDs, run: e.uuids, when: func() bool { return e.profile != nil && e.profile.HasNewUUIDs() }}
}
