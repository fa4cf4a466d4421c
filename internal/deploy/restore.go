package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/disk"
	"swarmboot/internal/event"
	"swarmboot/internal/layout"
	"swarmboot/internal/params"
)

// RestoreOptions say what Restore does.
type RestoreOptions struct {
	Manifest *imagefmt.Manifest
	Payload  io.ReaderAt
	Disk     string // path of a block device or regular file
	Verify   params.Verify
	Grow     params.Grow // how the image's own table goes to the disk; "" is last for a block device, none for a file
}

// Restore writes an image to a disk from a local payload, by the steps and with the checks of Run. It calls
// report at every change and once a second; its errors carry exit codes.
func Restore(ctx context.Context, o RestoreOptions, report func(event.Progress)) error {
	if err := fillGrow(&o.Grow, o.Disk); err != nil {
		return err
	}
	r := &restore{o: o, rep: newReporter(event.Progress{Image: o.Manifest.Name, Phase: event.PhaseManifest, Disk: o.Disk,
		PiecesTotal: o.Manifest.Pieces(), BytesTotal: o.Manifest.UsedBytes}, nil, report)}
	defer func() {
		if r.w != nil {
			r.w.close() //nolint:errcheck // synced before, or an error is returned
		}
	}()
	steps := []step{
		{name: event.PhaseManifest, run: r.open},
		{name: event.PhaseSelect, run: r.openDisk},
		{name: event.PhaseWipe, run: func(ctx context.Context) error { return r.w.wipe(ctx) }},
		{name: event.PhasePartition, run: func(context.Context) error { return r.w.stageTable() }},
		{name: event.PhaseFetch, run: r.copy},
		{name: event.PhaseSync, run: func(context.Context) error { return r.w.sync() }},
		{name: event.PhaseVerify, run: r.verify},
		{name: event.PhaseMkfs, run: func(ctx context.Context) error { return r.w.makeFS(ctx) }, when: func() bool { return r.w.makesFS() }},
		{name: event.PhaseReread, run: func(context.Context) error { return r.w.finishTable() }},
	}
	if grows(o.Grow) {
		steps = append(steps, step{name: event.PhaseGrow, run: func(ctx context.Context) error { return r.w.growFileSystem(ctx, r.rep.warn) }})
	}
	return r.rep.follow(ctx, steps, func() {
		if r.w != nil {
			r.w.undo(context.Background())
		}
	})
}

type restore struct {
	o   RestoreOptions
	rep *reporter
	w   *planned
	im  look
	ix  *imagefmt.Index

	pieces, raw atomic.Int64
}

// open reads the index, which checks its hash.
func (r *restore) open(context.Context) error {
	r.im = localImage(r.o.Manifest, r.o.Payload)
	im, err := r.im()
	if err != nil {
		return err
	}
	r.ix = im.Index()
	return nil
}

func (r *restore) openDisk(context.Context) error {
	dev, err := disk.Open(r.o.Disk)
	if err != nil {
		return openError(err)
	}
	plan, err := r.plan(dev)
	if err != nil {
		return errors.Join(planError(err), dev.Close())
	}
	r.w = &planned{m: r.o.Manifest, plan: plan, say: r.rep.say, look: r.im, disks: []*plannedDisk{{DiskPlan: plan.Disks[0], dev: dev}}}
	for _, note := range plan.Notes {
		r.rep.say(note)
	}
	return r.w.check()
}

func (r *restore) plan(dev *disk.Device) (*layout.Plan, error) {
	d, err := diskOf(dev)
	if err != nil {
		return nil, err
	}
	return layout.Default(disk.Inventory{Disk: d}, layout.Image{Manifest: r.o.Manifest, Used: r.im.used}, layout.Scale(r.o.Grow))
}

// copy brings every piece and every zero extent to the disk.
func (r *restore) copy(ctx context.Context) error {
	m := r.o.Manifest
	first := int64(r.ix.IndexPieces())
	r.pieces.Store(first)
	r.rep.setStats(func(p *event.Progress) { p.PiecesDone, p.BytesDone = int(r.pieces.Load()), r.raw.Load() })
	defer r.rep.setStats(nil)
	dst := r.w.target(func() *imagefmt.Index { return r.ix })
	restorer := imagefmt.NewRestorer(r.ix, dst, r.o.Verify != params.VerifyNone)
	buffers := sync.Pool{New: func() any { b := make([]byte, m.PieceLength); return &b }}
	err := eachPiece(ctx, r.ix, func(piece int) error {
		bp := buffers.Get().(*[]byte)
		defer buffers.Put(bp)
		b := (*bp)[:m.PieceSize(piece)]
		if n, err := r.o.Payload.ReadAt(b, int64(piece)*m.PieceLength); n < len(b) {
			return cli.WithCode(cli.CodeIO, fmt.Errorf("read piece %d of the payload: %w", piece, noEOF(err)))
		}
		raw, err := restorer.WritePiece(piece, b)
		if err != nil {
			return cli.WithCode(verifyCode(err), err)
		}
		r.pieces.Add(1)
		r.raw.Add(raw)
		return nil
	})
	if err != nil {
		return err
	}
	for _, e := range r.ix.Zero() {
		if err := dst.Zero(ctx, e.Off, e.Len); err != nil {
			return err
		}
	}
	r.rep.update(func(*event.Progress) {})
	return nil
}

func noEOF(err error) error {
	if err == nil || err == io.EOF { //nolint:errorlint // io.ReaderAt returns it bare
		return io.ErrUnexpectedEOF
	}
	return err
}

func (r *restore) verify(ctx context.Context) error {
	if r.o.Verify != params.VerifyReadBack {
		return nil
	}
	return r.w.readBack(ctx, r.ix)
}
