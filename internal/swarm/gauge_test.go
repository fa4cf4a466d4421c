package swarm

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// feed gives the gauge n chunks of 16 KiB, one every d, and returns the time after them.
func feed(g *gauge, now time.Time, n int, d time.Duration) (_ time.Time, enough bool) {
	for range n {
		now = now.Add(d)
		enough = g.chunk(now, 16<<10) || enough
	}
	return now, enough
}

// TestGauge: pauses between pieces do not count, and what was told is not told again.
func TestGauge(t *testing.T) {
	g := gauge{pieceLength: 256 << 10}
	now := time.Unix(1e9, 0)
	if g.fed() || g.patience() != stallAfter || g.read() != 0 {
		t.Error("a gauge that has seen nothing tells something")
	}
	first := 0
	for range 32 {
		var enough bool
		now, enough = feed(&g, now.Add(63*time.Millisecond), 16, time.Millisecond)
		first += map[bool]int{true: 1}[enough]
	}
	if got := g.read(); got != 16<<10*1000 {
		t.Errorf("%d bytes per second, want one chunk each millisecond", got)
	}
	if first != 1 || !g.fed() {
		t.Errorf("enough chunks %d times, fed %v", first, g.fed())
	}
	if g.read() != 0 {
		t.Error("the same chunks are told twice")
	}
	feed(&g, now, gaugeChunks*(leastRuns-1), time.Millisecond)
	if got := g.read(); got != 0 {
		t.Errorf("a few chunks are %d bytes per second", got)
	}
	feed(&g, now, 10*gaugeChunks*gaugeRuns, 0)
	if len(g.rates) > gaugeRuns {
		t.Errorf("%d runs are kept", len(g.rates))
	}
}

// TestPatience: large pieces on slow ports come in bursts further apart.
func TestPatience(t *testing.T) {
	for _, c := range []struct{ chunk, want time.Duration }{
		{time.Millisecond, stallLeast},
		{10 * time.Millisecond, stallPieces * 16 * 10 * time.Millisecond},
		{time.Second, stallAfter},
	} {
		g := gauge{pieceLength: 256 << 10}
		feed(&g, time.Unix(1e9, 0), 100, c.chunk)
		g.read()
		if got := g.patience(); (got - c.want).Abs() > time.Millisecond {
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

// TestGaugeMessages: a large chunk counts like the small ones that it is made of.
func TestGaugeMessages(t *testing.T) {
	g := gauge{pieceLength: 256 << 10}
	first := 0
	for i := range 20 {
		if g.message(240<<10, 20*time.Millisecond) {
			first = i + 1
		}
	}
	if first != firstGauge/4 {
		t.Errorf("enough after %d messages", first)
	}
	if got := g.read(); got != 240<<10*50 {
		t.Errorf("%d bytes per second", got)
	}
	if g.message(1<<20, 0); g.read() != 0 {
		t.Error("what took no time has a rate")
	}
}
