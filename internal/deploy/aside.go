package deploy

import (
	"slices"
	"sync"

	"swarmboot/imagefmt"
)

const (
	asidePage = 4096
	// asideMost is how many bytes without a place are kept in memory beyond those that must be: enough for a boot loader or
	// the table of a small image, so that pieces with them can be served to other nodes for longer.
	asideMost = 8 << 20
)

// aside keeps in memory bytes of the image that the layout has no place for. A hash is of a whole frame: a frame of which a
// part is on the disk and a part has no place can be read back only with that part. There are few such frames, at
// the bounds of what has a place; all else is kept as long as there is room. What was never written reads as zero.
type aside struct {
	// must says which bytes have to be kept: the partly placed frames' (in order). It is asked at the first write, which
	// waits for it.
	must func() []imagefmt.Extent
	most int

	mu    sync.Mutex
	pages map[int64]*[asidePage]byte
}

func newAside() *aside {
	return &aside{most: asideMost, must: func() []imagefmt.Extent { return nil }, pages: map[int64]*[asidePage]byte{}}
}

func (a *aside) write(b []byte, off int64) {
	must := intersects(a.must(), imagefmt.Extent{Off: off, Len: int64(len(b))})
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(b) > 0 {
		i, at := off/asidePage, off%asidePage
		n := min(int64(len(b)), asidePage-at)
		page := a.pages[i]
		if page == nil && (must || len(a.pages) < a.most/asidePage) {
			page = new([asidePage]byte)
			a.pages[i] = page
		}
		if page != nil {
			copy(page[at:], b[:n])
		}
		b, off = b[n:], off+n
	}
}

func (a *aside) read(b []byte, off int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(b) > 0 {
		i, at := off/asidePage, off%asidePage
		n := min(int64(len(b)), asidePage-at)
		if page := a.pages[i]; page != nil {
			copy(b[:n], page[at:])
		} else {
			clear(b[:n])
		}
		b, off = b[n:], off+n
	}
}

// intersects says whether e has a byte in common with one of sorted, which do not overlap.
func intersects(sorted []imagefmt.Extent, e imagefmt.Extent) bool {
	i, _ := slices.BinarySearchFunc(sorted, e.Off, func(x imagefmt.Extent, off int64) int {
		if x.End() <= off {
			return -1
		}
		return 1
	})
	return i < len(sorted) && sorted[i].Off < e.End()
}

// partlyPlaced returns the bytes without a place of the frames that have others with one, in order.
func (m *mapped) partlyPlaced(ix *imagefmt.Index) (must []imagefmt.Extent, err error) {
	for piece := ix.IndexPieces(); piece < ix.Pieces(); piece++ {
		frames, err := ix.Frames(piece)
		if err != nil {
			return nil, err
		}
		for _, f := range frames {
			if n, without := m.placed(f.Extents); n > 0 {
				must = append(must, without...)
			}
		}
	}
	slices.SortFunc(must, func(a, b imagefmt.Extent) int { return int(min(max(a.Off-b.Off, -1), 1)) })
	return must, nil
}
