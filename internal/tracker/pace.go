package tracker

import (
	"math"
	"time"
)

// What README.md calls the cost model: times that a port takes for the image, a hop, and trouble with nodes that die or are slow.
const (
	wire      = 1.05 // bytes on the wire ÷ bytes of pieces
	hopPieces = 1.2  // piece-times from a byte's arrival until the next node can have it
	hopFixed  = 0.004
	// chainTrouble is what each node of a chain costs all behind it, in the mean, if 2 % die and 5 % are slow; trunkTrouble is
	// what all of them cost those of a trunk. Seconds.
	chainTrouble = 0.025
	trunkTrouble = 3

	// An image that is there in paceShare intervals needs shorter ones: slow and dead nodes are found by reports, and a node hears
	// of another shape, or of another upstream, when it announces. Up to leastChain nodes only the first one comes sooner.
	leastPace    = 500 * time.Millisecond
	paceShare    = 16
	paceRequests = 2000 // a second
)

// chainBound is up to how many nodes a chain is better than a trunk: the last of n in a chain is done after the image's time
// and n hops, of a trunk after twice the image's time.
func (t *Topology) chainBound() int {
	image := t.imageTime().Seconds()
	if t.chainSet || image == 0 || t.o.Pieces == 0 {
		return t.o.Chain
	}
	hop := hopPieces*image/float64(t.o.Pieces) + hopFixed
	return max(leastChain, int((image+trunkTrouble)/(hop+chainTrouble)))
}

// portSpeed is what most ports carry, in bytes per second: what was measured, or what they say; 0 while unknown.
func (t *Topology) portSpeed() float64 {
	said := t.speeds.median()
	if t.ports.known >= leastPorts && (said == 0 || t.ports.usual < said) {
		return t.ports.usual
	}
	return said
}

// median is of what ports say of their speed, in bytes per second; 0 if none does.
func (s *speeds) median() float64 {
	below := 0
	for c, n := range s.nodes {
		if below += n; 2*below > s.sum {
			return math.Pow(2, float64(c-1)/2) * 1e6 / 8
		}
	}
	return 0
}

// imageTime is how long a port takes for the image; 0 while unknown.
func (t *Topology) imageTime() time.Duration {
	port := t.portSpeed()
	if port == 0 {
		return 0
	}
	return time.Duration(min(wire*t.bytes/port, 3600) * float64(time.Second))
}

// pace is when a node should come again if that is sooner than the interval; 0 if it is not.
func (t *Topology) pace(n *node) time.Duration {
	image := t.imageTime()
	if image == 0 || (n.calls > 1 && len(t.all) <= leastChain) {
		return 0
	}
	d := max(leastPace, image/paceShare, time.Duration(len(t.all))*time.Second/paceRequests)
	if d >= t.Interval() {
		return 0
	}
	return d
}

// helpTime is how long a stalled node has another source.
func (t *Topology) helpTime() time.Duration {
	if image := t.imageTime(); image > 0 {
		return min(helpFor, max(leastHelp, image/2))
	}
	return helpFor
}
