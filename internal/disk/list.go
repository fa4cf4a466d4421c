package disk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// List returns the whole disks of this machine, with the disks in use, in the order of their names.
func List() ([]Disk, error) { return listIn("/") }

// listIn reads sysfs and procfs below root ("/" but in tests).
func listIn(root string) ([]Disk, error) {
	entries, err := os.ReadDir(filepath.Join(root, "sys/block"))
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	uses, err := readUses(root)
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	var disks []Disk
	for _, e := range entries {
		if notDisk.MatchString(e.Name()) {
			continue
		}
		if d, ok := readDisk(root, e.Name()); ok {
			d.InUse = uses.of(root, d.Name)
			disks = append(disks, d)
		}
	}
	slices.SortFunc(disks, func(a, b Disk) int { return strings.Compare(a.Name, b.Name) })
	return disks, nil
}

// notDisk matches kernel names that are never a disk to deploy to: memory, optical and floppy drives, network
// block devices that others own, maps and arrays over disks, hardware partitions of eMMC.
var notDisk = regexp.MustCompile(`^(ram|zram|sr|fd|dm-|md|nbd|mtdblock|drbd|bcache|pmem|mmcblk\d+(boot\d|rpmb))`)

// attr reads one sysfs attribute, "" when it is not there. Attributes are short; a page bounds them.
func attr(path ...string) string {
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil || len(b) > 4096 {
		return ""
	}
	return strings.TrimSpace(strings.ToValidUTF8(string(bytes.ReplaceAll(b, []byte{0}, nil)), "?"))
}

func number(s string, otherwise int64) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return otherwise
	}
	return n
}

// readDisk reads the attributes of one disk; ok is false for one that has no medium, that the
// kernel hides (paths of an NVMe multipath device), or a loop device without a file.
func readDisk(root, name string) (d Disk, ok bool) {
	sys := filepath.Join(root, "sys/block", name)
	// sysfs counts in 512-byte sectors whatever the device's sector is (Documentation/ABI/stable/sysfs-block).
	sectors := number(attr(sys, "size"), 0)
	if sectors == 0 || sectors > 1<<53 || attr(sys, "hidden") == "1" {
		return d, false
	}
	d = Disk{
		Path:           "/dev/" + strings.ReplaceAll(name, "!", "/"),
		Name:           name,
		Serial:         serial(sys),
		WWN:            wwn(sys),
		Model:          model(sys),
		Size:           sectors * 512,
		LogicalSector:  int(number(attr(sys, "queue/logical_block_size"), 512)),
		PhysicalSector: int(number(attr(sys, "queue/physical_block_size"), 512)),
		OptimalIO:      optimalIO(attr(sys, "queue/optimal_io_size")),
		ReadOnly:       attr(sys, "ro") == "1",
		Rotational:     attr(sys, "queue/rotational") == "1",
	}
	d.Transport = transport(sys, name)
	d.Removable = attr(sys, "removable") == "1" || d.Transport == "usb" || d.Transport == "sd"
	return d, true
}

// maxOptimalIO is the most that partitions are aligned to: no stripe of an array is longer.
const maxOptimalIO = 16 << 20

// optimalIO reads a disk's optimal transfer length. Bridges to USB say 65535 sectors (33553920 bytes), others sizes that are no
// power of two or less than a page: nothing can be aligned to those.
func optimalIO(s string) int {
	n := number(s, 0)
	if n < 4096 || n > maxOptimalIO || n&(n-1) != 0 {
		return 0
	}
	return int(n)
}

// serial looks where the drivers put it: virtio_blk on the disk, NVMe and mmc on
// the device, SCSI and ATA in the unit serial number page (SPC-5, 7.7.17).
func serial(sys string) string {
	for _, p := range []string{"serial", "device/serial"} {
		if s := attr(sys, p); s != "" {
			return s
		}
	}
	b, err := os.ReadFile(filepath.Join(sys, "device/vpd_pg80"))
	if err != nil || len(b) < 4 || b[1] != 0x80 {
		return ""
	}
	n := min(int(binary.BigEndian.Uint16(b[2:])), len(b)-4)
	return strings.TrimSpace(strings.ToValidUTF8(strings.TrimRight(string(b[4:4+n]), "\x00"), "?"))
}

func wwn(sys string) string {
	for _, p := range []string{"wwid", "device/wwid"} {
		s := attr(sys, p)
		if s == "" || strings.HasPrefix(s, "t10.") || strings.HasPrefix(s, "nvme.") {
			continue // made up of vendor, model and serial: not a world wide name
		}
		return trimWWN(s)
	}
	return ""
}

// trimWWN removes the prefixes that sysfs, udev and people write before a world wide name.
func trimWWN(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	for _, prefix := range []string{"wwn-", "nvme-", "naa.", "eui.", "uuid.", "0x"} {
		s = strings.TrimPrefix(s, prefix)
	}
	return s
}

func model(sys string) string {
	m := attr(sys, "device/model")
	if m == "" {
		return attr(sys, "device/name") // mmc
	}
	vendor := attr(sys, "device/vendor")
	// virtio and NVMe have a PCI number there, libata a constant.
	if vendor == "" || vendor == "ATA" || strings.HasPrefix(vendor, "0x") || strings.HasPrefix(m, vendor) {
		return m
	}
	return vendor + " " + m
}

// transport tells the bus from the place of the device in the tree.
func transport(sys, name string) string {
	switch {
	case strings.HasPrefix(name, "nvme"):
		return "nvme"
	case strings.HasPrefix(name, "loop"):
		return "loop"
	case strings.HasPrefix(name, "mmcblk"):
		if attr(sys, "device/type") == "SD" {
			return "sd"
		}
		return "mmc"
	}
	place, err := filepath.EvalSymlinks(sys)
	if err != nil {
		return ""
	}
	for _, bus := range []struct{ part, name string }{
		{"/usb", "usb"}, {"/ata", "sata"}, {"/end_device-", "sas"}, {"/rport-", "fc"}, {"/session", "iscsi"}, {"/virtio", "virtio"},
	} {
		if strings.Contains(place, bus.part) {
			return bus.name
		}
	}
	return ""
}

// useOf says why the device at path is in use, "" when that is not known.
func useOf(path string) string {
	disks, err := List()
	if err != nil {
		return ""
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return ""
	}
	for _, d := range disks {
		if d.Path == real {
			return d.InUse
		}
	}
	return ""
}
