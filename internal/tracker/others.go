package tracker

import (
	"container/list"
	"net/netip"
	"time"
)

// others are the peers of one image that are no nodes of swarmboot: aria2, libtorrent and so on.
type others struct {
	deadAfter time.Duration
	peers     map[otherKey]*other
	all       []*other
	seen      *list.List // of *other, the oldest first
	complete  int
}

type otherKey struct {
	id   [20]byte
	addr netip.AddrPort
}

type other struct {
	otherKey
	complete bool
	seen     time.Time
	index    int
	inSeen   *list.Element
}

func newOthers(interval time.Duration) *others {
	return &others{
		deadAfter: missed*interval + interval/2,
		peers:     make(map[otherKey]*other),
		seen:      list.New(),
	}
}

func (o *others) announce(now time.Time, k otherKey, complete bool) {
	p := o.peers[k]
	if p == nil {
		p = &other{otherKey: k, index: len(o.all)}
		p.inSeen = o.seen.PushBack(p)
		o.peers[k] = p
		o.all = append(o.all, p)
	}
	if complete && !p.complete {
		o.complete++
	} else if !complete && p.complete {
		o.complete--
	}
	p.complete, p.seen = complete, now
	o.seen.MoveToBack(p.inSeen)
}

func (o *others) leave(k otherKey) {
	if p := o.peers[k]; p != nil {
		o.remove(p)
	}
}

func (o *others) expire(now time.Time) {
	for e := o.seen.Front(); e != nil; e = o.seen.Front() {
		p := e.Value.(*other)
		if now.Sub(p.seen) <= o.deadAfter {
			return
		}
		o.remove(p)
	}
}

func (o *others) remove(p *other) {
	o.seen.Remove(p.inSeen)
	delete(o.peers, p.otherKey)
	last := len(o.all) - 1
	o.all[p.index] = o.all[last]
	o.all[p.index].index = p.index
	o.all[last] = nil
	o.all = o.all[:last]
	if p.complete {
		o.complete--
	}
}

func (o *others) sample(n int, but netip.AddrPort) (addrs []netip.AddrPort) {
	for _, i := range sample(len(o.all), n) {
		if a := o.all[i].addr; a != but {
			addrs = append(addrs, a)
		}
	}
	return addrs
}
