package md

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// create is Create.
func (h host) create(ctx context.Context, spec Spec) (Array, error) {
	if err := spec.check(); err != nil {
		return Array{}, err
	}
	if err := h.load(ctx, spec.Level); err != nil {
		return Array{}, fmt.Errorf("array %s: %w", spec.Name, err)
	}
	if a, ok, err := h.release(ctx, &spec); err != nil || ok {
		return a, err
	}
	set, err := spec.open()
	if err != nil {
		return Array{}, err
	}
	defer func() { _ = set.close() }()
	g, err := spec.geometry(set.devices())
	if err != nil {
		return Array{}, err
	}
	reuse, err := spec.judge(g, set.superblocks())
	if err != nil {
		return Array{}, err
	}
	if !reuse {
		if spec.UUID == (UUID{}) {
			spec.UUID = randomUUID()
		}
		if _, err := Format(ctx, spec, set.devices()); err != nil {
			return Array{}, err
		}
	}
	// The kernel wants the members for itself.
	if err := set.close(); err != nil {
		return Array{}, err
	}
	a, err := h.start(ctx, &spec, g)
	a.Reused = reuse
	return a, err
}

func (s *Spec) devices() []string { return slices.Concat(s.Members, s.Spares) }

// release looks at arrays that run on the members: one that is the wanted one is taken (ok), others are stopped if
// that is allowed. Nothing is stopped before all of them were looked at.
func (h host) release(ctx context.Context, spec *Spec) (a Array, ok bool, err error) {
	running, err := h.holding(spec.devices())
	if err != nil {
		return a, false, fmt.Errorf("array %s: %w", spec.Name, err)
	}
	if len(running) == 0 {
		return a, false, nil
	}
	if !spec.Recreate {
		a, err := h.adopt(spec, running)
		return a, err == nil, err
	}
	for _, r := range running {
		if err := h.stop(ctx, r.Device); err != nil {
			return a, false, err
		}
	}
	return a, false, nil
}

// adopt takes the one running array if it is what spec describes.
func (h host) adopt(spec *Spec, running []Running) (Array, error) {
	r := running[0]
	foreign := func(reason string) (Array, error) {
		return Array{}, fmt.Errorf("array %s: %w", spec.Name, &ForeignError{spec.Members[0], r.Device, reason})
	}
	if len(running) > 1 {
		return foreign(fmt.Sprintf("and others to %s", running[1].Device))
	}
	set, err := spec.openShared()
	if err != nil {
		return Array{}, err
	}
	defer func() { _ = set.close() }()
	g, err := spec.geometry(set.devices())
	if err != nil {
		return Array{}, err
	}
	reuse, err := spec.judge(g, set.superblocks())
	if err != nil {
		return Array{}, err
	}
	if !reuse {
		return foreign("which runs while its superblocks are not those of a whole array")
	}
	a, err := h.finish(spec, g, strings.TrimPrefix(r.Device, "/dev/"))
	a.Reused = true
	return a, err
}

// Place is where a member will be.
type Place struct {
	io.ReaderAt
	Size int64 // bytes
}

// Judge says what Create would say of the superblocks in places, those of the members of spec first: a *ForeignError where it would not overwrite them. A plan
// is better refused before its first step.
func Judge(spec Spec, places []Place) error {
	if err := spec.check(); err != nil {
		return err
	}
	if n := len(spec.devices()); n != len(places) {
		return fmt.Errorf("array %s: %d places are known, %d devices were named", spec.Name, len(places), n)
	}
	var sizes []int64
	var all []found
	for i, p := range places {
		sizes, all = append(sizes, p.Size), append(all, look(spec.devices()[i], p, p.Size))
	}
	g, err := spec.Shape.Geometry(sizes[:len(spec.Members)], sizes[len(spec.Members):])
	if err != nil {
		return fmt.Errorf("array %s: %w", spec.Name, err)
	}
	_, err = spec.judge(g, all)
	return err
}

// found is what is known of a member before the first write.
type found struct {
	path string
	sb   *Superblock // nil: none
	err  error       // a damaged one
}

// judge decides what the superblocks on the members mean: those of the wanted array, complete, are reused; none, or some
// of an array like the wanted one that never ran (the rest of an interrupted Format), are overwritten, as is anything when the spec says
// so; all else is an error.
func (s *Spec) judge(g Geometry, all []found) (reuse bool, err error) {
	if s.Recreate {
		return false, nil
	}
	complete, ran := true, false
	var first *Superblock
	roles := map[int]bool{}
	for i, f := range all {
		switch {
		case f.err != nil:
			return false, fmt.Errorf("array %s: %w", s.Name, &ForeignError{f.path, "of which the superblock is damaged", f.err.Error()})
		case f.sb == nil:
			complete = false
			continue
		case first == nil:
			first = f.sb
		}
		reason := s.differs(g, i, f.sb, first)
		if role := f.sb.Role(); reason == "" && role != RoleSpare {
			if role >= g.disks || roles[role] {
				reason = "which has lost or moved members"
			}
			roles[role] = true
		}
		if reason != "" {
			return false, fmt.Errorf("array %s: %w", s.Name, &ForeignError{f.path, f.sb.id(), reason})
		}
		ran = ran || f.sb.Events > 0
	}
	if first == nil || !complete && !ran {
		return false, nil
	}
	if !complete || len(roles) < g.disks {
		return false, fmt.Errorf("array %s: %w", s.Name, &ForeignError{s.Members[0], first.id(), "of which not all members are there"})
	}
	s.UUID = first.UUID
	return true, nil
}

// id is by what people know an array.
func (sb *Superblock) id() string { return fmt.Sprintf("%q (%s)", sb.Name, sb.UUID) }

// eventsApart is by how much members of an array that lost power may differ: the superblocks are not written at the same moment.
const eventsApart = 1

// differs says in what a superblock on device i is not that of the wanted array, "" = in nothing. Roles are looked at by
// judge: a disk may have another name than when the array was made.
func (s *Spec) differs(g Geometry, i int, sb, first *Superblock) string {
	want := s.superblock(g, i, g.sizes[i], sb.Created)
	events := max(sb.Events, first.Events) - min(sb.Events, first.Events)
	for _, c := range []struct {
		what string
		same bool
	}{
		{"which has another name", sb.Name == want.Name},
		{"which is not that of the other members", sb.UUID == first.UUID},
		{"which has another UUID", s.UUID == UUID{} || s.UUID == sb.UUID},
		{fmt.Sprintf("which has level %d", sb.Level), sb.Level == want.Level},
		{"which has metadata " + sb.Metadata(), sb.Minor == want.Minor},
		{fmt.Sprintf("which has %d members", sb.Disks), sb.Disks == want.Disks},
		{fmt.Sprintf("which has chunks of %d bytes", sb.Chunk), sb.Chunk == want.Chunk},
		{"which has another layout", sb.Layout == want.Layout || s.Level == 0 || s.Level == 4},
		{"which has another size", sb.Used == want.Used && sb.DataOffset == want.DataOffset && sb.DataSize == want.DataSize},
		{"which has a bitmap or has none", (sb.BitmapOffset != 0) == s.Bitmap},
		{"which is being reshaped", sb.Features&featureReshape == 0},
		{"which went on without this member", events <= eventsApart},
	} {
		if !c.same {
			return c.what
		}
	}
	return ""
}

// start assembles the array and checks what came of it.
func (h host) start(ctx context.Context, spec *Spec, g Geometry) (Array, error) {
	name, err := h.assemble(ctx, spec.Metadata, spec.devices())
	if err != nil {
		return Array{}, fmt.Errorf("array %s: %w", spec.Name, err)
	}
	a, err := h.finish(spec, g, name)
	if err != nil {
		return Array{}, errors.Join(err, h.stop(ctx, "/dev/"+name))
	}
	return a, nil
}

// finish checks that a running array is as it was meant to be and gives it its link.
func (h host) finish(spec *Spec, g Geometry, name string) (Array, error) {
	r := h.running(name)
	a := Array{Device: r.Device, UUID: spec.UUID, Size: r.Size}
	switch {
	case r.Size != g.Size:
		return a, fmt.Errorf("array %s: the kernel gives it %d bytes, %d were meant", spec.Name, r.Size, g.Size)
	case r.Degraded > 0:
		return a, fmt.Errorf("array %s: it runs with %d members missing", spec.Name, r.Degraded)
	case r.State == "inactive" || r.State == "clear" || r.State == "":
		return a, fmt.Errorf("array %s: its state is %q", spec.Name, r.State)
	}
	var err error
	a.Link, err = h.link(name, spec.Name)
	return a, err
}
