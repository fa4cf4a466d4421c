// Package layout decides what happens to the disks of a machine: which disks are taken, how they are divided, which of them form
// md arrays, which bytes of an image go where, and what is kept. It writes nothing and reads no disk: a Layout, the
// inventory of a machine and an image's manifest give a Plan.
//
// A layout is YAML on the server (package layouts) and JSON on the way to the node, with the same names.
package layout

// MaxLayout is the most bytes that a layout may have, as YAML and as JSON.
const MaxLayout = 64 << 10

// Layout is what an admin wants of a kind of machines. The first of its candidates whose disks are all there is taken.
type Layout struct {
	Candidates []Candidate `json:"candidates"`
}

// Candidate is one way to use the disks of a machine.
type Candidate struct {
	Name  string    `json:"name"`
	Disks []DiskSet `json:"disks"` // filled in this order; no disk belongs to two of them
	Raid  []Raid    `json:"raid,omitempty"`
}

// DiskSet is a number of disks that are used alike. Exactly one of these holds: it has Partitions; it has Scale, which means the
// image's own table; it has Fill, for the disk as a whole; or a Raid is made of its disks as a whole.
type DiskSet struct {
	Name string `json:"name"`
	// Select has selectors (disk.ParseSelector), of which one must match; "" is "only".
	Select Selectors `json:"select,omitempty"`
	// Count is how many disks: "2", "4..", "2..4", "0..1"; "" is 1. All that match are taken, and more than allowed is as wrong
	// as fewer, unless Pick says which.
	Count string `json:"count,omitempty"`
	// Equal: disks of one size (within 1 %), sector size, kind and transport; the largest such group is taken.
	Equal bool   `json:"equal,omitempty"`
	Pick  string `json:"pick,omitempty"` // smallest, largest (alike ones are refused), or first: by kernel name
	Wipe  string `json:"wipe,omitempty"` // none, discard or zero; "" is none
	// Recreate: disks that belong to md arrays may be taken, their arrays stopped and overwritten.
	Recreate   bool        `json:"recreate,omitempty"`
	Scale      string      `json:"scale,omitempty"` // last, proportional or exact
	Partitions []Partition `json:"partitions,omitempty"`
	Fill       `yaml:",inline"`
}

// Partition is one partition on every disk of a set, in the order of the disk.
type Partition struct {
	Name string `json:"name"` // Raid.Of refers to it; also its label, unless Label says otherwise
	// Size is fixed ("512M"), a part of the disk ("30%"), or "rest". "" is as large as the image's partition.
	Size       string   `json:"size,omitempty"`
	Type       string   `json:"type,omitempty"`  // see Types, or a GUID; "" is what the content asks for
	Label      string   `json:"label,omitempty"` // partition name in the GPT; {n} is the number of the disk in its set
	UUID       string   `json:"uuid,omitempty"`  // PARTUUID; "" is the image partition's, or made from what the partition is
	Attributes []string `json:"attributes,omitempty"`
	// Keep: yes keeps the partition that has this label (or Number) on the old table; or-create makes it where there is none.
	Keep   Keep `json:"keep,omitempty"`
	Number int  `json:"number,omitempty"` // 0 is the next that is free
	Fill   `yaml:",inline"`
}

// Raid is one md array of the disks of a set, or of one partition of each.
type Raid struct {
	Name     string `json:"name"`               // /dev/md/NAME
	Of       string `json:"of"`                 // SET, or SET/PARTITION
	Level    int    `json:"level"`              // 0, 1, 4, 5, 6, 10
	Chunk    string `json:"chunk,omitempty"`    // "" is 512K
	Bitmap   *bool  `json:"bitmap,omitempty"`   // absent: as mdadm, where members have 100 GB or more
	Spares   int    `json:"spares,omitempty"`   // the last disks of the set
	Metadata string `json:"metadata,omitempty"` // "1.2", or "1.0" for what firmware reads; "" is 1.2
	Recreate bool   `json:"recreate,omitempty"` // see DiskSet.Recreate
	Fill     `yaml:",inline"`
}

// Fill is what goes into a partition, an array or a whole disk. Image and FS exclude each other; neither: nothing does.
type Fill struct {
	// Image is a partition of the image: its number, its label, or "whole" for the bare file system of an image without a table.
	Image   string `json:"image,omitempty"`
	Grow    bool   `json:"grow,omitempty"`    // the image's file system is to fill its place
	FS      string `json:"fs,omitempty"`      // ext4, xfs, swap, vfat: made empty
	FSLabel string `json:"fsLabel,omitempty"` // {n} is the number of the disk in its set
	FSUUID  string `json:"fsUUID,omitempty"`  // "" is made from what the place is
	Mount   string `json:"mount,omitempty"`   // path for the deployed fstab; {n} is the number of the disk in its set
	Options string `json:"options,omitempty"` // mount options; "" is defaults
}

// Keep says what becomes of a partition that is there.
type Keep string

// The values of Keep; "" is not at all. In YAML, true stands for yes.
const (
	KeepYes      Keep = "yes"
	KeepOrCreate Keep = "or-create"
)

// Selectors are alternatives; in YAML a single one may stand without a list.
type Selectors []string
