package disk

import "fmt"

// TooSmallError says that a disk is smaller than the image needs.
type TooSmallError struct {
	Device     string
	Size, Need int64 // bytes
}

func (e *TooSmallError) Error() string {
	return fmt.Sprintf("%s is too small: it has %d bytes (%s), the image needs %d (%s)",
		e.Device, e.Size, FormatSize(e.Size), e.Need, FormatSize(e.Need))
}

// SectorSizeError says that an image was made for disks of another logical sector size.
type SectorSizeError struct {
	Device      string
	Disk, Image int // bytes
}

func (e *SectorSizeError) Error() string {
	return fmt.Sprintf("%s has logical sectors of %d bytes, the image was made from a disk with %d: its partition table and file systems would not fit",
		e.Device, e.Disk, e.Image)
}
