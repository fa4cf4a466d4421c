package deploy

import (
	"context"
	"slices"
	"sync"
	"time"

	"swarmboot/internal/event"
	"swarmboot/internal/pause"
	"swarmboot/internal/spread"
)

const (
	reportEvery = time.Second            // while working
	seedEvery   = 500 * time.Millisecond // while seeding: the answer says when to leave
	rateWindow  = 5 * time.Second
)

// poster sends a report to the server.
type poster func(context.Context, event.Progress) (event.Reply, error)

// reporter holds the node's state as one event.Progress and tells it: at every change to the local
// listener, at every change and every second to the server. The work never waits for the server, and a
// server that is away for a while just misses some reports.
type reporter struct {
	post  poster // nil: no server
	local func(event.Progress)
	start time.Time
	end   event.Phase // of a run that went well
	told  bool        // the server got the last report
	wake  chan struct{}
	leave chan struct{}       // closed when the server lets a seeding node go
	where func() event.Switch // nil: not known

	mu      sync.Mutex
	p       event.Progress
	every   time.Duration
	stats   func(*event.Progress) // fills in the counters, nil before the fetch
	arrays  func() []string       // how far they are brought in line, nil when there are none
	samples []sample
	left    bool
	heard   time.Time // the server's last answer
}

type sample struct {
	at   time.Time
	done int64
}

func newReporter(p event.Progress, post poster, local func(event.Progress)) *reporter {
	now := time.Now()
	if local == nil {
		local = func(event.Progress) {}
	}
	return &reporter{post: post, local: local, start: now, heard: now, end: event.PhaseDone, p: p, every: reportEvery,
		wake: make(chan struct{}, 1), leave: make(chan struct{})}
}

// update changes the state and tells it.
func (r *reporter) update(f func(*event.Progress)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.p)
	r.tell()
	r.poke()
}

// poke has the state sent to the server now.
func (r *reporter) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// tell refreshes counters and rate and calls the local listener; r.mu is held, so its calls come in order.
func (r *reporter) tell() {
	now := time.Now()
	if r.stats != nil {
		r.stats(&r.p)
	}
	if r.arrays != nil {
		r.p.Arrays = r.arrays()
	}
	r.samples = append(r.samples, sample{now, r.p.BytesDone})
	for len(r.samples) > 2 && now.Sub(r.samples[0].at) > rateWindow {
		r.samples = r.samples[1:]
	}
	r.p.Rate = 0
	if first := r.samples[0]; now.Sub(first.at) > 0 && r.p.BytesDone > first.done {
		r.p.Rate = int64(float64(r.p.BytesDone-first.done) / now.Sub(first.at).Seconds())
	}
	r.p.Time = now.UTC()
	r.p.Seconds = now.Sub(r.start).Seconds()
	r.local(r.copy())
}

// copy is the state for others; r.mu is held.
func (r *reporter) copy() event.Progress {
	if r.where != nil {
		r.p.Switch = r.where()
	}
	p := r.p
	p.Steps, p.Hooks = slices.Clone(p.Steps), slices.Clone(p.Hooks)
	return p
}

func (r *reporter) setStats(f func(*event.Progress)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats = f
	r.samples = nil
}

func (r *reporter) setArrays(f func() []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.arrays = f
}

func (r *reporter) setInterval(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.every = d
}

func (r *reporter) interval() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.every
}

func (r *reporter) snapshot() event.Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.copy()
}

// silent is how long the server has not answered.
func (r *reporter) silent() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.heard)
}

// run tells the state once in an interval until ctx ends.
func (r *reporter) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	if r.post != nil {
		wg.Go(func() { r.postLoop(ctx) })
	}
	for {
		if pause.For(ctx, r.interval()) != nil {
			return
		}
		r.mu.Lock()
		if r.stats != nil || r.arrays != nil {
			r.tell()
		}
		r.mu.Unlock()
	}
}

// postLoop sends the newest state after every change, at least once in an interval.
func (r *reporter) postLoop(ctx context.Context) {
	for ctx.Err() == nil {
		p := r.snapshot()
		// A report under way is not cut off: the server could still take it in after the final one.
		if reply, err := r.post(context.WithoutCancel(ctx), p); err == nil {
			r.answered(p.Phase, reply)
		}
		t := time.NewTimer(spread.Around(r.interval(), 10))
		select {
		case <-ctx.Done():
		case <-r.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// answered notes an answer. Leave counts only as the answer to a report of PhaseSeed: an earlier one may
// be about another run.
func (r *reporter) answered(sent event.Phase, reply event.Reply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = time.Now()
	if reply.Leave && sent == event.PhaseSeed && !r.left {
		r.left = true
		close(r.leave)
	}
}

// final sends the last report, with attempts for at most limit; the error of the last attempt is returned.
func (r *reporter) final(ctx context.Context, limit time.Duration) error {
	if r.post == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for wait := seedEvery; ; wait = min(2*wait, maxBackoff) {
		_, err := r.post(ctx, r.snapshot())
		if err == nil {
			return nil
		}
		if pause.For(ctx, spread.Around(wait, 2)) != nil {
			return err
		}
	}
}
