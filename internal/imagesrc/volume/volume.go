// Package volume is what every file system reader of imagesrc returns: identity, state and the used bytes of
// one partition.
package volume

import (
	"errors"
	"io"

	"swarmboot/imagefmt"
)

// ErrNotRecognised is returned by a reader when the signature of its file system is not there.
var ErrNotRecognised = errors.New("signature not found")

// Reader looks at size bytes of r, which start with the first byte of a partition. The error wraps
// ErrNotRecognised when the file system is another one; any other error means that it is damaged or cut short.
type Reader func(r io.ReaderAt, size int64) (*Info, error)

// Info describes the file system of one partition.
type Info struct {
	FileSystem  string            // ext2, ext3, ext4, vfat, swap
	Label, UUID string            // "" when there is none
	Size        int64             // bytes from the start of the partition that the file system spans
	Top         []string          // names in the root directory; nil where they are not known
	Extents     []imagefmt.Extent // used bytes, relative to the partition; sorted, disjoint, inside Size
	Dirty       string            // why the extents may not be trusted without a repair or a clean unmount, "" when clean
	Foreign     string            // XFS, Btrfs, LUKS, ...: the one format there is, when its free space is not known here; FileSystem is "" then
	Opaque      string            // why only the whole partition will do (a feature not known here), "" when Extents holds
}
