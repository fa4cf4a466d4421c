package target

import (
	"fmt"
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

// ScatteredError says that the root is a logical volume in several pieces: a node has no device mapper to put them together.
type ScatteredError struct {
	Name   string
	Pieces int
}

func (e *ScatteredError) Error() string {
	return fmt.Sprintf("the root, logical volume %s, lies in %d pieces: a node cannot mount it", e.Name, e.Pieces)
}

// CheckRoot says whether a node can mount the root of an image; a *ScatteredError when not.
func CheckRoot(m *imagefmt.Manifest) error {
	if v := m.Boot.Volume; v != nil && len(v.Segments) > 1 {
		return &ScatteredError{v.Name, len(v.Segments)}
	}
	return nil
}

// RootDevice returns the device with the root file system of a deployed image: that of its partition, or a loop device over a
// part of it for a logical volume in one piece. device(n) is the node of partition n, of the whole disk for 0. close gives
// the loop device back.
func RootDevice(m *imagefmt.Manifest, device func(n int) string) (path string, closeRoot func() error, err error) {
	if err := CheckRoot(m); err != nil {
		return "", nil, err
	}
	path = device(m.Boot.Root)
	if m.Boot.Volume == nil {
		return path, func() error { return nil }, nil
	}
	s := m.Boot.Volume.Segments[0]
	loop, err := AttachLoop(path, s.Off, s.Len)
	if err != nil {
		return "", nil, fmt.Errorf("logical volume %s: %w", m.Boot.Volume.Name, err)
	}
	return loop.Path, loop.Close, nil
}
