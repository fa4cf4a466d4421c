package target

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"swarmboot/internal/md"
)

// The device mapper's interface (linux/dm-ioctl.h, version 4).
const (
	dmControl    = "/dev/mapper/control"
	dmHeader     = 312 // bytes of struct dm_ioctl
	dmSpec       = 40  // bytes of struct dm_target_spec
	dmDevCreate  = 3
	dmDevRemove  = 4
	dmDevSuspend = 6 // without the flag to suspend it resumes: the table becomes live
	dmTableLoad  = 9

	dmSector = 512 // that tables count in, whatever the disks have
)

// mapLimit is how long a mapped device may take to appear, and to be let go by who looked at it.
const mapLimit = 10 * time.Second

// Run is a run of bytes of a block device; both are multiples of 512.
type Run struct {
	Device   string
	Off, Len int64
}

// Mapped is a block device made of runs of others, until Close.
type Mapped struct {
	Path string
	name string
}

// checkMapper says why the kernel cannot map devices. It loads the driver; a node that somebody has made for it says nothing.
func checkMapper(ctx context.Context) error {
	reach := func() error {
		f, err := os.OpenFile(dmControl, os.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("the kernel has no device mapper: %w", err)
		}
		return f.Close()
	}
	err := reach()
	if err == nil {
		return nil
	}
	if merr := md.Modprobe(ctx, "dm_mod"); merr != nil {
		return errors.Join(err, merr)
	}
	return reach()
}

// MapRuns makes one device of runs, one after the other, by dm-linear. It needs CAP_SYS_ADMIN.
func MapRuns(ctx context.Context, name string, runs []Run) (*Mapped, error) {
	if err := checkMapper(ctx); err != nil {
		return nil, err
	}
	table, err := linearTable(runs)
	if err != nil {
		return nil, err
	}
	created, err := dm(dmDevCreate, name, 0, nil)
	if err != nil {
		return nil, fmt.Errorf("device mapper: create %s: %w", name, err)
	}
	minor := unix.Minor(binary.LittleEndian.Uint64(created[40:]))
	m := &Mapped{Path: fmt.Sprintf("/dev/dm-%d", minor), name: name}
	if _, err = dm(dmTableLoad, name, len(runs), table); err == nil {
		_, err = dm(dmDevSuspend, name, 0, nil)
	}
	if err == nil {
		err = waitNode(ctx, m.Path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("device mapper: table of %s: %w", name, err), m.Close())
	}
	return m, nil
}

// Close gives the device back once it is not mounted any more.
func (m *Mapped) Close() error {
	for deadline := time.Now().Add(mapLimit); ; time.Sleep(50 * time.Millisecond) {
		_, err := dm(dmDevRemove, m.name, 0, nil)
		if errors.Is(err, unix.EBUSY) && time.Now().Before(deadline) {
			continue // somebody (udev) looks at it
		}
		if err != nil {
			return fmt.Errorf("device mapper: remove %s: %w", m.name, err)
		}
		return nil
	}
}

// linearTable has a dm_target_spec for every run, each followed by its parameters.
func linearTable(runs []Run) ([]byte, error) {
	var table []byte
	at := uint64(0)
	for _, r := range runs {
		if r.Off < 0 || r.Len <= 0 || r.Off%dmSector != 0 || r.Len%dmSector != 0 {
			return nil, fmt.Errorf("device mapper: %s: bytes %d+%d are not whole sectors", r.Device, r.Off, r.Len)
		}
		params := fmt.Sprintf("%s %d\x00", r.Device, r.Off/dmSector)
		spec := make([]byte, (dmSpec+len(params)+7)/8*8)
		binary.LittleEndian.PutUint64(spec, at)
		binary.LittleEndian.PutUint64(spec[8:], uint64(r.Len/dmSector))
		binary.LittleEndian.PutUint32(spec[20:], uint32(len(spec))) // where the next one is, from here
		copy(spec[24:], "linear")
		copy(spec[dmSpec:], params)
		table = append(table, spec...)
		at += uint64(r.Len / dmSector)
	}
	return table, nil
}

// dm is one call of the device mapper for the device of this name; it returns the header that the kernel gives back.
func dm(command uintptr, name string, targets int, data []byte) ([]byte, error) {
	if len(name) > 127 || strings.ContainsAny(name, "/\x00") {
		return nil, fmt.Errorf("name %q: %w", name, unix.EINVAL)
	}
	control, err := os.OpenFile(dmControl, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	b := make([]byte, dmHeader+len(data), dmHeader+len(data)+8)
	le := binary.LittleEndian
	le.PutUint32(b, 4)                     // version 4.0.0 of the interface
	le.PutUint32(b[12:], uint32(len(b)))   // data_size
	le.PutUint32(b[16:], uint32(dmHeader)) // data_start
	le.PutUint32(b[20:], uint32(targets))  // target_count
	copy(b[48:], name)
	copy(b[dmHeader:], data)
	request := 3<<30 | dmHeader<<16 | 0xfd<<8 | command // _IOWR(DM_IOCTL, command, struct dm_ioctl)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), request, uintptr(unsafe.Pointer(&b[0]))); errno != 0 {
		return nil, errno
	}
	return b[:dmHeader], nil
}

// waitNode waits until the kernel has made a device node.
func waitNode(ctx context.Context, path string) error {
	for deadline := time.Now().Add(mapLimit); ; time.Sleep(20 * time.Millisecond) {
		_, err := os.Stat(path)
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
	}
}
