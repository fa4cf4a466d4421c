package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of ioctl(2) and what they take, as on every architecture with the generic encoding (amd64, arm64, riscv64, s390x).
const (
	ext4IOCResizeFS      = 0x40086610 // _IOW('f', 16, __u64), linux/ext4.h: number of blocks
	xfsIOCFSGrowFSData   = 0x4010586e // _IOW('X', 110, struct xfs_growfs_data), xfs_fs.h
	btrfsIOCResize       = 0x50009403 // _IOW(0x94, 3, struct btrfs_ioctl_vol_args), linux/btrfs.h
	ext4StepGroups       = 4096
	btrfsVolNameLen      = 4088
	btrfsExclusiveActive = 1 // BTRFS_ERROR_DEV_EXCL_RUN_IN_PROGRESS, returned as a positive number
)

// xfsGrowFSData is struct xfs_growfs_data.
type xfsGrowFSData struct {
	newBlocks uint64
	imaxPct   uint32
	_         uint32
}

// btrfsVolArgs is struct btrfs_ioctl_vol_args. The name is "DEVID:SIZE", SIZE may be max.
type btrfsVolArgs struct {
	fd   int64
	name [btrfsVolNameLen]byte
}

// resize has the kernel make a mounted file system blocks large. dir is open on it.
func resize(ctx context.Context, dir *os.File, s superblock, blocks int64) error {
	switch s.kind {
	case "ext4":
		return resizeExt4(ctx, dir, s, blocks)
	case "xfs":
		arg := xfsGrowFSData{newBlocks: uint64(blocks), imaxPct: s.imaxPct}
		return growError(ioctl(dir, xfsIOCFSGrowFSData, unsafe.Pointer(&arg)))
	case "btrfs":
		var arg btrfsVolArgs
		copy(arg.name[:btrfsVolNameLen-1], strconv.FormatUint(s.devID, 10)+":max")
		return growError(ioctl(dir, btrfsIOCResize, unsafe.Pointer(&arg)))
	}
	return fmt.Errorf("no way is known to grow %s", s.kind)
}

// resizeExt4 goes in steps between which it can be interrupted: beyond the space that mkfs has reserved for group
// descriptors (by default for 1024 times the size) the kernel takes about a millisecond for each group.
func resizeExt4(ctx context.Context, dir *os.File, s superblock, blocks int64) error {
	step := ext4StepGroups * s.slack / s.blockSize
	for at := s.blocks; at < blocks; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		at = min((at/step+1)*step, blocks)
		if blocks-at < step {
			at = blocks // no last step that is too small for a group
		}
		n := uint64(at)
		if err := growError(ioctl(dir, ext4IOCResizeFS, unsafe.Pointer(&n))); err != nil {
			return err
		}
	}
	return nil
}

func ioctl(f *os.File, req uint, arg unsafe.Pointer) (ret uintptr, err error) {
	ret, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(req), uintptr(arg))
	if errno != 0 {
		return ret, errno
	}
	return ret, nil
}

// growError says what an answer of the ioctls above means.
func growError(ret uintptr, err error) error {
	var why string
	switch {
	case err == nil && ret == btrfsExclusiveActive:
		return errors.New("btrfs is busy with another operation on its devices")
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM):
		why = "the kernel refuses: no CAP_SYS_RESOURCE or CAP_SYS_ADMIN, or the file system has errors"
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOTTY):
		why = "the kernel cannot grow a file system with these features"
	case errors.Is(err, unix.EINVAL):
		why = "the kernel refuses the new size for this file system"
	case errors.Is(err, unix.ENOSPC):
		why = "the file system is too full to hold the description of its new space"
	default:
		return err
	}
	return fmt.Errorf("%s: %w", why, err)
}
