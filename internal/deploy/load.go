package deploy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"swarmboot/internal/pause"
	"swarmboot/internal/target"
)

// nodeLimit is how long a partition's device node may take to appear.
const nodeLimit = 10 * time.Second

// load has the kernel take in the deployed system's kernel. A kernel that forbids kexec is no failure of the
// deployment: the caller reboots instead.
func (e *engine) load(ctx context.Context) error {
	if err := e.release(); err != nil {
		return err
	}
	// Kernel, initrd and their copies for the jump are the peak of a node's memory: what the fetch held goes back first.
	debug.FreeOSMemory()
	root := e.w.device(e.m.Boot.Root)
	if root == "" {
		return errors.New("the image names no root partition to start from")
	}
	if err := waitFor(ctx, root, nodeLimit); err != nil {
		return fmt.Errorf("root partition: %w", err)
	}
	entry, err := target.Load(ctx, e.w.booted(), e.w.device, target.CmdlineOptions{Console: e.o.Console, Append: e.o.Append})
	var lockdown *target.LockdownError
	var scattered *target.ScatteredError
	if errors.As(err, &lockdown) || errors.As(err, &scattered) {
		e.rep.say(err.Error() + "; a reboot from the disk does the same")
		return nil
	}
	if err != nil {
		return err
	}
	e.loaded = true
	if entry.Left != nil {
		e.rep.warn("still mounted beside the loaded kernel: " + entry.Left.Error())
	}
	e.rep.say(fmt.Sprintf("loaded %s (%s)", entry.Kernel.Path, entry.Cmdline))
	return nil
}

// release leaves the swarm and lets go of the disk: nothing can be mounted while the engine holds it.
func (e *engine) release() error {
	if err := e.leaveSwarm(); err != nil {
		return fmt.Errorf("leave the swarm: %w", err)
	}
	return e.w.letGo()
}

// waitFor waits until path exists: the kernel makes device nodes a moment after it has read the table.
func waitFor(ctx context.Context, path string, limit time.Duration) error {
	for deadline := time.Now().Add(limit); ; {
		_, err := os.Stat(path)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		if err := pause.For(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}
