package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/term"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/deploy"
	"swarmboot/internal/disk"
	"swarmboot/internal/event"
	"swarmboot/internal/params"
	"swarmboot/internal/progress"
)

func imageWrite(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("image write", flag.ContinueOnError)
	yes := f.Bool("yes", false, "overwrite a block device without asking")
	verify := f.String("verify", string(params.VerifyWrite), "none, write (every hash is checked on what is written) or readback (and on what the disk returns)")
	grow := f.String("grow", "", "on a disk of another size than the image's: last (the last partition grows into the rest, and its file\nsystem with it), proportional (so do all that can grow, in proportion), exact (nothing grows; a smaller disk is\ntaken if nothing that is used lies beyond its end) or none; default last for a block device, none for a file")
	pos, err := parseImageFlags(f, args, stdout, "image write [OPTIONS] DIR/NAME DISK|FILE", 2)
	if err != nil {
		return err
	}
	switch params.Verify(*verify) {
	case params.VerifyNone, params.VerifyWrite, params.VerifyReadBack:
	default:
		return cli.Usagef("image write: --verify %q: want none, write or readback", *verify)
	}
	switch params.Grow(*grow) {
	case "", params.GrowLast, params.GrowProportional, params.GrowExact, params.GrowNone:
	default:
		return cli.Usagef("image write: --grow %q: want last, proportional, exact or none", *grow)
	}
	source := parseImagePath(pos[0])
	im, err := source.load()
	if err != nil {
		return err
	}
	defer im.Close()
	if err := source.refuseItself(pos[1]); err != nil {
		return err
	}
	if err := confirm(pos[1], im.manifest, *yes, stderr); err != nil {
		return err
	}
	o := deploy.RestoreOptions{Disk: pos[1], Verify: params.Verify(*verify), Grow: params.Grow(*grow)}
	return restore(ctx, im, o, pos[1], stderr)
}

// restore writes the image to the disk that o names and tells people of it by the name shown.
func restore(ctx context.Context, im *openImage, o deploy.RestoreOptions, shown string, stderr io.Writer) error {
	v := deploy.NewView(stderr)
	defer v.Close()
	o.Manifest, o.Payload = im.manifest, im.payload
	return deploy.Restore(ctx, o, func(p event.Progress) {
		p.Disk = shown
		v.Show(p)
	})
}

// refuseItself keeps a slip of the keyboard from overwriting the image with what it holds.
func (p imagePath) refuseItself(target string) error {
	for _, f := range p.files() {
		if sameFile(f, target) {
			return cli.Usagef("%s is a part of this image", target)
		}
	}
	return nil
}

// confirm makes sure that a block device is meant: by --yes, or by a person who is shown what it is.
func confirm(path string, m *imagefmt.Manifest, yes bool, stderr io.Writer) error {
	fi, err := os.Stat(path)
	if err != nil {
		return cli.WithCode(cli.CodeDisk, fmt.Errorf("disk: %w", err))
	}
	switch {
	case fi.Mode()&os.ModeDevice == 0 && !fi.Mode().IsRegular(), fi.Mode()&os.ModeCharDevice != 0:
		return cli.WithCode(cli.CodeDisk, fmt.Errorf("disk: %s is neither a block device nor a file", path))
	case fi.Mode().IsRegular() || yes:
		return nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return cli.Usagef("image write: %s is a block device: --yes says that it may be overwritten", path)
	}
	fmt.Fprintf(stderr, "%s\nwill be overwritten with the image %s. Type yes to go on: ", describeDisk(path), m.Name)
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(line) != "yes" {
		return cli.Usagef("image write: not confirmed, nothing was written")
	}
	return nil
}

// describeDisk tells a person which disk it is and what is on it, from the few places where tables and superblocks stand.
func describeDisk(path string) string {
	disks, err := disk.List()
	if err != nil {
		return path
	}
	for _, d := range disks {
		if sameFile(d.Path, path) {
			inv := disk.InventoryOf(d)
			return path + describeContents(&inv)
		}
	}
	return path
}

func describeContents(d *disk.Inventory) string {
	s := fmt.Sprintf(", %s, model %s, serial %s", disk.FormatSize(d.Size), orText(d.Model, "unknown"), orText(d.Serial, "unknown"))
	if d.InUse != "" {
		s += ", in use: " + d.InUse
	}
	for _, p := range d.Table.Partitions {
		s += fmt.Sprintf("\n  partition %d: %s, %s %s", p.Number, progress.Bytes(p.Length), orText(p.FileSystem, "unknown content"), p.FSLabel)
	}
	return s
}

func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// imageExport writes the image into a new sparse file of the source disk's size.
func imageExport(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("image export", flag.ContinueOnError)
	overwrite := f.Bool("overwrite", false, "replace FILE")
	pos, err := parseImageFlags(f, args, stdout, "image export [OPTIONS] DIR/NAME raw FILE", 3)
	if err != nil {
		return err
	}
	if pos[1] != "raw" {
		return cli.Usagef("image export: format %q: want raw", pos[1])
	}
	source := parseImagePath(pos[0])
	im, err := source.load()
	if err != nil {
		return err
	}
	defer im.Close()
	dst := pos[2]
	if fi, err := os.Lstat(dst); err == nil && (!*overwrite || !fi.Mode().IsRegular()) {
		return cli.Usagef("image export: %s exists; --overwrite replaces a file", dst)
	}
	if err := source.refuseItself(dst); err != nil {
		return err
	}
	if err := exportTo(ctx, im, dst, stderr); err != nil {
		return fileError(err)
	}
	_, err = fmt.Fprintf(stdout, "%s: %s, a sparse file\n", dst, progress.Bytes(im.manifest.DiskSize))
	return err
}

func exportTo(ctx context.Context, im *openImage, dst string, stderr io.Writer) (err error) {
	tmp := newTempSet(imagePath{dir: filepath.Dir(dst)})
	defer tmp.discard()
	defer func() { err = tmp.named(err) }()
	f, err := tmp.create(dst)
	if err != nil {
		return err
	}
	if err := f.Truncate(im.manifest.DiskSize); err != nil {
		return err
	}
	if err := restore(ctx, im, deploy.RestoreOptions{Disk: f.Name(), Verify: params.VerifyWrite, Grow: params.GrowNone}, dst, stderr); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return tmp.commit(dst)
}
