package target

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// CheckSector says why a file system of size bytes at the start of r cannot be used on a device with logical sectors of so many bytes;
// nil: it can, once FitSector has been called. Content that is not known is nobody's business here.
func CheckSector(r io.ReaderAt, size int64, sector int) error {
	err := CheckFAT(r, size, sector)
	if !errors.Is(err, ErrNotFAT) {
		return err
	}
	return checkSector(r, int64(sector))
}

// FitSector has the file system of size bytes at the start of d fit a device with logical sectors of so many bytes: a FAT is built anew
// (ConvertFAT); what works as it is (ext2/3/4 and btrfs with blocks as large, XFS made for sectors as large, swap) stays; an error says
// what cannot be used, and d is as it was.
func FitSector(ctx context.Context, d Area, size int64, sector int) error {
	err := ConvertFAT(ctx, d, size, sector)
	if !errors.Is(err, ErrNotFAT) {
		return err
	}
	return checkSector(d, int64(sector))
}

// checkSector looks at the file systems that cannot be converted. The kernel reads and writes them by whole blocks (ext4, btrfs) or by the
// sectors they were made with (XFS), which must be sectors of the device.
func checkSector(r io.ReaderAt, sector int64) error {
	s, err := readSuperblock(r)
	if err != nil {
		return nil //nolint:nilerr // no file system that has sectors or blocks, or one that nobody can mount anyhow
	}
	has, what := s.blockSize, "blocks"
	if s.kind == "xfs" {
		b := make([]byte, 2)
		if err := readFull(r, b, 102); err != nil {
			return fmt.Errorf("read superblock: %w", err)
		}
		has, what = int64(binary.BigEndian.Uint16(b)), "sectors"
	}
	if has < sector {
		return fmt.Errorf("the %s was made with %s of %d bytes and cannot be mounted on a disk with sectors of %d", s.kind, what, has, sector)
	}
	return nil
}
