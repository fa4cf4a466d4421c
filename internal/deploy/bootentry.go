package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"swarmboot/internal/disk"
	"swarmboot/internal/efiboot"
	"swarmboot/internal/event"
	"swarmboot/internal/params"
)

// firmwareDir is where the kernel shows UEFI firmware; without it the machine was started by a BIOS.
const firmwareDir = "/sys/firmware/efi"

// bootDisk is a disk that is overwritten.
type bootDisk struct {
	path string // of a block device
	kept []int  // partitions on it that are not
}

// fillBootEntry checks a choice and fills in the default: only a node, which is told so, has its firmware changed.
func fillBootEntry(b *params.BootEntry) error {
	switch *b {
	case params.BootEntryFirst, params.BootEntryAfterNetwork, params.BootEntryNone:
		return nil
	case "":
		*b = params.BootEntryNone
		return nil
	}
	return fmt.Errorf("boot entry %q: want first, after-network or none", *b)
}

// bootEntryStep is the step that makes the deployed disk start by itself.
func (e *engine) bootEntryStep() step {
	return step{name: event.PhaseBootEntry, run: e.bootEntry, when: func() bool {
		_, err := os.Stat(e.firmware())
		return e.o.BootEntry != params.BootEntryNone && err == nil && len(e.w.bootDisks()) > 0
	}}
}

func (e *engine) firmware() string {
	if e.o.Firmware != "" {
		return e.o.Firmware
	}
	return firmwareDir
}

// rememberPartitions notes what is on the disks before they are wiped: boot entries that start from there are dead then.
func (e *engine) rememberPartitions() {
	e.gone = nil
	for _, d := range e.w.bootDisks() {
		parts, err := partitionsOf(d.path)
		if err != nil {
			continue // a disk without a table that can be read has nothing that firmware knows
		}
		for _, p := range parts {
			if !slices.Contains(e.gone, p.ID) {
				e.gone = append(e.gone, p.ID)
			}
		}
	}
}

// bootEntry gives the deployed system an entry in the firmware, and its disk the fallback path. What goes wrong is a warning: the
// image is whole, kexec starts it, and most firmware finds one way of the two.
func (e *engine) bootEntry(ctx context.Context) error {
	if err := e.release(); err != nil {
		return err
	}
	arch, err := firmwareArch(e.firmware())
	if err == nil {
		err = e.installBootEntry(ctx, arch)
	}
	if err != nil && ctx.Err() != nil {
		return err
	}
	if err != nil {
		e.rep.warn("boot entry: " + err.Error())
	}
	return nil
}

func firmwareArch(dir string) (efiboot.Arch, error) {
	bits := 64
	if b, err := os.ReadFile(filepath.Join(dir, "fw_platform_size")); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			bits = n
		}
	}
	return efiboot.FirmwareArch(runtime.GOARCH, bits)
}

func (e *engine) installBootEntry(ctx context.Context, arch efiboot.Arch) error {
	disks := e.w.bootDisks()
	places, now, err := findESPs(ctx, disks)
	if err != nil {
		return err
	}
	if len(places) == 0 {
		return errors.New("the deployed disk has no EFI system partition: this machine's firmware does not start it")
	}
	r := efiboot.Request{Place: efiboot.Place(e.o.BootEntry), Gone: e.gone, Present: presentPartitions()}
	r.Gone = slices.DeleteFunc(slices.Clone(r.Gone), func(id efiboot.ID) bool { return slices.Contains(now, id) })
	var errs []error
	for _, p := range places {
		loader, err := p.prepare(arch, e.rep.say)
		errs = append(errs, err)
		for _, part := range p.parts {
			if loader != "" {
				r.Entries = append(r.Entries, efiboot.Entry{Label: entryLabel(e.m.Name, len(r.Entries)), Partition: part, Loader: loader})
			}
		}
	}
	if len(r.Entries) == 0 {
		return errors.Join(errs...)
	}
	vars, err := efiboot.OpenVars(filepath.Join(e.firmware(), "efivars"))
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	c, err := vars.Install(r)
	if err == nil {
		e.rep.say(describeEntries(r, c))
	}
	return errors.Join(append(errs, err)...)
}

// entryLabel tells the entries of a mirrored system partition apart.
func entryLabel(name string, i int) string {
	if i == 0 {
		return name
	}
	return fmt.Sprintf("%s %d", name, i+1)
}

func describeEntries(r efiboot.Request, c efiboot.Change) string {
	var words []string
	for i, e := range r.Entries {
		words = append(words, fmt.Sprintf("Boot%04X %q starts %s", c.Numbers[i], e.Label, e.Loader))
	}
	where := "first of all"
	if c.Behind != "" {
		where = fmt.Sprintf("behind %q", c.Behind)
	}
	words = append(words, where)
	if len(c.Removed) > 0 {
		words = append(words, "deleted "+strings.Join(c.Removed, ", "))
	}
	if !c.Written {
		words = append(words, "as it was")
	}
	return "boot entry: " + strings.Join(words, ", ")
}

// espPlace is an EFI system partition of the deployed system; a mirrored one is on several disks.
type espPlace struct {
	device string // to mount
	parts  []efiboot.Partition
}

// findESPs returns the EFI system partitions that were deployed, and all partitions that are on the disks now.
func findESPs(ctx context.Context, disks []bootDisk) (places []espPlace, now []efiboot.ID, err error) {
	for _, d := range disks {
		parts, err := partitionsOf(d.path)
		if err != nil {
			return nil, nil, fmt.Errorf("partitions of %s: %w", d.path, err)
		}
		for _, p := range parts {
			now = append(now, p.ID)
			if !p.ESP || slices.Contains(d.kept, p.Number) {
				continue
			}
			device := disk.PartitionPath(d.path, p.Number)
			if err := waitFor(ctx, device, nodeLimit); err != nil {
				return nil, nil, fmt.Errorf("EFI system partition: %w", err)
			}
			device = holder(device)
			i := slices.IndexFunc(places, func(o espPlace) bool { return o.device == device })
			if i < 0 {
				i, places = len(places), append(places, espPlace{device: device})
			}
			places[i].parts = append(places[i].parts, p)
		}
	}
	return places, now, nil
}

// holder returns the device that a partition is a part of, such as an array, or the partition itself.
func holder(device string) string {
	holders, err := os.ReadDir(filepath.Join("/sys/class/block", filepath.Base(device), "holders"))
	if err != nil || len(holders) != 1 {
		return device
	}
	return filepath.Join("/dev", holders[0].Name())
}

// prepare finds the loader of an EFI system partition and copies it to the fallback path when there is nothing.
func (p espPlace) prepare(arch efiboot.Arch, say func(string)) (loader string, err error) {
	var fallback bool
	err = efiboot.MountESP(p.device, false, func(esp *os.Root) (err error) {
		if loader, err = efiboot.FindLoader(esp, arch); err == nil {
			fallback, err = efiboot.HasFallback(esp, arch)
		}
		return err
	})
	if err != nil || fallback {
		return loader, err
	}
	err = efiboot.MountESP(p.device, true, func(esp *os.Root) error {
		wrote, err := efiboot.AddFallback(esp, arch, loader)
		if err == nil {
			say(fmt.Sprintf(`boot entry: \EFI\BOOT had no loader: %s copied from %s`, strings.Join(wrote, ", "), loader))
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("the fallback path stays empty: %w", err)
	}
	return loader, err
}

// partitionsOf reads the table of a block device.
func partitionsOf(path string) ([]efiboot.Partition, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sector, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET)
	if err != nil {
		return nil, &fs.PathError{Op: "logical sector size of", Path: path, Err: err}
	}
	return efiboot.Partitions(f, sector)
}

// presentPartitions says which partitions are on the disks of this machine. A disk that cannot be read may have any: then all
// count as present.
func presentPartitions() func(efiboot.ID) bool {
	disks, err := disk.List()
	if err != nil {
		return nil
	}
	var all []efiboot.ID
	for _, d := range disks {
		parts, err := partitionsOf(d.Path)
		if err != nil {
			return nil
		}
		for _, p := range parts {
			all = append(all, p.ID)
		}
	}
	return func(id efiboot.ID) bool { return slices.Contains(all, id) }
}
