package deploy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/disk"
	"swarmboot/internal/event"
	"swarmboot/internal/swarm"
)

// follow goes through steps, timing and telling each, and ends with PhaseDone or, after undo, PhaseFailed.
func (r *reporter) follow(ctx context.Context, steps []step, undo func()) error {
	ticker, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { r.run(ticker) })
	var err error
	for _, s := range steps {
		if s.when != nil && !s.when() {
			continue
		}
		if err = r.step(ctx, s); err != nil {
			r.say(err.Error()) // to undo things takes its time where a disk does not answer
			undo()
			break
		}
	}
	stop()
	wg.Wait()
	limit := max(postTimeout, doneLimit-r.silent()) // it has waited for the server already, while seeding
	if err != nil {
		limit = finalLimit
	}
	r.update(func(p *event.Progress) {
		p.Phase = r.end
		if err != nil {
			p.Phase, p.Error, p.ExitCode = event.PhaseFailed, err.Error(), cli.Code(err)
		}
	})
	if ctx.Err() != nil || cli.Code(err) == cli.CodeUnreachable {
		limit /= 4 // somebody waits for the end, or nobody listens
	}
	perr := r.final(context.WithoutCancel(ctx), limit)
	if r.told = perr == nil; !r.told {
		r.say(fmt.Sprintf("the server was not told of the end: %v", perr))
	}
	return err
}

func (r *reporter) step(ctx context.Context, s step) error {
	start := time.Now()
	r.update(func(p *event.Progress) { p.Phase = s.name })
	err := ctx.Err()
	if err == nil {
		err = s.run(ctx)
	}
	r.update(func(p *event.Progress) {
		p.Steps = append(p.Steps, event.Step{Name: s.name, Seconds: time.Since(start).Seconds()})
	})
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		if !errors.Is(err, ctx.Err()) { // the disk may have failed too
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		return cli.WithCode(cli.CodeInterrupted, fmt.Errorf("%s: interrupted: %w", s.name, err))
	}
	return cli.WithCode(code(err), fmt.Errorf("%s: %w", s.name, err))
}

// say tells a remark for people.
func (r *reporter) say(text string) { r.update(func(p *event.Progress) { p.Message = text }) }

// warn tells what went wrong without making the run a failure.
func (r *reporter) warn(text string) {
	r.update(func(p *event.Progress) { p.Message, p.Warnings = text, append(p.Warnings, text) })
}

// code finds the exit code for an error of the layers below.
func code(err error) int {
	var (
		ioErr     *disk.IOError
		selectErr *disk.SelectError
		corrupt   *swarm.CorruptError
		stall     *swarm.StallError
		hung      *swarm.HungError
		verify    *imagefmt.VerifyError
	)
	switch {
	case cli.Code(err) != cli.CodeOther:
		return cli.Code(err)
	case errors.As(err, &ioErr), errors.As(err, &hung):
		return cli.CodeIO
	case errors.As(err, &selectErr):
		return cli.CodeDisk
	case errors.As(err, &corrupt), errors.As(err, &verify), errors.Is(err, imagefmt.ErrHash):
		return cli.CodeVerify
	case errors.As(err, &stall):
		return cli.CodeUnreachable
	}
	return cli.CodeOther
}
