package tracker

import (
	"fmt"
	"testing"
	"time"
)

// swarm makes a topology of nodes with ports that say what they carry, of an image that nobody has anything of.
func swarm(s Settings, nodes int, bytes int64, mbit int) (*Topology, []Place) {
	t, places := NewTopology(s), make([]Place, nodes)
	for i := range nodes {
		places[i] = t.Announce(epoch, Report{Node: fmt.Sprint(i), Run: "1", Addr: numbered(i), Rack: fmt.Sprint(i / 40), Left: bytes, Speed: mbit})
	}
	return t, places
}

// TestChainBound: the larger the image, and the less a hop takes, the more nodes a chain may have; the table in README.md.
func TestChainBound(t *testing.T) {
	for _, c := range []struct {
		s        Settings
		bytes    int64
		mbit     int
		from, to int
	}{
		{Settings{Pieces: 1812}, 475e6, 1000, 190, 230},
		{Settings{Pieces: 1812}, 475e6, 100, 750, 830},
		{Settings{Pieces: 9537}, 10e9, 1000, 2000, 2400},
		{Settings{Pieces: 9537}, 10e9, 10000, 300, 400},
		{Settings{Pieces: 40}, 10e6, 10000, leastChain, 110},
		{Settings{Pieces: 1812}, 475e6, 0, 453, 453}, // nobody knows his port
		{Settings{Pieces: 1812, Chain: 20}, 475e6, 1000, 20, 20},
	} {
		top, _ := swarm(c.s, 3, c.bytes, c.mbit)
		if got := top.chainBound(); got < c.from || got > c.to {
			t.Errorf("%+v: %d", c, got)
		}
	}
	// What is measured counts if it is less than what ports say.
	top, _ := swarm(Settings{Pieces: 1812}, 3, 475e6, 10000)
	for i := range 3 {
		top.Announce(epoch.Add(2*time.Second), Report{Node: fmt.Sprint(i), Run: "1", Addr: numbered(i), Rack: "0", Left: 400e6, Done: 10, Speed: 10000, Rate: 12e6})
	}
	if got := top.chainBound(); got < 750 || got > 830 {
		t.Errorf("at 12 MB/s, of ports that say 10 Gbit/s: %d", got)
	}
	for nodes, want := range map[int]shape{150: chain, 260: trunk} {
		if top, _ := swarm(Settings{Pieces: 1812}, nodes, 475e6, 1000); top.shape != want {
			t.Errorf("%d nodes: shape %d", nodes, top.shape)
		}
	}
}

// TestPace: of a small image nodes hear soon of what has changed; of a large one, or in a small swarm, in the interval.
func TestPace(t *testing.T) {
	for name, c := range map[string]struct {
		nodes       int
		bytes       int64
		mbit        int
		first, next time.Duration
	}{
		"small":        {300, 475e6, 1000, leastPace, leastPace},
		"few":          {20, 475e6, 1000, leastPace, 0},
		"large":        {300, 100e9, 1000, 0, 0},
		"unknown port": {300, 475e6, 0, 0, 0},
		"many":         {1600, 475e6, 1000, leastPace, 800 * time.Millisecond},
	} {
		top, places := swarm(Settings{Pieces: 1812}, c.nodes, c.bytes, c.mbit)
		if places[0].Again != c.first {
			t.Errorf("%s: the first answer says %v", name, places[0].Again)
		}
		next := top.Announce(epoch.Add(time.Second), Report{Node: "0", Run: "1", Addr: numbered(0), Rack: "0", Left: c.bytes, Speed: c.mbit, Done: 1})
		if next.Again != c.next {
			t.Errorf("%s: the next answer says %v", name, next.Again)
		}
	}
}

// TestHelpTime: a stalled node keeps another source for a part of a small image only.
func TestHelpTime(t *testing.T) {
	for _, c := range []struct {
		bytes int64
		mbit  int
		want  time.Duration
	}{{475e6, 1000, leastHelp}, {10e9, 1000, helpFor}, {475e6, 0, helpFor}} {
		if top, _ := swarm(Settings{Pieces: 1812}, 3, c.bytes, c.mbit); top.helpTime() != c.want {
			t.Errorf("%+v: %v", c, top.helpTime())
		}
	}
	top, _ := swarm(Settings{Pieces: 1812}, 3, 475e6, 1000)
	report := func(done int, stalled bool) Report {
		return Report{Node: "2", Run: "1", Addr: numbered(2), Rack: "0", Left: 400e6, Speed: 1000, Done: done, Stalled: stalled}
	}
	top.Announce(epoch.Add(time.Second), Report{Node: "1", Run: "1", Addr: numbered(1), Rack: "0", Left: 200e6, Speed: 1000, Done: 900})
	if p := top.Announce(epoch.Add(time.Second), report(100, true)); !p.Help {
		t.Errorf("no help: %+v", p)
	}
	if p := top.Announce(epoch.Add(time.Second+leastHelp), report(200, false)); p.Help {
		t.Errorf("help after %v: %+v", leastHelp, p)
	}
}
