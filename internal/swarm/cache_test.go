package swarm

import (
	"testing"

	"swarmboot/imagefmt"
)

func TestCacheSize(t *testing.T) {
	for available, want := range map[int64]int64{0: 8 << 20, 100 << 20: 8 << 20, 256 << 20: 16 << 20, 512 << 20: 32 << 20, 64 << 30: 32 << 20} {
		if got := cacheSize(available); got != want {
			t.Errorf("%d bytes available: cache of %d, want %d", available, got, want)
		}
	}
	if availableMemory() <= 0 {
		t.Error("the machine's memory is unknown")
	}
}

// TestLateJoiner: a node that comes when everything has left the others' caches is served by re-encoding alone.
func TestLateJoiner(t *testing.T) {
	t.Parallel()
	im := makeImage(t, 24<<20, 256<<10, imagefmt.Packed)
	r := newRig(t, im, SeederOptions{})
	first := r.join(1, im.blank(), nil)
	mustWait(t, first)
	first.dropCache()
	r.seeder.Remove(im.meta.InfoHash)
	r.tracker.SetSeeder(0)
	target := im.blank()
	s := r.join(2, target, nil)
	mustWait(t, s)
	im.check(t, target)
	if st := s.Stats(); st.FromNodes != im.manifest.PayloadLength {
		t.Errorf("stats: %+v", st)
	}
}

// BenchmarkReencode makes packed pieces again from the target, checked, as for late joiners. MB/s are of payload
// bytes, which is what a link carries.
func BenchmarkReencode(b *testing.B) {
	im := makeImage(b, 64<<20, 256<<10, imagefmt.Packed)
	r := newRig(b, im, SeederOptions{})
	s := r.join(1, im.blank(), nil)
	mustWait(b, s)
	s.dropCache()
	data := int64(im.manifest.IndexPieces()) * im.manifest.PieceLength
	buf := make([]byte, im.manifest.PieceLength)
	b.SetBytes(im.manifest.PieceLength)
	before := cpuSeconds()
	off := data
	for b.Loop() {
		if off+int64(len(buf)) > im.manifest.PayloadLength {
			off = data
		}
		if _, err := s.store.ReadAt(buf, off); err != nil {
			b.Fatal(err)
		}
		off += int64(len(buf))
	}
	b.ReportMetric(float64(b.N)*float64(len(buf))/1e6/(cpuSeconds()-before), "MB/cpu-s")
}
