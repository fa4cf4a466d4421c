package tracker

import "testing"

// TestResume: pieces that a node finds on its disk are no rate of the swarm, and those that it overtakes by them are not slow.
func TestResume(t *testing.T) {
	const pieceSize = 1e6 // as line has it
	l := newLine(t, Settings{})
	tell := func(i, done, received int) {
		r := l.report(i)
		r.Done, r.Rate = done, 0
		r.Left, r.Received = int64(4000-done)*pieceSize, int64(received)*pieceSize
		l.top.Announce(l.now, r)
	}
	tell(0, 0, 0)
	for i := range 8 {
		l.round(0)
		for j := range 6 {
			tell(j, max(0, l.done-12*j), max(0, l.done-12*j)+1)
		}
		tell(6, min(900*i, 3900), 20+60*i)
	}
	l.slow()
	if l.top.good > 95 {
		t.Errorf("%.0f pieces a second in the swarm, nobody fetched more than 90", l.top.good)
	}
	if n := l.top.nodes["n6"]; n.fetchRate < 55 || n.fetchRate > 65 || n.pos > 5 {
		t.Errorf("the node fetches %.0f pieces a second, is at %d", n.fetchRate, n.pos)
	}
}
