package imagefmt

import (
	"context"
	"encoding/binary"
	"fmt"
)

// job is a frame on its way: filled by the walker, packed by a worker, placed by the packer.
type job struct {
	frame    packFrame
	raw      []byte
	consumed int64 // used bytes of the source that lie before the end of this frame
	ready    chan struct{}
}

// walker reads the used extents in disk order, cuts out zero runs and groups the rest into frames.
type walker struct {
	src         Source
	frameLength int64
	buffers     *bufferPool
	emit        func(*job) error

	cur      *job
	consumed int64
	zero     Extent // zeros at the end of what was read, not yet known to be a run to cut out
	// zeros is the encoded list of zero extents.
	zeros             []byte
	zeroEnd           int64
	zeroCount, zeroed int64
	end               int64 // of the last byte used or zero
}

const readLength = 1 << 20

func (w *walker) run(ctx context.Context) error {
	buf := make([]byte, readLength)
	for _, e := range w.src.Extents() {
		if w.zero.Len > 0 && e.Off != w.zero.End() {
			if err := w.flushZero(); err != nil {
				return err
			}
		}
		for off := e.Off; off < e.End(); {
			if err := ctx.Err(); err != nil {
				return err
			}
			// Reads end at multiples of readLength, so that blocks are those of the disk.
			b := buf[:min(readLength-off%readLength, e.End()-off)]
			if err := readFull(w.src, b, off); err != nil {
				return fmt.Errorf("source: %w", err)
			}
			if err := w.blocks(b, off); err != nil {
				return err
			}
			off += int64(len(b))
		}
		w.end = e.End()
	}
	if err := w.flushZero(); err != nil {
		return err
	}
	return w.flushFrame()
}

// blocks splits b, the disk at off, into runs of zero blocks and runs of data.
func (w *walker) blocks(b []byte, off int64) error {
	for len(b) > 0 {
		n, zero := run(b, off)
		var err error
		switch {
		case zero && w.zero.Len > 0:
			w.zero.Len += int64(n)
		case zero:
			w.zero = Extent{off, int64(n)}
		default:
			if err = w.flushZero(); err == nil {
				err = w.data(b[:n], off)
			}
		}
		if err != nil {
			return err
		}
		w.consumed += int64(n)
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// run is the length of the run of zero blocks, or of data, at the start of b.
func run(b []byte, off int64) (n int, zero bool) {
	for n < len(b) {
		block := min(blockSize-int((off+int64(n))%blockSize), len(b)-n)
		z := b[n] == 0 && allZero(b[n:n+block])
		if n > 0 && z != zero {
			break
		}
		zero = z
		n += block
	}
	return n, zero
}

// flushZero settles the zeros seen last: a long run becomes a zero extent, a short one is data.
func (w *walker) flushZero() error {
	z := w.zero
	w.zero = Extent{}
	if z.Len == 0 {
		return nil
	}
	if z.Len < w.leastZeroRun() {
		for z.Len > 0 {
			n := min(z.Len, int64(len(zeroBlock)))
			if err := w.data(zeroBlock[:n], z.Off); err != nil {
				return err
			}
			z.Off, z.Len = z.Off+n, z.Len-n
		}
		return nil
	}
	w.zeros = appendExtent(w.zeros, z, w.zeroEnd, false)
	w.zeroEnd = z.End()
	w.zeroCount++
	w.zeroed += z.Len
	if w.zeroCount > MaxExtents || len(w.zeros) > MaxIndexLength {
		return fmt.Errorf("index: too many zero extents: %w", ErrLimit)
	}
	return nil
}

// leastZeroRun is the length from which on a run of zeros is cut out. It depends on what lies before the run on the disk alone.
func (w *walker) leastZeroRun() int64 {
	if w.zeroCount < manyZeroRuns {
		return minZeroRun
	}
	return minZeroRun << min((w.zeroCount-manyZeroRuns)/zeroRunStep+1, 40)
}

func (w *walker) data(b []byte, off int64) error {
	for len(b) > 0 {
		if w.cur == nil {
			w.cur = &job{raw: w.buffers.get(), ready: make(chan struct{})}
		}
		f := &w.cur.frame
		n := min(len(b), int(w.frameLength)-len(w.cur.raw))
		w.cur.raw = append(w.cur.raw, b[:n]...)
		if k := len(f.extents); k > 0 && f.extents[k-1].End() == off {
			f.extents[k-1].Len += int64(n)
		} else {
			f.extents = append(f.extents, Extent{off, int64(n)})
		}
		b, off = b[n:], off+int64(n)
		// MaxFrameExtents may be reached in the midst of an extent; what follows it opens the next frame.
		if len(w.cur.raw) == int(w.frameLength) || len(f.extents) == MaxFrameExtents {
			if err := w.flushFrame(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walker) flushFrame() error {
	if w.cur == nil {
		return nil
	}
	j := w.cur
	w.cur = nil
	j.consumed = w.consumed
	j.frame.rawLen = len(j.raw)
	return w.emit(j)
}

// head is the index up to the first piece's record.
func (w *walker) head(pieces int) []byte {
	b := append([]byte{}, indexMagic...)
	b = binary.AppendUvarint(b, uint64(pieces))
	b = binary.AppendUvarint(b, uint64(w.zeroCount))
	return append(b, w.zeros...)
}

// bufferPool recycles frame buffers; the number in use is bounded by the jobs in flight and the packer's window.
type bufferPool struct {
	size int
	free chan []byte
}

func (p *bufferPool) get() []byte {
	select {
	case b := <-p.free:
		return b[:0]
	default:
		return make([]byte, 0, p.size)
	}
}

func (p *bufferPool) put(b []byte) {
	if cap(b) != p.size {
		return
	}
	select {
	case p.free <- b:
	default:
	}
}
