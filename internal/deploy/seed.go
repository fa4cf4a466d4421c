package deploy

import (
	"context"
	"fmt"
	"time"

	"swarmboot/internal/swarm"
)

// feeder is what other nodes take pieces from.
type feeder interface {
	Feeding() bool // a connected peer lacks pieces
	Stats() swarm.Stats
}

func (e *engine) seed(ctx context.Context) error { return e.serve(ctx, e.session) }

// serve serves other nodes until the server says that none depends on this one, at most for the time given. The
// server is asked in an interval, and at once when the last unfinished peer has what it came for. Without a server the
// node goes when it is of no use to those that it is connected to.
func (e *engine) serve(ctx context.Context, s feeder) error {
	e.rep.setInterval(seedEvery)
	defer e.rep.setInterval(reportEvery)
	limit := time.NewTimer(e.o.Seed)
	defer limit.Stop()
	check := time.NewTicker(feedEvery)
	defer check.Stop()
	ask := askAgain
	taken, at := int64(0), time.Now()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-e.rep.leave:
			return nil
		case <-limit.C:
			e.rep.say(fmt.Sprintf("seeding time of %s is over", e.o.Seed))
			return nil
		case <-check.C:
			feeding := s.Feeding()
			if n := s.Stats().Uploaded; n != taken {
				taken, at = n, time.Now()
			}
			if silent := e.rep.silent(); silent > silenceLimit && (!feeding || min(silent, time.Since(at)) > idleLimit) {
				e.rep.say(fmt.Sprintf("the server has been silent for %s and no node fetches from this one: seeding ends", silent.Round(time.Second)))
				return nil
			}
			if feeding {
				ask = askAgain
			} else if ask > 0 {
				ask-- // the peer's own word to the tracker may be later than ours
				e.rep.poke()
			}
		}
	}
}
