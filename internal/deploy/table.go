package deploy

import (
	"context"

	"swarmboot/internal/params"
)

// reread gives the disks their final tables. Where the deployed system is still to be changed that waits, and the kernel alone is
// shown the partitions: a node that loses power while it is being named, or before, must not start as a nameless one.
func (e *engine) reread(context.Context) error {
	if e.changesSystem() {
		return e.w.showTable()
	}
	return e.w.finishTable()
}

// changesSystem says whether steps follow after which the system on the disk is another one, and before which it is not to start.
func (e *engine) changesSystem() bool {
	return e.hasIdentity() || e.hasNewUUIDs() || len(e.w.renamed()) > 0 || e.profile != nil && len(e.profile.HooksAt(params.HookAfterWrite)) > 0
}

// table writes the final tables once the system is what it is to be.
func (e *engine) table(context.Context) error { return e.w.finishTable() }
