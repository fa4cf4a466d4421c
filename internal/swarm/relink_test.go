package swarm

import (
	"testing"
	"time"

	"swarmboot/imagefmt"
)

// BenchmarkRelink measures how long a node is without an upstream: from the end of the one before it in the chain to the first bytes
// from the seeder. closed: the upstream's kernel ends its connections, as when a program dies or a machine reboots in good
// order. silent: nothing ends and nothing comes, as when a machine loses power.
func BenchmarkRelink(b *testing.B) {
	b.Run("closed", func(b *testing.B) {
		benchRelink(b, func(up *Session) func() {
			go up.Close() //nolint:errcheck // what the others see of it is measured
			return func() {}
		})
	})
	b.Run("silent", func(b *testing.B) {
		// With it no chunk is read or written, nor the tracker told anything.
		benchRelink(b, func(up *Session) func() {
			up.store.mu.Lock()
			return up.store.mu.Unlock
		})
	})
}

func benchRelink(b *testing.B, end func(up *Session) (clean func())) {
	im := makeImage(b, 32<<20, 256<<10, imagefmt.Verbatim)
	var total, most time.Duration
	runs := 0
	for b.Loop() {
		r := newRig(b, im, SeederOptions{UploadRate: 4 << 20})
		up := r.join(1, im.blank(), nil)
		waitPieces(b, up, 1)
		s := r.join(2, im.blank(), nil)
		// Enough for a rate that the tracker knows, and that its silence is measured by.
		for deadline := time.Now().Add(time.Minute); s.fromNodes.Load() < 12<<20; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				b.Fatalf("the second node does not take from the first: %+v", s.Stats())
			}
		}
		before, start := s.fromServer.Load(), time.Now()
		clean := end(up)
		for s.fromServer.Load() == before && time.Since(start) < time.Minute {
			time.Sleep(time.Millisecond)
		}
		took := time.Since(start)
		clean()
		total, most, runs = total+took, max(most, took), runs+1
		s.Close()
		up.Close()
		r.seeder.Close()
		r.stopTracker()
	}
	b.ReportMetric(total.Seconds()/float64(runs), "s/relink")
	b.ReportMetric(most.Seconds(), "s-longest")
}
