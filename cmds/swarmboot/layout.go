package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/deploy"
	"swarmboot/internal/disk"
	"swarmboot/internal/layout"
	"swarmboot/internal/layouts"
)

const layoutUsage = `Usage: swarmboot layout check FILE|DIR...
       swarmboot layout check --show --disk SIZE[,SIZE...][,sector=4096][,transport=T][,rotational] [--image DIR/NAME] FILE

Check reads layouts of disks as "swarmboot serve" does, and names file, line and field of everything that is wrong. With
--show it draws what becomes of a machine with blank disks of these sizes (sda, sdb, ...). "swarmboot deploy plan" does so
for a machine as it is.

The server reads DIR/layouts/NAME.yaml of its --images DIR; a node whose parameter swarmboot.layout is NAME (on its kernel
command line, or in its profile) uses it. An example:

` + layoutExample + `
The first candidate whose disks are all there is taken; sets of disks are filled in their order, and no disk is in two. That
something does not fit is an error then, not the turn of the next candidate. Nothing is written before all is decided.

Disks, of each candidate one set or more:
  select      as swarmboot.disk: a path (also by-id), serial=, wwn=, model=, transport=, rotational=yes|no, size=A..B, joined
              by commas; of a list, one must match; without it: any. Disks in use never match, removable ones only when
              named, nor disks that hold a partition which this layout keeps elsewhere
  count       "2", "4..", "2..4", "0..2"; 1 unless given. More that match are refused, unless pick: smallest, largest or first
  equal       disks of one size (within 1 %), kind, transport and sector size
  wipe        none, discard or zero: what becomes of the old bytes. With discard and zero a deployment that was cut off begins anew
  recreate    md arrays that the disks belong to may be stopped and overwritten (here or at an array)
  then one of
  scale       the image's own table: last (its last partition grown), proportional (all grown that can be), exact (as it is;
              on a smaller disk the last partition is cut if its file system fits)
  partitions  of a GPT, on every disk of the set
  image, fs   for the disk as a whole; or an array is made of the disks

Partitions, in the order of the disk:
  size        512M, 30%, or rest; without it, as large as the image's partition
  type        TYPES,
              or a GUID; else what the content asks for
  label uuid attributes number
  keep        true: the partition that has this label, or number, stays byte for byte; or-create: or is made
  image       number or label of a partition of the image; "whole" for a bare file system; grow: true
  fs          ext4, xfs, swap or vfat, made empty, with fsLabel and fsUUID
  mount       path for the deployed fstab, with options
  {n} in label, fsLabel and mount is the number of the disk in its set.

Arrays: name, of (SET or SET/PARTITION), level (0, 1, 4, 5, 6, 10), chunk, bitmap, spares, metadata (1.2, or 1.0 for an ESP),
recreate, and image, fs, mount as above. To start from an array the image needs mdadm in its initramfs (Debian: the package
installed is enough). PARTUUIDs of the image that mean nothing any more become what does, in fstab, menus of boot loaders and on the
kernel command line: what is on an array is named by the UUID of its file system.

All partitions begin and end at multiples of 1 MiB, or of the disk's optimal transfer length. An image's BIOS boot partition stays where
it was, since its boot code looks there.

`

// layoutExample has every kind of thing.
const layoutExample = `    candidates:
      - name: four or more equal NVMe          # RAID 10 of them
        disks:
          - name: os
            select: transport=nvme
            count: 4..
            equal: true
            wipe: discard
            recreate: true
            partitions:
              - {name: esp, type: esp, size: 512M}
              - {name: root, size: 40G}
              - {name: scratch, size: rest}
        raid:
          - {name: esp, of: os/esp, level: 1, metadata: 1.0, fs: vfat, mount: /boot/efi}
          - {name: root, of: os/root, level: 10, chunk: 512K, image: root, grow: true, mount: /}
          - {name: scratch, of: os/scratch, level: 0, fs: xfs, fsLabel: scratch, mount: /scratch, options: noatime}
      - name: a small disk and large ones
        disks:
          - {name: os, select: "rotational=no,size=..1T", scale: proportional}
          - {name: data, select: rotational=yes, count: 1.., fs: ext4, fsLabel: "data{n}", mount: "/data{n}"}
      - name: the only disk                    # its data partition survives
        disks:
          - name: os
            select: [only, /dev/disk/by-id/ata-SAMSUNG_MZ7LH960_S45N]
            partitions:
              - {name: esp, image: 1}
              - {name: root, image: root, size: 30%, grow: true}
              - {name: swap, fs: swap, size: 8G}
              - {name: data, keep: or-create, fs: xfs, size: rest, mount: /data}
`

func runLayout(_ context.Context, args []string, stdout, _ io.Writer) error {
	switch {
	case len(args) > 0 && cli.IsHelp(args[0]):
		_, err := fmt.Fprint(stdout, layoutHelp(), cli.ExitCodes)
		return err
	case len(args) > 1 && args[0] == "check":
		return layoutCheck(args[1:], stdout)
	}
	return cli.Usagef("layout: want \"check FILE|DIR...\" (swarmboot layout --help)")
}

// layoutHelp is layoutUsage with the names of partition types.
func layoutHelp() string {
	text, line := "", ""
	for i, name := range layout.TypeNames() {
		switch {
		case i == 0:
		case len(line)+len(name) > 100:
			text, line = text+line+",\n              ", ""
		default:
			line += ", "
		}
		line += name
	}
	return strings.Replace(layoutUsage, "TYPES", text+line, 1)
}

func layoutCheck(args []string, stdout io.Writer) error {
	f := flag.NewFlagSet("layout check", flag.ContinueOnError)
	show := f.Bool("show", false, "draw the resulting tables")
	disks := f.String("disk", "", "blank disks to draw them for")
	image := f.String("image", "", "image to draw them for")
	files, err := parseFlags(f, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, layoutHelp(), cli.ExitCodes)
		return err
	case err != nil:
		return err
	case len(files) == 0:
		return cli.Usagef("layout check: no file given")
	case *show && (*disks == "" || len(files) != 1):
		return cli.Usagef("layout check: --show wants --disk SIZE[,SIZE...] and one file")
	case !*show && (*disks != "" || *image != ""):
		return cli.Usagef("layout check: --disk and --image go with --show")
	case *show:
		return layoutShow(files[0], *disks, *image, stdout)
	}
	for _, name := range files {
		n, err := checkLayouts(name)
		if err != nil {
			return cli.WithCode(cli.CodeUsage, fmt.Errorf("%s:\n%w", name, err))
		}
		if _, err := fmt.Fprintf(stdout, "%s: good (%d files)\n", name, n); err != nil {
			return err
		}
	}
	return nil
}

// checkLayouts checks one file, or all of a directory, and returns how many there are.
func checkLayouts(name string) (int, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	if fi.IsDir() {
		return layouts.CheckDir(name)
	}
	_, err = layouts.ReadFile(name)
	return 1, err
}

func layoutShow(file, disks, image string, stdout io.Writer) error {
	l, err := layouts.ReadFile(file)
	if err != nil {
		return cli.WithCode(cli.CodeUsage, err)
	}
	inv, err := blankDisks(disks)
	if err != nil {
		return err
	}
	im, err := planImage(image)
	if err != nil {
		return err
	}
	p, err := l.Plan(inv, im)
	if err != nil {
		return planError(err)
	}
	p.Layout = strings.TrimSuffix(filepath.Base(file), ".yaml")
	return p.Describe(stdout)
}

// blankDisks makes an inventory of SIZE[,SIZE...][,sector=N][,transport=T][,rotational].
func blankDisks(text string) ([]disk.Inventory, error) {
	model := disk.Disk{LogicalSector: 512, PhysicalSector: 4096, Transport: "sata"}
	var sizes []int64
	for part := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "sector":
			n, err := strconv.Atoi(value)
			if err != nil || n != 512 && n != 4096 {
				return nil, cli.Usagef("--disk %q: sector=%s: want 512 or 4096", text, value)
			}
			model.LogicalSector = n
		case "transport":
			model.Transport = value
		case "rotational":
			if value != "" && value != "yes" && value != "no" {
				return nil, cli.Usagef("--disk %q: rotational=%s: want yes or no", text, value)
			}
			model.Rotational = value != "no"
		default:
			n, err := disk.ParseSize(part)
			if err != nil || n < 1<<20 || n > imagefmt.MaxDiskSize {
				return nil, cli.Usagef("--disk %q: %q: want the size of a disk from 1M on", text, part)
			}
			sizes = append(sizes, n)
		}
	}
	if len(sizes) == 0 || len(sizes) > 26 {
		return nil, cli.Usagef("--disk %q: want 1 to 26 sizes", text)
	}
	inv := make([]disk.Inventory, len(sizes))
	for i, n := range sizes {
		d := model
		d.Name = "sd" + string(rune('a'+i))
		d.Path, d.Serial, d.Size = "/dev/"+d.Name, fmt.Sprintf("BLANK%d", i+1), n/int64(d.LogicalSector)*int64(d.LogicalSector)
		inv[i] = disk.Inventory{Disk: d, Table: imagefmt.Table{Kind: imagefmt.TableNone}}
	}
	return inv, nil
}

// planImage reads what a plan needs of an image; "" is no image.
func planImage(path string) (layout.Image, error) {
	if path == "" {
		return layout.Image{}, nil
	}
	p := parseImagePath(path)
	m, err := p.loadManifest()
	return layout.Image{Manifest: m, Used: p.used}, err
}

// used reads the used extents of an image from its index.
func (p imagePath) used() ([]imagefmt.Extent, error) {
	im, err := p.load()
	if err != nil {
		return nil, err
	}
	defer im.Close()
	opened, err := imagefmt.Open(im.manifest, im.payload)
	if err != nil {
		return nil, bad(p.payload(), err)
	}
	return deploy.UsedExtents(opened.Index())
}

// planError gives the reasons why there is no plan their exit codes.
func planError(err error) error {
	var none *layout.NoCandidateError
	var small *disk.TooSmallError
	switch {
	case errors.As(err, &none):
		return cli.WithCode(cli.CodeDisk, err)
	case errors.As(err, &small):
		return cli.WithCode(cli.CodeTooSmall, err)
	}
	return err
}
