package swarm

import (
	"bytes"
	"container/list"
	"os"
	"strconv"
)

// buffer holds a piece. It goes back to the pool when nobody refers to it.
type buffer struct {
	data []byte
	refs int
}

// cache keeps the encoded pieces that were used last, and the pool of buffers. Its owner locks.
type cache struct {
	size, used, limit int64 // bytes: of a piece, kept, at most kept
	order             *list.List
	pieces            map[int]*list.Element
	free              []*buffer
}

type cached struct {
	piece int
	buf   *buffer
}

// poolBuffers is how many free buffers are kept: about what flows while one piece is written.
const poolBuffers = 8

func newCache(pieceLength, limit int64) *cache {
	return &cache{
		size: pieceLength, limit: limit,
		order: list.New(), pieces: make(map[int]*list.Element),
	}
}

// buffer returns a buffer of n bytes with undefined content, and one reference to it.
func (c *cache) buffer(n int64) *buffer {
	if k := len(c.free); k > 0 {
		b := c.free[k-1]
		c.free = c.free[:k-1]
		b.data, b.refs = b.data[:n], 1
		return b
	}
	return &buffer{data: make([]byte, n, c.size), refs: 1}
}

func (c *cache) release(b *buffer) {
	if b.refs--; b.refs == 0 && len(c.free) < poolBuffers {
		c.free = append(c.free, b)
	}
}

// get returns a piece with a reference for the caller, or nil.
func (c *cache) get(piece int) *buffer {
	e := c.pieces[piece]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	b := e.Value.(cached).buf
	b.refs++
	return b
}

// add keeps a piece, with a reference of its own, and drops those that were not used for longest.
func (c *cache) add(piece int, b *buffer) {
	if c.pieces[piece] != nil {
		return
	}
	for c.order.Len() > 0 && c.used+c.size > c.limit {
		e := c.order.Back()
		old := c.order.Remove(e).(cached)
		delete(c.pieces, old.piece)
		c.used -= c.size
		c.release(old.buf)
	}
	if c.size > c.limit {
		return
	}
	b.refs++
	c.pieces[piece] = c.order.PushFront(cached{piece, b})
	c.used += c.size
}

// cacheSize is how many bytes of pieces are kept when so many bytes of memory are available, 0 for unknown.
func cacheSize(available int64) int64 {
	return min(max(available/cacheShare, cacheLeast), cacheMost)
}

// availableMemory is MemAvailable of proc_meminfo(5) in bytes, 0 if it cannot be read.
func availableMemory() int64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		if f := bytes.Fields(line); len(f) > 1 && string(f[0]) == "MemAvailable:" {
			kib, err := strconv.ParseInt(string(f[1]), 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}
