package target

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"swarmboot/imagefmt"
)

// VolumePath is the device of a logical volume GROUP/NAME once the deployed system runs. The device mapper's names join the
// two with a hyphen, and double those inside them (lvm(8), VALID NAMES).
func VolumePath(name string) string {
	group, volume, _ := strings.Cut(name, "/")
	double := func(s string) string { return strings.ReplaceAll(s, "-", "--") }
	return "/dev/mapper/" + double(group) + "-" + double(volume)
}

// ScatteredError says that the root is a logical volume in several pieces, and that the kernel cannot put them together.
type ScatteredError struct {
	Name   string
	Pieces int
	Err    error // why not
}

func (e *ScatteredError) Error() string {
	return fmt.Sprintf("the root, logical volume %s, lies in %d pieces, which this kernel cannot put together: %v", e.Name, e.Pieces, e.Err)
}

// Unwrap returns the cause.
func (e *ScatteredError) Unwrap() error { return e.Err }

// CheckRoot says whether this machine can mount the root of an image; a *ScatteredError when not.
func CheckRoot(ctx context.Context, m *imagefmt.Manifest) error {
	v := m.Boot.Volume
	if v == nil || len(v.Segments) == 1 {
		return nil
	}
	if err := checkMapper(ctx); err != nil {
		return &ScatteredError{v.Name, len(v.Segments), err}
	}
	return nil
}

// RootDevice returns the device with the root file system of a deployed image: that of its partition; a loop device over a
// part of it for a logical volume in one piece; a mapped device for one in several, which may lie in several partitions. device(n) is the node of
// partition n, of the whole disk for 0. close gives back what was made.
func RootDevice(ctx context.Context, m *imagefmt.Manifest, device func(n int) string) (path string, closeRoot func() error, err error) {
	v := m.Boot.Volume
	if v == nil {
		return device(m.Boot.Root), func() error { return nil }, nil
	}
	if len(v.Segments) == 1 {
		loop, err := AttachLoop(device(m.Boot.Root), v.Segments[0].Off, v.Segments[0].Len)
		if err != nil {
			return "", nil, fmt.Errorf("logical volume %s: %w", v.Name, err)
		}
		return loop.Path, loop.Close, nil
	}
	if err := CheckRoot(ctx, m); err != nil {
		return "", nil, err
	}
	var runs []Run
	for _, s := range v.Segments {
		runs = append(runs, Run{device(s.Partition), s.Off, s.Len})
	}
	mapped, err := MapRuns(ctx, fmt.Sprint(mapPrefix, os.Getpid()), runs)
	if err != nil {
		return "", nil, fmt.Errorf("logical volume %s: %w", v.Name, err)
	}
	return mapped.Path, mapped.Close, nil
}

// RootPartitions are the partitions that the root of an image lies in, without doubles; 0 stands for the whole disk.
func RootPartitions(m *imagefmt.Manifest) []int {
	all := []int{m.Boot.Root}
	if m.Boot.Volume == nil {
		return all
	}
	for _, s := range m.Boot.Volume.Segments {
		if !slices.Contains(all, s.Partition) {
			all = append(all, s.Partition)
		}
	}
	return all
}
