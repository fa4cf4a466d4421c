package layout

import (
	"swarmboot/imagefmt"
	"swarmboot/internal/disk"
)

// Plan is what happens to the disks of one machine, decided before the first write. The same layout, image and disks give
// the same plan, GUIDs included, so that a deployment that was interrupted goes on with it.
type Plan struct {
	Layout    string      `json:"layout,omitempty"`    // name; "" without a layout
	Candidate string      `json:"candidate,omitempty"` // name
	Reasons   []string    `json:"reasons,omitempty"`   // one line for every candidate that was looked at: why it was or was not taken
	Notes     []string    `json:"notes,omitempty"`     // what an admin may not expect: parts of the image that are not used, space that is not
	Disks     []DiskPlan  `json:"disks"`               // every disk that is written to; Ref.Disk counts them
	Arrays    []ArrayPlan `json:"arrays,omitempty"`    // Ref.Array counts them
	Contents  []Content   `json:"contents"`
	Mounts    []Mount     `json:"mounts,omitempty"` // hints for the deployed system's fstab
}

// DiskPlan is one disk.
type DiskPlan struct {
	Disk disk.Disk `json:"disk"`
	// Wipe says what becomes of the bytes that nothing else is said about. Signatures are always cleared; partitions that are
	// kept are never touched.
	Wipe disk.WipeMode `json:"wipe"`
	// Table is the final table, made for the size and the logical sector size of this disk, with the partitions that are kept.
	// Of kind none it is a disk that one Content or array has as a whole.
	Table imagefmt.Table `json:"table"`
	Kept  []int          `json:"kept,omitempty"` // numbers of partitions that stay byte for byte, entry and content
	// Lost are the partitions, file systems and arrays that are on the disk now and will not be: for people.
	Lost []string `json:"lost,omitempty"`
	// Stop lists arrays that are assembled from this disk and idle, by kernel name: they may be stopped.
	Stop []string `json:"stop,omitempty"`
}

// ArrayPlan is one md array.
type ArrayPlan struct {
	Name     string `json:"name"`     // "root": /dev/md/root
	Level    int    `json:"level"`    // 0, 1, 4, 5, 6, 10 (two near copies)
	Metadata string `json:"metadata"` // "1.2", or "1.0" with the superblock at the end
	Chunk    int64  `json:"chunk"`    // bytes; 0 for level 1
	Bitmap   bool   `json:"bitmap"`   // internal write-intent bitmap
	Members  []Ref  `json:"members"`  // in the order of their roles
	Spares   []Ref  `json:"spares,omitempty"`
	Size     int64  `json:"size"`     // bytes of the array, as package md lays it out
	Recreate bool   `json:"recreate"` // arrays that the members belonged to may be stopped and overwritten
}

// Ref is a place: a disk or an array, or a partition of a disk.
type Ref struct {
	Disk      int `json:"disk"`      // index in Plan.Disks, -1 for an array
	Array     int `json:"array"`     // index in Plan.Arrays, -1 for a disk
	Partition int `json:"partition"` // number; 0 = the device as a whole
}

// Content is what goes to a place. Bytes of the image when Source is not empty, else a new file system, or nothing at all.
// Several contents may have the same Source: its bytes go to each of them. No two contents share a byte of a device.
type Content struct {
	On     Ref   `json:"on"`
	Offset int64 `json:"offset,omitempty"` // bytes from the start of On; only where On is a whole disk
	// Source are bytes of the image's address space. Those of the image's partition Image, or with Image 0 others: what lies
	// outside of partitions, or a bare file system.
	Source imagefmt.Extent `json:"source,omitzero"`
	Image  int             `json:"image,omitempty"`
	// FS is the file system to make when Source is empty: ext4, xfs, swap, vfat; "" leaves the place without one.
	FS    string `json:"fs,omitempty"`
	Label string `json:"label,omitempty"` // of the file system to make
	UUID  string `json:"uuid,omitempty"`  // of the file system to make: lower case, of vfat XXXX-XXXX; always given where FS is
	// Grow: the file system of the image is to be made as large as its place.
	Grow bool `json:"grow,omitempty"`
	// Back is the length in bytes that the place had in the image's own table, where the plan has enlarged it for no other reason
	// than that there was room (ScaleLast): should what is there turn out not to grow, a partition goes back to it. 0: the place stays as it is.
	Back int64 `json:"back,omitempty"`
}

// Mount is a line for the deployed system's fstab.
type Mount struct {
	On      Ref    `json:"on"`
	Path    string `json:"path"` // "none" for swap
	FSType  string `json:"fsType"`
	Options string `json:"options,omitempty"` // "" = defaults
}

// Image is what a plan needs to know of an image.
type Image struct {
	// Manifest may be nil in a plan that is only shown: contents have no Source then.
	Manifest *imagefmt.Manifest
	// Used returns the extents that the image has bytes (or zeros) for; nil where nobody knows. It is asked only when ScaleExact meets a disk
	// that is smaller than the image's table, which is held against them beside what the manifest says of file systems.
	Used func() ([]imagefmt.Extent, error)
}

// Scale says what becomes of an image's own table on a disk of another size. A layout has it as DiskSet.Scale.
type Scale string

// The values of Scale. All but exact refuse a disk that is smaller than the image needs.
const (
	ScaleNone         Scale = "none"         // the table as it is
	ScaleLast         Scale = "last"         // its last partition takes what is left of a larger disk
	ScaleProportional Scale = "proportional" // so do all that can grow, in proportion; Clonezilla's -k1
	ScaleExact        Scale = "exact"        // as it is; a smaller disk too, if nothing that is used would be cut off
)

// Plan decides what happens to a machine's disks. The first candidate whose sets of disks can be filled is the one: when
// it cannot be carried out for another reason (too small, a partition to be kept is not there) that is an error, never the turn of
// the next one. Errors: *NoCandidateError, *disk.TooSmallError, *RefusedError, wrapped or not.
func (l *Layout) Plan(inv []disk.Inventory, im Image) (*Plan, error) { return l.plan(inv, im) }

// Default is the plan without a layout: the image's own table on one disk. What is on the disk now makes no difference but for what the plan
// says is lost. Errors: *disk.TooSmallError, *RefusedError.
func Default(d disk.Inventory, im Image, how Scale) (*Plan, error) { return defaultPlan(d, im, how) }
