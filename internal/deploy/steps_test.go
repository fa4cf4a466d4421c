package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"swarmboot/internal/cli"
	"swarmboot/internal/disk"
	"swarmboot/internal/event"
)

// What else went wrong in a step that was interrupted is told, with the exit code of an interruption.
func TestInterruptedStep(t *testing.T) {
	failed := &disk.IOError{Device: "/dev/sda", Op: "write", Off: 512, Err: io.ErrShortWrite}
	for want, err := range map[string]error{
		"sync: interrupted: context canceled":                                             context.Canceled,
		"sync: interrupted: wait: context canceled":                                       fmt.Errorf("wait: %w", context.Canceled),
		"sync: interrupted: context canceled: /dev/sda: write at offset 512: short write": failed,
	} {
		ctx, cancel := context.WithCancel(t.Context())
		r := newReporter(event.Progress{}, nil, nil)
		got := r.step(ctx, step{name: event.PhaseSync, run: func(context.Context) error { cancel(); return err }})
		if got == nil || got.Error() != want || cli.Code(got) != cli.CodeInterrupted || !errors.Is(got, err) || !errors.Is(got, context.Canceled) {
			t.Errorf("%v (code %d), want %s", got, cli.Code(got), want)
		}
	}
}
