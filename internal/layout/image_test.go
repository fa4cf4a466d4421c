package layout

import (
	"errors"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/disk"
)

// TestDefaultTooSmall: one byte less than what the image needs is refused, by name and numbers, though its partitions would fit.
func TestDefaultTooSmall(t *testing.T) {
	const need = 64 << 20
	m := &imagefmt.Manifest{DiskSize: need, MinDiskSize: need, SectorSize: 512, Table: imagefmt.Table{Kind: imagefmt.TableGPT, Partitions: []imagefmt.Partition{
		{Number: 1, Start: 1 << 20, Length: 3 << 20, Type: types["linux"], UUID: "B1", FileSystem: "ext4"},
	}}}
	for _, how := range []Scale{ScaleNone, ScaleLast, ScaleProportional} {
		d := disk.Disk{Path: "/srv/disk.img", Transport: "file", LogicalSector: 512, Size: need - 1}
		var small *disk.TooSmallError
		if _, err := Default(disk.Inventory{Disk: d}, Image{Manifest: m}, how); !errors.As(err, &small) || small.Device != d.Path || small.Size != need-1 || small.Need != need {
			t.Errorf("%s: %v", how, err)
		}
		d.Size = need
		if _, err := Default(disk.Inventory{Disk: d}, Image{Manifest: m}, how); err != nil {
			t.Errorf("%s, a disk that is just large enough: %v", how, err)
		}
	}
}
