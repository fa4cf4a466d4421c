package deploy

import (
	"context"
	"errors"
	"strings"

	"swarmboot/internal/layout"
	"swarmboot/internal/target"
)

// mountOwn is an identity.Mounter: it mounts what the deployed system's fstab names and this deployment has put on the disks.
func (e *engine) mountOwn(ctx context.Context) func(device, dir string) (func() error, bool, error) {
	return func(device, dir string) (func() error, bool, error) {
		r, ok, err := e.ownPlace(ctx, device)
		if err != nil || !ok {
			return nil, false, err
		}
		node, release, err := e.w.attachRef(ctx, r)
		if err != nil {
			return nil, false, err
		}
		unmount, err := target.MountAt(node, dir)
		if err != nil {
			return nil, false, errors.Join(err, release())
		}
		return func() error { return errors.Join(unmount(), release()) }, true, nil
	}
}

// ownPlace finds the place of the file system that fstab calls device, by UUID or label of file system or partition.
func (e *engine) ownPlace(ctx context.Context, device string) (layout.Ref, bool, error) {
	key, value, ok := strings.Cut(strings.ReplaceAll(device, `"`, ""), "=")
	if !ok {
		kind, name, by := strings.Cut(strings.TrimPrefix(device, "/dev/disk/by-"), "/")
		if !by || !strings.HasPrefix(device, "/dev/disk/by-") {
			return layout.Ref{}, false, nil
		}
		key, value = kind, name
	}
	for _, c := range e.w.plan.Contents {
		names := map[string]string{"uuid": c.UUID, "label": c.Label, "partuuid": e.w.partUUID(c.On)}
		if i := e.partition(c.Image); i >= 0 && c.Source.Len > 0 {
			p := e.m.Table.Partitions[i]
			names["uuid"], names["label"], names["partlabel"] = p.FSUUID, p.FSLabel, p.Label
			if fresh, ok := e.changed[strings.ToLower(value)]; ok && strings.EqualFold(fresh, p.UUID) {
				names["partuuid"] = value // as the image has it: the files are changed later
			}
			if strings.EqualFold(key, "uuid") && p.FSUUID == "" { // a file system that the manifest does not know
				id, err := e.fileSystemUUID(ctx, c.On)
				if err != nil {
					return layout.Ref{}, false, err
				}
				names["uuid"] = id
			}
		}
		key := strings.ToLower(key)
		got, isLabel := names[key], strings.HasSuffix(key, "label")
		if got != "" && (got == value || !isLabel && strings.EqualFold(got, value)) {
			return c.On, true, nil
		}
	}
	return layout.Ref{}, false, nil
}

// fileSystemUUID looks at what is in a place.
func (e *engine) fileSystemUUID(ctx context.Context, r layout.Ref) (string, error) {
	node, release, err := e.w.attachRef(ctx, r)
	if err != nil {
		return "", err
	}
	id, err := target.FileSystemUUID(node)
	return id, errors.Join(err, release())
}
