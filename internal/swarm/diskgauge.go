package swarm

import (
	"sync"
	"time"
)

// The least that a rate of the disk is made of: one or the other.
const (
	leastWritten = 1 << 20
	leastWriting = 500 * time.Millisecond
)

// diskGauge measures how fast the target takes what is written to it. Only the time counts in which something is being written, so that
// a disk which has little to do tells of itself too.
type diskGauge struct {
	mu    sync.Mutex
	calls int       // under way
	since time.Time // not counted yet, while there are some
	busy  time.Duration
	bytes int64
	rate  int64
}

func (g *diskGauge) begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count()
	g.calls++
}

func (g *diskGauge) end(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count()
	g.calls--
	g.bytes += int64(n)
}

func (g *diskGauge) count() {
	now := time.Now()
	if g.calls > 0 {
		g.busy += now.Sub(g.since)
	}
	g.since = now
}

// read returns the rate since the last call in bytes per second, the one before it if little was written since, 0 while unknown. It is
// 1 of a disk that takes nothing.
func (g *diskGauge) read() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count()
	if g.busy > 0 && (g.bytes >= leastWritten || g.busy >= leastWriting) {
		g.rate = max(1, int64(float64(g.bytes)/g.busy.Seconds()))
		g.bytes, g.busy = 0, 0
	}
	return g.rate
}
