package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"swarmboot/internal/target"
)

// inRoot calls f with the deployed root file system mounted read-write on dir. Until f has come to a good end the disk counts
// as unfinished: a system that is changed in part is not to boot.
func (e *engine) inRoot(ctx context.Context, f func(dir, device string) error) error {
	if err := e.release(); err != nil {
		return err
	}
	e.w.setWhole(false)
	device, release, err := e.attachRoot(ctx)
	if err != nil {
		return fmt.Errorf("root partition: %w", err)
	}
	err = target.ChangeRoot(ctx, device, func(dir string) error { return f(dir, device) })
	if err := errors.Join(err, release()); err != nil { // a mapped device that stays holds the disks
		return err
	}
	e.w.setWhole(true)
	return nil
}

// attachRoot returns the device with the root file system: a partition, or a logical volume in one or several.
func (e *engine) attachRoot(ctx context.Context) (device string, release func() error, err error) {
	parts, gives := map[int]string{}, []func() error{}
	release = func() error {
		var errs []error
		for _, give := range slices.Backward(gives) {
			errs = append(errs, give())
		}
		return errors.Join(errs...)
	}
	for _, n := range target.RootPartitions(e.m) {
		part, give, err := e.w.attach(ctx, n)
		if err != nil {
			return "", nil, errors.Join(err, release())
		}
		parts[n], gives = part, append(gives, give)
	}
	device, give, err := target.RootDevice(ctx, e.m, func(n int) string { return parts[n] })
	if err != nil {
		return "", nil, errors.Join(err, release())
	}
	gives = append(gives, give)
	return device, release, nil
}
