package disk

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"swarmboot/imagefmt"
)

// Share gives up the exclusive hold on a block device while it stays open: partitions of it become members of an array, or are
// mounted, which the kernel wants for itself. It is locked against udev, which otherwise has the kernel read the table again as soon as somebody
// who wrote to the disk closes it (systemd.io/BLOCK_DEVICE_LOCKING). Reads and writes under way are waited for: the kernel
// keeps the hold until the last has ended. It does nothing for a regular file.
func (d *Device) Share() error {
	if !d.block || d.shared {
		return nil
	}
	f, err := os.OpenFile(d.path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("share disk: %w", err)
	}
	// What was written is on the medium before another path to the same sectors is opened.
	if err := d.Sync(); err != nil {
		f.Close()
		return err
	}
	// Who has the lock already is looking at the disk for a moment only.
	_ = retry(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }, unix.EWOULDBLOCK)
	d.mu.Lock()
	old := d.f
	d.f, d.shared = f, true
	d.mu.Unlock()
	if err := old.Close(); err != nil {
		return &IOError{d.path, "close", -1, bare(err)}
	}
	return nil
}

// ShowPartitions has the kernel see the partitions of t, whatever the table on the disk says: members of arrays are needed
// before there may be a table that lists them. Partitions that are in use keep their place. It does nothing for a regular file.
func (d *Device) ShowPartitions(t imagefmt.Table) error {
	if !d.block {
		return nil
	}
	major, minor, err := deviceNumber(d.path)
	if err != nil {
		return &IOError{d.path, "find in sysfs", -1, err}
	}
	d.table = t
	sys := fmt.Sprintf("/sys/dev/block/%d:%d", major, minor)
	if err := d.addMissing(sys); err != nil {
		return err
	}
	return d.awaitNodes(sys)
}

// CheckTable says, before anything is written, why t cannot be written to the device, which is meant to have logical sectors
// of sector bytes: *SectorSizeError, *TooSmallError, or what is wrong with it. A regular file has no sector size of its own and
// takes this one. With keep the table is to replace another one (ReplaceTable), which must be there.
func (d *Device) CheckTable(t imagefmt.Table, sector int, keep bool) error {
	if d.block && d.sector != sector {
		return &SectorSizeError{Device: d.path, Disk: d.sector, Image: sector}
	}
	if sector != 512 && sector != 4096 {
		return fmt.Errorf("%s: sectors of %d bytes are not supported", d.path, sector)
	}
	d.sector = sector
	var err error
	if keep {
		_, err = planReplace(d, t)
	} else {
		_, err = planTable(d, t)
	}
	if err != nil {
		return fmt.Errorf("%s: partition table: %w", d.path, err)
	}
	return nil
}

// reread has the kernel read the table again, unless the disk is shared: then what is in use could not change anyhow.
func (d *Device) reread() error {
	if d.shared {
		return nil
	}
	return retry(func() error {
		return unix.IoctlSetInt(int(d.f.Fd()), unix.BLKRRPART, 0)
	}, unix.EBUSY)
}
