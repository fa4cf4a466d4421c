// Package disk is everything the node does to a block device before and after
// the swarm fills it: listing and selecting disks, checked reads and writes,
// zeroing, clearing old signatures, writing the partition table, and having
// the kernel read it.
//
// Which disk is overwritten is never a guess: see Selector.
package disk

// Disk describes one whole disk as the kernel knows it.
type Disk struct {
	Path           string // device node, "/dev/vda"
	Name           string // kernel name, "vda"
	Serial         string
	WWN            string // world wide name without prefix of its kind, lower case: "5000c500a1b2c3d4"
	Model          string
	Transport      string // "nvme", "sata", "sas", "fc", "iscsi", "usb", "virtio", "mmc", "sd", "loop", "file" or ""
	Size           int64  // bytes
	LogicalSector  int    // bytes
	PhysicalSector int    // bytes
	Removable      bool   // removable medium, or a disk on USB
	ReadOnly       bool
	Rotational     bool
	InUse          string // why the disk cannot be used, "" = free
}
