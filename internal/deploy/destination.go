package deploy

import (
	"context"

	"swarmboot/imagefmt"
	"swarmboot/internal/swarm"
)

// destination is where an image goes: one disk with the image's own table (writer), or what the plan of a layout says
// (planned). The steps call the methods in this order; after each of them the power may fail.
type destination interface {
	// unfinished says whether there may be pieces of the image from a run that did not come to its end.
	unfinished() bool
	// check is the last look before the first write.
	check() error
	// wipe clears what the old system left in places that others look at.
	wipe(ctx context.Context) error
	// stageTable writes tables by which nothing boots and nothing that is kept is lost.
	stageTable() error
	// assemble makes arrays, if there are any (makesArrays).
	assemble(ctx context.Context) error
	makesArrays() bool
	// resyncs says of each array that is being brought in line how far that has come. It may be called at any time after assemble.
	resyncs() []string
	// target takes the pieces. index is asked, from the first write on, for the image's index, which must be there by then.
	target(index func() *imagefmt.Index) swarm.Target
	// sync returns when the media have everything.
	sync() error
	// readBack compares what the devices return with the index.
	readBack(ctx context.Context, ix *imagefmt.Index) error
	// makeFS makes new file systems, if there are any (makesFS).
	makeFS(ctx context.Context) error
	makesFS() bool
	// finishTable writes the final tables and has the kernel read them.
	finishTable() error
	// growFileSystem lets go of the disks and grows what has become larger. A file system that does not grow is a warning.
	growFileSystem(ctx context.Context, warn func(string)) error

	// attach returns the block device of the image's partition n (0: of the whole disk), waits for its node, and returns what
	// gives it back. A partition that the layout has no place for is an error.
	attach(ctx context.Context, n int) (device string, release func() error, err error)
	// device returns the node of the image's partition n (0: of the whole disk), "" if it has none.
	device(n int) string
	// renamed are names of partitions of the image that mean nothing where they have gone, with the new ones (identity.Replace).
	renamed() map[string]string
	// fsCopies are the copies of the image's file systems, but for the root, in which files may name partitions.
	fsCopies() []fsCopy
	// bootDisks are the disks that firmware could start the system from.
	bootDisks() []bootDisk
	// booted returns the manifest as it is where the image has been put: what the kernel that is loaded will find.
	booted() *imagefmt.Manifest
	// setWhole notes whether everything that is to be on the disks is there; if not, undo makes them unbootable.
	setWhole(whole bool)
	// undo makes sure that disks that are not whole do not look like a system.
	undo()
	// close lets go of the disks; a second call does nothing.
	close() error
}
