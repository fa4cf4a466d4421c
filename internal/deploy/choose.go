package deploy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"swarmboot/internal/cli"
	"swarmboot/internal/disk"
)

// chooseDisk returns the disk that selector names. A selector that is the path of a regular file is taken as it is; for
// anything else the disks of the machine are searched.
func chooseDisk(selector string) (disk.Disk, error) {
	if isFile, err := regularFile(selector); err != nil {
		return disk.Disk{}, cli.WithCode(cli.CodeDisk, fmt.Errorf("disk: %w", err))
	} else if isFile {
		return fileDisk(selector)
	}
	s, err := disk.ParseSelector(selector)
	if err != nil {
		return disk.Disk{}, cli.WithCode(cli.CodeUsage, err)
	}
	disks, err := disk.List()
	if err != nil {
		return disk.Disk{}, fmt.Errorf("list disks: %w", err)
	}
	d, err := s.Select(disks)
	return d, cli.WithCode(cli.CodeDisk, err)
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

// fileDisk describes a regular file that stands for a disk.
func fileDisk(path string) (disk.Disk, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return disk.Disk{}, cli.WithCode(cli.CodeDisk, fmt.Errorf("disk: %w", err))
	}
	return disk.Disk{Path: path, Name: filepath.Base(path), Transport: "file", Size: fi.Size(), LogicalSector: 512, PhysicalSector: 512}, nil
}

// diskOf describes a device that was opened by its path: as the kernel lists it, or what the device itself tells.
func diskOf(dev *disk.Device) (disk.Disk, error) {
	if !dev.IsBlock() {
		return fileDisk(dev.Path())
	}
	if disks, err := disk.List(); err == nil {
		for _, d := range disks {
			if d.Path == disk.PartitionPath(dev.Path(), 0) {
				d.Path = dev.Path()
				return d, nil
			}
		}
	}
	return disk.Disk{Path: dev.Path(), Name: filepath.Base(dev.Path()), Size: dev.Size(), LogicalSector: dev.SectorSize(), PhysicalSector: dev.SectorSize()}, nil
}

// describe names a disk for people.
func describe(d disk.Disk) string {
	if d.Transport == "file" {
		return "file " + d.Path
	}
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
