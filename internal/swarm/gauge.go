package swarm

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// gaugeChunks is how many chunks one after another are measured together, whatever pieces they are of. At least three of
	// four such runs lie within a piece of 16 chunks, so that the median leaves out the pauses between pieces.
	gaugeChunks = 4
	gaugeRuns   = 256 // the newest ones count
	leastRuns   = 12  // fewer tell nothing
	// firstGauge is after how many runs the tracker should hear of a rate for the first time.
	firstGauge = 32
	// The silence after which a node asks for help: so many times what a piece takes, within these bounds.
	stallPieces = 12
	stallLeast  = 750 * time.Millisecond
)

// gauge measures how fast chunks come while they come. However seldom a node's upstream has
// something new, a whole piece then comes as fast as the two ports allow: so a slow port or disk is
// known by it also behind another slow one.
type gauge struct {
	pieceLength int64

	mu    sync.Mutex
	began time.Time // of the run under way: when the chunk before it came
	bytes int64
	have  int
	rates []float64 // of the newest runs since the last announce, bytes per second
	count int
	usual float64 // the last median
}

// chunk notes a chunk that came. It says whether there are enough of them for the first time.
func (g *gauge) chunk(now time.Time, n int64) (enough bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.began.IsZero() {
		g.began = now
		return false
	}
	g.bytes += n
	if g.have++; g.have < gaugeChunks {
		return false
	}
	n, d := g.bytes, now.Sub(g.began)
	g.began, g.bytes, g.have = now, 0, 0
	return g.run(n, d)
}

// message notes n bytes of a large chunk, without its beginning, that took d. It counts for as many runs as they would be.
func (g *gauge) message(n int64, d time.Duration) (enough bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for range max(1, (n+smallChunk*gaugeChunks/2)/(smallChunk*gaugeChunks)) {
		enough = g.run(n, d) || enough
	}
	return enough
}

func (g *gauge) run(n int64, d time.Duration) (enough bool) {
	if n <= 0 || d <= 0 {
		return false
	}
	if len(g.rates) == gaugeRuns {
		g.rates = g.rates[1:]
	}
	g.rates = append(g.rates, float64(n)/d.Seconds())
	g.count++
	return g.count == firstGauge
}

// read returns the median rate since the last call in bytes per second, 0 if too few chunks came.
func (g *gauge) read() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.rates) < leastRuns {
		return 0
	}
	slices.Sort(g.rates)
	g.usual = g.rates[len(g.rates)/2]
	g.rates = g.rates[:0]
	return int64(g.usual)
}

// patience is how much silence is no stall yet.
func (g *gauge) patience() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.usual == 0 {
		return stallAfter
	}
	d := time.Duration(stallPieces * float64(g.pieceLength) / g.usual * float64(time.Second))
	return min(max(stallLeast, d), stallAfter)
}

// fed says whether chunks have come for a while.
func (g *gauge) fed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.usual > 0
}

// portSpeed is what the kernel says of the speed of the port that the announce URL is reached by, in
// Mbit/s; 0 if it does not know.
func portSpeed(announce *url.URL) int {
	// No packet is sent for it.
	c, err := net.Dial("udp", net.JoinHostPort(announce.Hostname(), "9"))
	if err != nil {
		return 0
	}
	defer c.Close()
	local, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		return 0
	}
	ifaces, err := net.Interfaces()
	if err != nil {
		return 0
	}
	for _, i := range ifaces {
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.Equal(local.IP) {
				return speedOf(filepath.Join("/sys/class/net", i.Name, "speed"))
			}
		}
	}
	return 0
}

// speedOf reads a speed file of sysfs: Mbit/s, or -1 or an error where nobody knows (a virtual port, no link).
func speedOf(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || n < 0 {
		return 0
	}
	return n
}
