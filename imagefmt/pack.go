package imagefmt

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// packFrame is a frame before it has a place.
type packFrame struct {
	kind    FrameKind
	data    []byte // as it lies in the piece
	rawLen  int
	extents []Extent
	sum     [sha256.Size]byte
}

// packer puts frames into pieces. It sees the frames in disk order, one after the other, and its choices depend on
// nothing else, so that the payload is the same whatever the number of workers.
type packer struct {
	pieceLength int
	window      int  // stored bytes to choose from before a piece is closed
	split       bool // packed: choose from the window, cut a frame in two; verbatim: keep the order
	pending     []*packFrame
	bytes       int // of pending
	enc         *zstd.Encoder
	dec         *zstd.Decoder
	raw         []byte
	out         []byte
	// place takes the frames of one piece, in disk order, filling at most pieceLength.
	place func(frames []*packFrame, last bool) error
}

func newPacker(p *plan, place func([]*packFrame, bool) error) *packer {
	k := &packer{pieceLength: int(p.pieceLength), window: int(p.pieceLength), place: place}
	if p.layout == Packed {
		k.split = true
		k.window = int(2*p.pieceLength) + windowFrames/2*int(p.frameLength)
		k.window = max(min(k.window, windowBytes), int(p.pieceLength+2*p.frameLength))
	}
	return k
}

func (k *packer) add(f *packFrame) error {
	k.pending = append(k.pending, f)
	k.bytes += len(f.data)
	for k.bytes >= k.window {
		if err := k.fill(); err != nil {
			return err
		}
	}
	return nil
}

func (k *packer) finish() error {
	for len(k.pending) > 0 {
		if err := k.fill(); err != nil {
			return err
		}
	}
	return nil
}

// room is what is left of the piece being filled.
type room struct {
	bytes, raw, extents, frames int
}

func (r *room) fits(f *packFrame) bool {
	return len(f.data) <= r.bytes && f.rawLen <= r.raw && len(f.extents) <= r.extents && r.frames > 0
}

func (r *room) take(f *packFrame) {
	r.bytes -= len(f.data)
	r.raw -= f.rawLen
	r.extents -= len(f.extents)
	r.frames--
}

// fill closes one piece: the oldest frames while there is room for three more, then the two of the window that fill
// it best, then, if still much is empty, a part of one that was too long.
func (k *packer) fill() error {
	r := room{k.pieceLength, MaxPieceRaw, MaxPieceExtents, MaxPieceFrames}
	average := k.bytes / len(k.pending)
	var chosen []*packFrame
	i := 0
	for i < len(k.pending) && (len(chosen) == 0 || !k.split || r.bytes >= 3*average) && r.fits(k.pending[i]) {
		r.take(k.pending[i])
		i++
		chosen = k.pending[:i]
	}
	chosen = slices.Clone(chosen)
	k.pending = slices.Delete(k.pending, 0, i)
	if k.split {
		chosen = append(chosen, k.bestTwo(&r)...)
	}
	f, err := k.fillRest(&r)
	if err != nil {
		return err
	}
	if f != nil {
		chosen = append(chosen, f)
	}
	slices.SortStableFunc(chosen, func(a, b *packFrame) int {
		if a.extents[0].Off < b.extents[0].Off {
			return -1
		}
		return 1
	})
	k.bytes = 0
	for _, f := range k.pending {
		k.bytes += len(f.data)
	}
	return k.place(chosen, len(k.pending) == 0)
}

// bestTwo takes the one or two pending frames that leave the least room. Of equals it takes the oldest.
func (k *packer) bestTwo(r *room) []*packFrame {
	bySize := make([]int, 0, len(k.pending))
	for i, f := range k.pending {
		if r.fits(f) {
			bySize = append(bySize, i)
		}
	}
	slices.SortStableFunc(bySize, func(a, b int) int { return len(k.pending[a].data) - len(k.pending[b].data) })
	best, one, two := 0, -1, -1
	for lo, hi := 0, len(bySize)-1; hi >= 0; {
		a, b := bySize[min(lo, len(bySize)-1)], bySize[hi]
		if n := len(k.pending[b].data); n > best {
			best, one, two = n, b, -1
		}
		if lo >= hi {
			hi--
			continue
		}
		s := *r
		s.take(k.pending[b])
		if !s.fits(k.pending[a]) {
			hi--
			continue
		}
		if n := len(k.pending[a].data) + len(k.pending[b].data); n > best {
			best, one, two = n, a, b
		}
		lo++
	}
	return k.remove(r, one, two)
}

// remove takes the pending frames i and j (-1: none) out of the window.
func (k *packer) remove(r *room, i, j int) []*packFrame {
	if i > j {
		i, j = j, i
	}
	var out []*packFrame
	for _, n := range []int{j, i} { // the later one first: it does not move the other
		if n >= 0 {
			out = append(out, k.pending[n])
			r.take(k.pending[n])
			k.pending = slices.Delete(k.pending, n, n+1)
		}
	}
	return out
}

// fillRest returns a part of a pending frame for the rest of the piece, or nil when there is no need.
func (k *packer) fillRest(r *room) (*packFrame, error) {
	switch {
	case len(k.pending) == 0 || r.bytes == 0:
		return nil, nil
	case !k.split:
		return k.splitStored(r)
	case r.bytes > k.pieceLength/128:
		return k.splitOne(r)
	}
	return nil, nil
}

// splitStored cuts the oldest frame where the piece ends: verbatim pieces have no padding.
func (k *packer) splitStored(r *room) (*packFrame, error) {
	f := k.pending[0]
	parts := cutExtents(f.extents, int64(r.bytes))
	if len(parts[0]) > r.extents || r.frames == 0 {
		return nil, fmt.Errorf("piece with more than %d extents: choose shorter pieces: %w", MaxPieceExtents, ErrLimit)
	}
	part := func(raw []byte, extents []Extent) *packFrame {
		return &packFrame{kind: Stored, data: slices.Clone(raw), rawLen: len(raw), extents: extents, sum: sha256.Sum256(raw)}
	}
	k.pending[0] = part(f.data[r.bytes:], parts[1])
	return part(f.data[:r.bytes], parts[0]), nil
}

// splitTries bounds the encodings for one split.
const splitTries = 4

// splitOne cuts the oldest frame that is too long so that its first part fills the piece; the rest stays pending.
func (k *packer) splitOne(r *room) (*packFrame, error) {
	i := slices.IndexFunc(k.pending, func(f *packFrame) bool { return len(f.data) > r.bytes && f.rawLen > blockSize })
	if i < 0 || r.raw < MaxFrameLength || r.extents < MaxFrameExtents || r.frames == 0 {
		return nil, nil
	}
	f := k.pending[i]
	raw, err := k.unpacked(f)
	if err != nil {
		return nil, err
	}
	n := k.splitPoint(raw, len(f.data), r.bytes)
	if n == 0 {
		return nil, nil
	}
	extents := cutExtents(f.extents, int64(n))
	head := k.repack(raw[:n], extents[0])
	if len(head.data) > r.bytes {
		return nil, nil
	}
	r.take(head)
	k.pending[i] = k.repack(raw[n:], extents[1])
	return head, nil
}

// unpacked returns a frame's raw bytes, valid until the next call.
func (k *packer) unpacked(f *packFrame) ([]byte, error) {
	if f.kind == Stored {
		return f.data, nil
	}
	if k.dec == nil {
		k.dec = newDecoder()
	}
	k.raw = resize(k.raw, f.rawLen)
	if err := decode(k.dec, k.raw, f.data); err != nil {
		return nil, fmt.Errorf("split a frame: %w", err)
	}
	return k.raw, nil
}

// splitPoint is the most raw bytes, in whole blocks, known to encode to at most size; stored is what all of raw takes.
func (k *packer) splitPoint(raw []byte, stored, size int) int {
	best, low, high := 0, 0, len(raw)
	guess := int(int64(len(raw)) * int64(size) / int64(stored))
	for range splitTries {
		guess -= guess % blockSize
		if guess <= low || guess >= high {
			break
		}
		n := len(k.encoded(raw[:guess]))
		if n > size {
			high = guess
		} else {
			best, low = guess, guess
			if size-n <= k.pieceLength/256 {
				break
			}
		}
		// Go on from here by the ratio just seen.
		guess += (size - n) * guess / n
		if guess <= low {
			guess = low + blockSize
		}
		if guess >= high {
			guess = high - blockSize
		}
	}
	return best
}

func (k *packer) encoded(raw []byte) []byte {
	if k.enc == nil {
		k.enc = newEncoder()
	}
	if k.out == nil {
		k.out = make([]byte, 0, MaxFrameLength)
	}
	_, data := encode(k.enc, raw, k.out)
	return data
}

func (k *packer) repack(raw []byte, extents []Extent) *packFrame {
	data := k.encoded(raw)
	f := &packFrame{kind: Zstd, rawLen: len(raw), extents: extents, sum: sha256.Sum256(raw)}
	if len(data) == len(raw) {
		f.kind = Stored
	}
	f.data = slices.Clone(data)
	return f
}

// cutExtents divides extents at n raw bytes.
func cutExtents(extents []Extent, n int64) (parts [2][]Extent) {
	for _, e := range extents {
		head := min(n, e.Len)
		if head > 0 {
			parts[0] = append(parts[0], Extent{e.Off, head})
		}
		if head < e.Len {
			parts[1] = append(parts[1], Extent{e.Off + head, e.Len - head})
		}
		n -= head
	}
	return parts
}
