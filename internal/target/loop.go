package target

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Loop is a part of a file as a block device, until Close.
type Loop struct {
	Path string // of the loop device
	dev  *os.File
}

// AttachLoop makes length bytes of a file, from offset, a block device. It needs CAP_SYS_ADMIN and the loop driver.
func AttachLoop(file string, offset, length int64) (*Loop, error) {
	l, err := attachLoop(file, offset, length)
	if err != nil {
		return nil, fmt.Errorf("attach %s to a loop device: %w", file, err)
	}
	return l, nil
}

func attachLoop(file string, offset, length int64) (*Loop, error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free one: %w", err)
		}
		l, err := configure(fmt.Sprintf("/dev/loop%d", n), f, offset, length)
		if !errors.Is(err, unix.EBUSY) { // somebody else was faster
			return l, err
		}
	}
}

// configure attaches f to a loop device that goes away by itself when nobody has it open.
func configure(path string, f *os.File, offset, length int64) (*Loop, error) {
	dev, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	config := unix.LoopConfig{Fd: uint32(f.Fd())}
	config.Info.Offset, config.Info.Sizelimit, config.Info.Flags = uint64(offset), uint64(length), unix.LO_FLAGS_AUTOCLEAR
	if err := unix.IoctlLoopConfigure(int(dev.Fd()), &config); err != nil {
		dev.Close()
		return nil, err
	}
	return &Loop{path, dev}, nil
}

// Close gives the loop device back once it is not mounted any more.
func (l *Loop) Close() error { return l.dev.Close() }
