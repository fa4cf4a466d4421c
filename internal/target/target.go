// Package target deals with the system that has been deployed: its boot entry
// and the jump into its kernel.
package target

// Entry is what to boot: kernel, initrd and kernel command line.
type Entry struct {
	Kernel  File
	Initrd  File // empty Path: none
	Cmdline string
	Left    error // what of the mounts could not be undone; nil: nothing is left
}

// File names a file in the file system of a partition of the deployed disk.
type File struct {
	Partition int    // number in the table; 0 = the whole disk
	Path      string // absolute in that file system
}
