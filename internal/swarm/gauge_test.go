package swarm

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// feed gives the gauge a piece of n chunks of 16 KiB, one every d, and returns the time after it.
func feed(g *gauge, now time.Time, piece, n int, d time.Duration) (time.Time, bool) {
	for range n {
		g.chunk(now, piece, 16<<10)
		now = now.Add(d)
	}
	return now, g.piece(piece)
}

// TestGauge: the pauses between pieces do not count, and one odd piece does not either.
func TestGauge(t *testing.T) {
	var g gauge
	now := time.Unix(1e9, 0)
	if g.fed() || g.patience() != stallAfter || g.read() != 0 {
		t.Error("a gauge that has seen nothing tells something")
	}
	first := 0
	for i := range 2 * firstGauge {
		var enough bool
		now, enough = feed(&g, now, i, 16, time.Millisecond)
		if enough {
			first++
		}
		now = now.Add(time.Second)
	}
	feed(&g, now, 99, 16, time.Second)
	if got := g.read(); got != 16<<20/1024*1000 {
		t.Errorf("%d bytes per second, want one chunk each millisecond", got)
	}
	if first != 1 || !g.fed() {
		t.Errorf("enough pieces %d times, fed %v", first, g.fed())
	}
	if g.read() != 0 {
		t.Error("the same pieces are told twice")
	}
}

// TestGaugeShortPieces: a piece of few chunks has no time to measure, nor one that came at once.
func TestGaugeShortPieces(t *testing.T) {
	var g gauge
	now := time.Unix(1e9, 0)
	for i := range 10 {
		now, _ = feed(&g, now, i, leastSpan-1, time.Millisecond)
		now, _ = feed(&g, now, 100+i, 16, 0)
		g.piece(1000 + i) // of which no chunk was seen
	}
	if got := g.read(); got != 0 {
		t.Errorf("%d bytes per second", got)
	}
	if len(g.open) != 0 {
		t.Errorf("%d pieces are still open", len(g.open))
	}
}

// TestPatience: large pieces on slow ports come in bursts further apart.
func TestPatience(t *testing.T) {
	for _, c := range []struct{ chunk, want time.Duration }{
		{time.Millisecond, stallLeast},
		{10 * time.Millisecond, stallPieces * 150 * time.Millisecond},
		{time.Second, stallAfter},
	} {
		var g gauge
		feed(&g, time.Unix(1e9, 0), 0, 16, c.chunk)
		if got := g.patience(); got != c.want {
			t.Errorf("a chunk each %v: patience is %v, want %v", c.chunk, got, c.want)
		}
	}
}

func TestSpeedOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "speed")
	for text, want := range map[string]int{"1000\n": 1000, "-1\n": 0, "": 0, "fast": 0} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := speedOf(path); got != want {
			t.Errorf("%q: %d Mbit/s, want %d", text, got, want)
		}
	}
	if got := speedOf(path + "x"); got != 0 {
		t.Errorf("no file: %d Mbit/s", got)
	}
	// The loopback interface has no speed, and no name resolves to an interface here.
	for _, u := range []string{"http://127.0.0.1:1/announce", "http://192.0.2.1:1/"} {
		parsed, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		if got := portSpeed(parsed); got < 0 {
			t.Errorf("%s: %d Mbit/s", u, got)
		}
	}
}
