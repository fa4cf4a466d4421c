package swarm

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestDiskGauge: only the time counts in which something is written, once for writes at the same time; what is little is told later.
func TestDiskGauge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g diskGauge
		write := func(d time.Duration, n int) {
			g.begin()
			time.Sleep(d)
			g.end(n)
		}
		want := func(what string, rate int64) {
			t.Helper()
			if got := g.read(); got != rate {
				t.Errorf("%s: %d bytes per second, want %d", what, got, rate)
			}
		}
		want("nothing was written", 0)
		write(100*time.Millisecond, 1<<19)
		want("little was written", 0)
		time.Sleep(time.Hour)
		write(100*time.Millisecond, 1<<19)
		want("after an idle hour", 5<<20)
		g.begin()
		write(250*time.Millisecond, 1<<20)
		time.Sleep(250 * time.Millisecond)
		g.end(1 << 20)
		want("two at once", 4<<20)
		g.begin()
		time.Sleep(leastWriting / 2)
		want("one that hangs, not for long", 4<<20)
		time.Sleep(leastWriting)
		want("one that hangs", 1)
		time.Sleep(leastWriting)
		g.end(1 << 20)
		want("it has ended", 2<<20)
	})
}
