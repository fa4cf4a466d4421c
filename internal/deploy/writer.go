package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/disk"
	"swarmboot/internal/swarm"
	"swarmboot/internal/target"
)

// writer puts one image on one disk: all that Run and Restore have in common.
type writer struct {
	m     *imagefmt.Manifest
	dev   *disk.Device
	say   func(string)
	dirty bool // the disk was written to
	whole bool // and everything is there, verified
	grow  bool // a larger disk is filled

	grown *imagefmt.Partition // what finishTable has enlarged; number 0 is the whole disk

	closed bool
}

// chooseDisk returns the path of the disk that selector names and a remark on it. A selector that is the path
// of a regular file is taken as it is; for anything else the disks of the machine are searched.
func chooseDisk(selector string) (path, remark string, err error) {
	if isFile, err := regularFile(selector); err != nil {
		return "", "", cli.WithCode(cli.CodeDisk, fmt.Errorf("disk: %w", err))
	} else if isFile {
		return selector, "file " + selector, nil
	}
	s, err := disk.ParseSelector(selector)
	if err != nil {
		return "", "", cli.WithCode(cli.CodeUsage, err)
	}
	disks, err := disk.List()
	if err != nil {
		return "", "", fmt.Errorf("list disks: %w", err)
	}
	d, err := s.Select(disks)
	if err != nil {
		return "", "", cli.WithCode(cli.CodeDisk, err)
	}
	return d.Path, describe(d), nil
}

// regularFile says whether a selector is a path of a regular file. A path outside /dev that is none is an error.
func regularFile(selector string) (bool, error) {
	if selector == "" || selector == "only" || strings.Contains(selector, "=") {
		return false, nil
	}
	fi, err := os.Stat(selector)
	switch {
	case err == nil && fi.Mode().IsRegular():
		return true, nil
	case strings.HasPrefix(selector, "/dev/"):
		return false, nil
	case err == nil && fi.IsDir():
		return false, fmt.Errorf("%s is a directory", selector)
	}
	return false, err
}

// describe names a disk for people.
func describe(d disk.Disk) string {
	s := d.Path + ", " + disk.FormatSize(d.Size)
	if d.Model != "" {
		s += ", " + d.Model
	}
	if d.Serial != "" {
		s += ", serial " + d.Serial
	}
	return s
}

// openError gives an error of disk.Open its exit code: what is missing, in use or no disk at all is the wrong
// disk; what the operating system cannot open is an input/output error.
func openError(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) && !errors.Is(err, fs.ErrNotExist) {
		return cli.WithCode(cli.CodeIO, err)
	}
	return cli.WithCode(cli.CodeDisk, err)
}

// check is the last look before the first write.
func (w *writer) check() error {
	err := w.dev.Fit(w.m)
	var small *disk.TooSmallError
	var sector *disk.SectorSizeError
	switch {
	case errors.As(err, &small):
		return cli.WithCode(cli.CodeTooSmall, err)
	case errors.As(err, &sector):
		return cli.WithCode(cli.CodeDisk, err)
	}
	return err
}

// wipe clears what the old system left in places that others look at: tables, RAID, LVM and file system marks.
func (w *writer) wipe(ctx context.Context) error {
	cleared, err := disk.Wipe(ctx, w.dev)
	w.dirty = err == nil || cleared != nil // a run that fails before the first write leaves the disk as it was
	if err != nil {
		return err
	}
	if len(cleared) > 0 {
		w.say("cleared: " + strings.Join(cleared, ", "))
	}
	return nil
}

// stageTable writes the table without partitions and boot code. It shows that both ends of the disk can be
// written, and nothing on the disk boots while it is being filled, whatever happens to this machine.
func (w *writer) stageTable() error {
	t := w.m.Table
	t.BootCode, t.Partitions = nil, nil
	if err := disk.WriteTable(w.dev, t); err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	return w.dev.Sync()
}

// sync returns when the medium has everything.
func (w *writer) sync() error { return w.dev.Sync() }

// finishTable writes the image's table and has the kernel read it. It comes after everything is verified.
func (w *writer) finishTable() error {
	if err := disk.WriteTable(w.dev, w.finalTable()); err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	if err := w.dev.Sync(); err != nil {
		return err
	}
	w.whole = true
	return w.dev.RereadTable()
}

// undo makes sure that a disk that is not whole does not look like a system.
func (w *writer) undo() {
	if !w.dirty || w.whole {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), undoLimit)
	defer cancel()
	err := w.reopen()
	if err == nil {
		_, err = disk.Wipe(ctx, w.dev)
	}
	if err == nil {
		err = w.dev.Sync()
	}
	if err != nil {
		w.say(fmt.Sprintf("%s is not whole and could not be cleared: %v", w.dev.Path(), err))
		return
	}
	w.say(w.dev.Path() + " is not whole: its partition table was cleared, it does not boot")
}

// target implements destination: the image's bytes are where they were.
func (w *writer) target(func() *imagefmt.Index) swarm.Target { return w.dev }

// Arrays and new file systems are made by layouts only.
func (w *writer) makesArrays() bool              { return false }
func (w *writer) resyncs() []string              { return nil }
func (w *writer) assemble(context.Context) error { return nil }
func (w *writer) makesFS() bool                  { return false }
func (w *writer) makeFS(context.Context) error   { return nil }

// attach implements destination; a part of a file becomes a loop device.
func (w *writer) attach(ctx context.Context, n int) (device string, release func() error, err error) {
	if w.dev.IsBlock() {
		return w.device(n), func() error { return nil }, waitFor(ctx, w.device(n), nodeLimit)
	}
	part, err := partExtent(w.m, n, w.grown)
	if err != nil {
		return "", nil, err
	}
	loop, err := target.AttachLoop(w.dev.Path(), part.Start, cmp.Or(part.Length, w.dev.Size()))
	if err != nil {
		return "", nil, err
	}
	return loop.Path, loop.Close, nil
}

func (w *writer) booted() *imagefmt.Manifest { return w.m }

func (w *writer) setWhole(whole bool) { w.whole = whole }

// device returns the device node of partition n, for n = 0 of the whole disk.
func (w *writer) device(n int) string {
	if n == 0 {
		return w.dev.Path()
	}
	return w.dev.PartitionPath(n)
}

// close releases the disk; a second call does nothing.
func (w *writer) close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	return w.dev.Close()
}

// reopen takes hold of the disk again after close.
func (w *writer) reopen() error {
	if !w.closed {
		return nil
	}
	dev, err := disk.Open(w.dev.Path())
	if err != nil {
		return err
	}
	w.dev, w.closed = dev, false
	return nil
}

// waitFor waits until path exists: the kernel makes device nodes a moment after it has read the table.
func waitFor(ctx context.Context, path string, limit time.Duration) error {
	for deadline := time.Now().Add(limit); ; {
		_, err := os.Stat(path)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}
