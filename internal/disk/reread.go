package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"swarmboot/imagefmt"
)

// How long RereadTable tries: something (a udev probe) may hold the device for a moment.
const (
	rereadFor  = 10 * time.Second
	rereadStep = 50 * time.Millisecond
)

// RereadTable has the kernel read the partition table and waits until the partitions have device
// nodes. Partitions of the last WriteTable that the kernel does not find by itself (it may have been built
// without that kind of table) are added by hand. It does nothing for a regular file.
func (d *Device) RereadTable() error {
	if !d.block {
		return nil
	}
	err := d.reread()
	if errors.Is(err, unix.EBUSY) {
		return &BusyError{Device: d.path, Reason: useOf(d.path)}
	}
	// EINVAL: a device that cannot have partitions (a loop device made without them).
	if err != nil && !errors.Is(err, unix.EINVAL) {
		return &IOError{d.path, "re-read partition table", -1, err}
	}
	major, minor, err := deviceNumber(d.path)
	if err != nil {
		return &IOError{d.path, "find in sysfs", -1, err}
	}
	sys := fmt.Sprintf("/sys/dev/block/%d:%d", major, minor)
	if err := d.addMissing(sys); err != nil {
		return err
	}
	return d.awaitNodes(sys)
}

// addMissing brings the kernel's partitions to what the table says, where it did not do so itself: those with the place
// or size of an older table go (a loop device made without partitions keeps what was added by hand, even when it is detached), those
// that are not there come. What a table other than a GPT does not list (an extended partition, one that lies in another, one of an older table)
// goes where it is in the way of one that comes: the kernel adds none that shares a sector with another.
func (d *Device) addMissing(sys string) error {
	want := map[int]imagefmt.Partition{}
	for _, p := range d.table.Partitions {
		if !p.Extended() {
			want[p.Number] = p
		}
	}
	stale := slices.DeleteFunc(shownPartitions(sys), func(s imagefmt.Partition) bool {
		p, listed := want[s.Number]
		right := listed && s.Start == p.Start && s.Length == p.Length
		if right {
			delete(want, s.Number)
		}
		return right
	})
	for _, s := range stale {
		if _, listed := want[s.Number]; !listed && d.table.Kind != imagefmt.TableGPT && !inTheWay(s, want) {
			continue
		}
		if err := d.blkpg(unix.BLKPG_DEL_PARTITION, s); err != nil {
			return &IOError{d.path, fmt.Sprintf("remove old partition %d", s.Number), -1, err}
		}
	}
	for _, p := range want {
		if err := d.blkpg(unix.BLKPG_ADD_PARTITION, p); err != nil && !errors.Is(err, unix.EINVAL) {
			return &IOError{d.path, fmt.Sprintf("add partition %d", p.Number), p.Start, err}
		}
	}
	return nil
}

// shownPartitions are those that the kernel shows, with number, start and length.
func shownPartitions(sys string) (all []imagefmt.Partition) {
	for _, name := range partitions(sys) {
		field := func(file string) int64 { return number(attr(sys, name, file), 0) }
		// sysfs always counts in 512 bytes
		all = append(all, imagefmt.Partition{Number: int(field("partition")), Start: field("start") * 512, Length: field("size") * 512})
	}
	return all
}

// inTheWay says whether a partition shares a byte with one of those that come.
func inTheWay(s imagefmt.Partition, come map[int]imagefmt.Partition) bool {
	for _, p := range come {
		if p.Start < s.Start+s.Length && s.Start < p.Start+p.Length {
			return true
		}
	}
	return false
}

func (d *Device) blkpg(op int32, p imagefmt.Partition) error {
	part := unix.BlkpgPartition{Start: p.Start, Length: p.Length, Pno: int32(p.Number)}
	arg := unix.BlkpgIoctlArg{Op: op, Datalen: int32(unsafe.Sizeof(part)), Data: (*byte)(unsafe.Pointer(&part))}
	return d.ioctlPtr(unix.BLKPG, unsafe.Pointer(&arg))
}

// extended says whether an entry of an MBR or EBR with this type only holds others.
func extended(kind byte) bool { return kind == 0x05 || kind == 0x0f || kind == 0x85 }

// awaitNodes waits for devtmpfs (and udev) to catch up with sysfs.
func (d *Device) awaitNodes(sys string) error {
	for _, name := range partitions(sys) {
		node := "/dev/" + strings.ReplaceAll(name, "!", "/")
		err := retry(func() error {
			_, err := os.Stat(node)
			return err
		}, os.ErrNotExist)
		if err != nil {
			return &IOError{d.path, "wait for partition", -1, err}
		}
	}
	return nil
}

// retry calls f until its error is not again, for rereadFor at most.
func retry(f func() error, again error) error {
	for deadline := time.Now().Add(rereadFor); ; time.Sleep(rereadStep) {
		if err := f(); !errors.Is(err, again) || time.Now().After(deadline) {
			return err
		}
	}
}

// PartitionPath returns the device node of partition n of the disk at path, by the kernel's rule: a
// disk whose name ends in a digit gets a "p" between (nvme0n1p2, sda2). n = 0 is the disk itself.
func PartitionPath(path string, n int) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if n == 0 || path == "" {
		return path
	}
	if last := path[len(path)-1]; last >= '0' && last <= '9' {
		path += "p"
	}
	return path + strconv.Itoa(n)
}
