package tracker

// home is a node that n can take the image from without crossing its rack's uplink, for the head of a segment, which would
// cross it: one of the same rack that is complete. The uplink carries another copy otherwise, of which the slow nodes of a
// chain, that are a rack of their own, would take all at their own rate: so they take from afar only what came until the
// others of their rack were done.
func (t *Topology) home(n *node) *node {
	if len(n.ups) > 0 && t.isHome(n, n.ups[0]) {
		return n.ups[0]
	}
	r := t.racks[rackKey{n.Rack, ordinary}]
	if r == nil {
		return nil
	}
	for _, s := range r.segs {
		for i, u := range s.nodes {
			if i == maxClimb { // those in front are done first
				break
			}
			if t.isHome(n, u) {
				return u
			}
		}
	}
	return nil
}

func (t *Topology) isHome(n, u *node) bool {
	return u != n && u.Complete && !u.slow && u.seg != nil && u.Rack == n.Rack && t.usable(u)
}

// awaited says whether a complete node should stay for the head of a segment of its rack that still takes the image from
// another one. It will be told of this node when it announces next.
func (t *Topology) awaited(u *node) bool {
	if !u.Complete {
		return false
	}
	for c := ordinary; c <= slow; c++ {
		r := t.racks[rackKey{u.Rack, c}]
		if r == nil {
			continue
		}
		for _, s := range r.segs {
			h := s.head()
			local := len(h.ups) > 0 && h.ups[0].seg != nil && h.ups[0].Rack == h.Rack
			if !local && !h.Complete && t.usable(h) && t.home(h) == u {
				return true
			}
		}
	}
	return false
}
