package deploy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"swarmboot/internal/event"
	"swarmboot/internal/hooks"
	"swarmboot/internal/params"
	"swarmboot/internal/target"
)

// maxHookBytes is how many bytes the programs that hooks give by URL may have together: they are held in memory from before
// the first write on.
const maxHookBytes = 32 << 20

// hookStep is the step in which the hooks of a point run.
func (e *engine) hookStep(name event.Phase, at params.HookPoint) step {
	return step{
		name: name,
		run:  func(ctx context.Context) error { return e.runHooks(ctx, name, at) },
		when: func() bool { return e.profile != nil && len(e.profile.HooksAt(at)) > 0 },
	}
}

// prepareHooks gets all programs, and refuses what cannot be run, before anything is done.
func (e *engine) prepareHooks(ctx context.Context, p *params.Profile) error {
	if len(p.Hooks) == 0 {
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("hooks are run by root only")
	}
	if len(p.HooksAt(params.HookAfterWrite))+len(p.HooksAt(params.HookBeforeKexec)) > 0 {
		if err := target.CheckRoot(ctx, e.m); err != nil {
			return err
		}
	}
	e.programs = map[string][]byte{}
	left := int64(maxHookBytes)
	for _, h := range p.Hooks {
		if h.Content != nil {
			e.programs[h.Name] = []byte(*h.Content)
			continue
		}
		b, err := e.download(ctx, h.URL, h.SHA256, left)
		if err != nil {
			return fmt.Errorf("hook %s: %w", h.Name, err)
		}
		left -= int64(len(b))
		e.programs[h.Name] = b
	}
	return nil
}

func (e *engine) runHooks(ctx context.Context, phase event.Phase, at params.HookPoint) error {
	env := []string{"SWARMBOOT_HOOK=" + string(at), "SWARMBOOT_SERVER=" + e.o.Server, "SWARMBOOT_IMAGE=" + e.o.Image,
		"SWARMBOOT_NODE=" + e.o.Node}
	all := func() error {
		for _, h := range e.profile.HooksAt(at) {
			if err := e.runHook(ctx, phase, h, env); err != nil {
				return err
			}
		}
		return nil
	}
	if at == params.HookBeforeDisks {
		return all()
	}
	return e.inRoot(ctx, func(dir, device string) error {
		// Hooks may call what is in the target: this mount alone is made one of programs and devices.
		if err := unix.Mount("none", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOATIME, ""); err != nil {
			return fmt.Errorf("mount the target for hooks: %w", err)
		}
		env = append(env, "SWARMBOOT_DISK="+e.rep.snapshot().Disk, "SWARMBOOT_ROOT="+device, "SWARMBOOT_TARGET="+dir)
		return all()
	})
}

// runHook runs one hook, tells what it says, and notes what became of it.
func (e *engine) runHook(ctx context.Context, phase event.Phase, h params.Hook, env []string) error {
	last := ""
	res, err := hooks.Run(ctx, hooks.Program{Name: h.Name, Body: e.programs[h.Name], Env: env, Timeout: h.Limit()}, func(line string) {
		last = line
		e.rep.say("hook " + h.Name + ": " + line)
	})
	done := event.Hook{Name: h.Name, Point: phase, Seconds: res.Elapsed.Seconds(), Output: res.Output}
	if err != nil {
		done.Error = err.Error()
	}
	e.rep.update(func(p *event.Progress) { p.Hooks = append(p.Hooks, done) })
	if err == nil {
		return nil
	}
	err = fmt.Errorf("hook %s: %w", h.Name, err)
	if last != "" {
		err = fmt.Errorf("%w (it said: %s)", err, strings.TrimSpace(last))
	}
	if h.OnFailure == params.HookIgnore && ctx.Err() == nil {
		e.rep.warn(err.Error())
		return nil
	}
	return err
}
