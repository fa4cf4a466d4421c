package disk

import (
	"swarmboot/imagefmt"
)

// Inventory is a disk and what is on it, as facts that can be kept as JSON.
type Inventory struct {
	Disk
	// Table is the partition table that the kernel would use, of kind none when there is none; without boot code. Numbers,
	// places, types, UUIDs and labels are filled in, and of every partition the file system that is recognised in it.
	Table imagefmt.Table `json:"table"`
	// TableSector is the sector size that the table was made for, in bytes; 0 without a table.
	TableSector int `json:"tableSector,omitempty"`
	// TableError says why a table that is there cannot be trusted, "" = it can. Table is of kind none then.
	TableError string `json:"tableError,omitempty"`
	// Found are the signatures on the disk and in its partitions, as Wipe names them: "partition 1: XFS superblock".
	Found []string `json:"found,omitempty"`
	// Members are the superblocks of md arrays on the disk and in its partitions.
	Members []Member `json:"members,omitempty"`
	// Arrays are the md arrays that are assembled from the disk, by kernel name, when they are idle and the only
	// reason why the disk is in use. See Disk.InUse.
	Arrays []string `json:"arrays,omitempty"`
}

// Member says that a disk or partition belongs to an md array.
type Member struct {
	Partition int    `json:"partition"` // 0 = the disk as a whole
	Array     string `json:"array"`     // UUID of the array, as mdadm writes it: "01234567:89abcdef:01234567:89abcdef"
	Name      string `json:"name,omitempty"`
	Level     int    `json:"level"`
	Metadata  string `json:"metadata"` // "0.90", "1.0", "1.1", "1.2"
}
