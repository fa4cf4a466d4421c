// Package disk is everything the node does to a block device before and after
// the swarm fills it: listing and selecting disks, checked reads and writes,
// zeroing, clearing old signatures, writing the partition table, and having
// the kernel read it.
//
// Which disk is overwritten is never a guess: see Selector.
package disk

// Disk describes one whole disk as the kernel knows it.
type Disk struct {
	Path           string `json:"path"` // device node, "/dev/vda"
	Name           string `json:"name"` // kernel name, "vda"
	Serial         string `json:"serial,omitempty"`
	WWN            string `json:"wwn,omitempty"` // world wide name without prefix of its kind, lower case: "5000c500a1b2c3d4"
	Model          string `json:"model,omitempty"`
	Transport      string `json:"transport,omitempty"` // "nvme", "sata", "sas", "fc", "iscsi", "usb", "virtio", "mmc", "sd", "loop", "file" or ""
	Size           int64  `json:"size"`                // bytes
	LogicalSector  int    `json:"logicalSector"`       // bytes
	PhysicalSector int    `json:"physicalSector"`      // bytes
	OptimalIO      int    `json:"optimalIO,omitempty"` // bytes, a power of two; 0 = the disk says none, or nonsense
	Removable      bool   `json:"removable,omitempty"` // removable medium, or a disk on USB
	ReadOnly       bool   `json:"readOnly,omitempty"`
	Rotational     bool   `json:"rotational,omitempty"`
	InUse          string `json:"inUse,omitempty"` // why the disk cannot be used, "" = free
}
