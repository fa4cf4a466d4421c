package deploy

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"swarmboot/internal/event"
	"swarmboot/internal/swarm"
)

// follower takes a byte a second until it has what it lacks, and lacks it still if it is cut off before.
type follower struct {
	start        time.Time
	takes, lacks time.Duration
}

func (f follower) Feeding() bool { return time.Since(f.start) < f.lacks }

func (f follower) Stats() swarm.Stats {
	return swarm.Stats{Uploaded: int64(min(time.Since(f.start), f.takes) / time.Second)}
}

// TestSeedEnds: a node that is done goes when its time is over, and, without a server, soon when nobody lacks pieces, later when
// somebody does but takes none, and not before the last one has what it takes.
func TestSeedEnds(t *testing.T) {
	for name, c := range map[string]struct {
		answers      time.Duration // so long
		seed         time.Duration
		takes, lacks time.Duration
		after        time.Duration
		text         string
	}{
		"time over":                     {time.Hour, 50 * time.Second, time.Hour, time.Hour, 50 * time.Second, "is over"},
		"no server, nobody fetches":     {0, time.Hour, 0, 0, silenceLimit, "silent"},
		"no server, one fetches":        {0, time.Hour, 3 * time.Minute, 3 * time.Minute, 3 * time.Minute, "silent"},
		"no server, one takes nothing":  {0, time.Hour, 0, time.Hour, idleLimit, "silent"},
		"no server, one stops to take":  {0, time.Hour, 2 * time.Minute, time.Hour, 2*time.Minute + idleLimit, "silent"},
		"the server goes, one fetches":  {time.Minute, time.Hour, 65 * time.Second, 65 * time.Second, time.Minute + silenceLimit, "silent"},
		"idle while the server answers": {5 * time.Minute, time.Hour, 0, time.Hour, 5*time.Minute + idleLimit, "silent"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				post := func(context.Context, event.Progress) (event.Reply, error) {
					if time.Since(start) > c.answers {
						return event.Reply{}, errors.New("connection refused")
					}
					return event.Reply{}, nil
				}
				r := newReporter(event.Progress{Phase: event.PhaseSeed}, post, nil)
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() { r.run(ctx); close(ended) }()
				e := &engine{o: Options{Seed: c.seed}, rep: r}
				if err := e.serve(ctx, follower{start, c.takes, c.lacks}); err != nil {
					t.Error(err)
				}
				if after := time.Since(start); after < c.after-time.Second || after > c.after+time.Second {
					t.Errorf("it went after %v, want %v", after, c.after)
				}
				if msg := r.snapshot().Message; !strings.Contains(msg, c.text) {
					t.Errorf("said %q", msg)
				}
				stop()
				<-ended
			})
		})
	}
}

// TestOneWaitForTheServer: a node that has waited for a silent server while seeding waits that much less at the end.
func TestOneWaitForTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := newReporter(event.Progress{}, func(context.Context, event.Progress) (event.Reply, error) {
			return event.Reply{}, errors.New("connection refused")
		}, nil)
		e := &engine{o: Options{Seed: time.Hour}, rep: r}
		seed := step{name: event.PhaseSeed, run: func(ctx context.Context) error { return e.serve(ctx, follower{}) }}
		if err := r.follow(t.Context(), []step{seed}, func() {}); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d < doneLimit-maxBackoff || d > doneLimit+time.Second {
			t.Errorf("it went after %v, want %v", d, doneLimit)
		}
	})
}
