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
	gaugePieces = 16 // the newest pieces whose rates count
	leastPieces = 3  // fewer tell nothing
	leastSpan   = 4  // chunks of a piece; in fewer there is no time to measure
	// firstGauge is after how many pieces the tracker should hear of a rate for the first time.
	firstGauge = 8
	// The silence after which a node asks for help: so many times what a piece takes, within these bounds.
	stallPieces = 12
	stallLeast  = 600 * time.Millisecond
)

// gauge measures how fast pieces come while they come. However seldom a node's upstream has
// something new, a whole piece then comes as fast as the two ports allow: so a slow port or disk is
// known by it also behind another slow one.
type gauge struct {
	mu    sync.Mutex
	open  map[int]span
	rates []float64 // of the newest pieces since the last announce, bytes per second
	took  time.Duration
	count int
}

// span is a piece under way.
type span struct {
	first, last time.Time
	bytes       int64 // after the first chunk
	chunks      int
}

// chunk notes a chunk that came.
func (g *gauge) chunk(now time.Time, piece int, n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == nil {
		g.open = make(map[int]span)
	}
	s, ok := g.open[piece]
	if !ok {
		s.first = now
	} else {
		s.bytes += n
	}
	s.last = now
	s.chunks++
	g.open[piece] = s
}

// piece notes that a piece is whole. It says whether there are enough of them for the first time.
func (g *gauge) piece(piece int) (enough bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s, ok := g.open[piece]
	delete(g.open, piece)
	d := s.last.Sub(s.first)
	if !ok || s.chunks < leastSpan || d <= 0 {
		return false
	}
	if len(g.rates) == gaugePieces {
		g.rates = g.rates[1:]
	}
	g.rates = append(g.rates, float64(s.bytes)/d.Seconds())
	g.took = d
	g.count++
	return g.count == firstGauge
}

// read returns the median rate since the last call in bytes per second, 0 if too few pieces came.
func (g *gauge) read() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.rates) < leastPieces {
		return 0
	}
	slices.Sort(g.rates)
	r := g.rates[len(g.rates)/2]
	g.rates = g.rates[:0]
	return int64(r)
}

// patience is how much silence is no stall yet.
func (g *gauge) patience() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.count == 0 {
		return stallAfter
	}
	return min(max(stallLeast, stallPieces*g.took), stallAfter)
}

// fed says whether a whole piece has come.
func (g *gauge) fed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.count > 0
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
