package deploy

import (
	"context"
	"errors"
	"fmt"

	"swarmboot/internal/target"
)

// inRoot calls f with the deployed root file system mounted read-write on dir. Until f has come to a good end the disk counts
// as unfinished: a system that is changed in part is not to boot.
func (e *engine) inRoot(ctx context.Context, f func(dir, device string) error) (err error) {
	if err := e.release(); err != nil {
		return err
	}
	e.w.setWhole(false)
	device, release, err := e.attachRoot(ctx)
	if err != nil {
		return fmt.Errorf("root partition: %w", err)
	}
	defer release() //nolint:errcheck // loop devices that go away by themselves
	if err := target.ChangeRoot(ctx, device, func(dir string) error { return f(dir, device) }); err != nil {
		return err
	}
	e.w.setWhole(true)
	return nil
}

// attachRoot returns the device with the root file system: a partition, or a logical volume in it.
func (e *engine) attachRoot(ctx context.Context) (device string, release func() error, err error) {
	part, releasePart, err := e.w.attach(ctx, e.m.Boot.Root)
	if err != nil {
		return "", nil, err
	}
	device, releaseRoot, err := target.RootDevice(e.m, func(int) string { return part })
	if err != nil {
		return "", nil, errors.Join(err, releasePart())
	}
	return device, func() error { return errors.Join(releaseRoot(), releasePart()) }, nil
}
