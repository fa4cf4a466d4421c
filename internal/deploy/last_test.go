package deploy

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"swarmboot/internal/cli"
	"swarmboot/internal/event"
	"swarmboot/internal/swarm"
)

// A server that is away when a run ends well, for half a minute, still hears of it: else it would deploy the node again at its
// next boot from the network. A failed run does not keep people waiting for so long.
func TestTheServerHearsOfTheEnd(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		heard event.Phase
	}{
		"done":   {nil, event.PhaseDone},
		"failed": {errors.New("disk on fire"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var heard event.Phase
				post := func(_ context.Context, p event.Progress) (event.Reply, error) {
					if time.Since(start) < 30*time.Second {
						return event.Reply{}, errors.New("connection refused")
					}
					heard = p.Phase
					return event.Reply{}, nil
				}
				r := newReporter(event.Progress{}, post, nil)
				err := r.follow(t.Context(), []step{{name: event.PhaseSync, run: func(context.Context) error { return c.err }}}, func() {})
				if (err == nil) != (c.err == nil) {
					t.Errorf("error %v", err)
				}
				if heard != c.heard {
					t.Errorf("the server heard %q, want %q", heard, c.heard)
				}
			})
		})
	}
}

// A disk that answers no more keeps undo waiting: the server hears before what is wrong, and in the end that it was input or output.
func TestHungDiskIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard string
		post := func(_ context.Context, p event.Progress) (event.Reply, error) {
			heard = p.Message
			return event.Reply{}, nil
		}
		r := newReporter(event.Progress{}, post, nil)
		fail := step{name: event.PhaseFetch, run: func(context.Context) error { return &swarm.HungError{For: time.Minute} }}
		err := r.follow(t.Context(), []step{fail}, func() {
			time.Sleep(time.Hour)
			synctest.Wait()
			if !strings.Contains(heard, "the disk does not answer") {
				t.Errorf("while undo waits the server has heard %q", heard)
			}
		})
		if cli.Code(err) != cli.CodeIO {
			t.Errorf("%v, code %d", err, cli.Code(err))
		}
	})
}
