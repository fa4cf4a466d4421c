package imagefmt

import (
	"fmt"
	"io"
	"math/bits"
	"runtime"
)

// Source is a disk to make an image of.
type Source interface {
	io.ReaderAt
	Size() int64       // bytes
	Extents() []Extent // used bytes: sorted, disjoint, inside Size
}

// WriterOptions steer Write. The zero value means: packed, lengths chosen by the size, all processors.
type WriterOptions struct {
	Layout      Layout // default Packed
	PieceLength int64  // power of two, 16 KiB to 16 MiB; 0: DefaultPieceLength, more for huge images
	FrameLength int64  // raw bytes of a frame at most; 0: DefaultFrameLength, more for huge images; Verbatim ignores it
	Workers     int    // 0: one for each processor
	// Progress is told how many used bytes are read, packed and handed to the output; one call at a time.
	Progress func(rawDone, rawTotal int64)
}

// Defaults, chosen by measurement (FORMAT.md, "Choice of lengths").
const (
	DefaultPieceLength = 256 << 10
	DefaultFrameLength = 256 << 10
)

// Bounds that keep the writer's memory the same whatever the size of the image and the number of processors.
const (
	minZeroRun     = 64 << 10  // shorter runs of zeros travel as data: an extent costs more than they do
	manyZeroRuns   = 512 << 10 // from so many on only longer ones are cut out: readers take MaxExtents, and each run makes two
	zeroRunStep    = 64 << 10  // and twice as long ones for each so many more
	maxWorkers     = 32
	workerBytes    = 8 << 20   // raw bytes of frames that workers encode at once; each frame takes four times that
	inFlightBytes  = 16 << 20  // raw bytes of frames between reader and packer
	windowBytes    = 20 << 20  // stored bytes of frames that wait for a piece, at most
	windowFrames   = 64        // aim for so many frames to choose from
	sinkBytes      = 32 << 20  // pieces on their way to the output
	wantPieces     = 128 << 10 // choose longer pieces beyond: 2.6 MB of .torrent
	wantIndexBytes = 24 << 20  // choose longer frames beyond
)

// plan is WriterOptions made definite for one source.
type plan struct {
	layout                   Layout
	pieceLength, frameLength int64
	workers, inFlight, sinks int
	used                     int64 // bytes in the source's extents
	reserve                  int64 // pieces kept free at the front for the index
}

func newPlan(src Source, o WriterOptions) (*plan, error) {
	used, err := checkSource(src)
	if err != nil {
		return nil, err
	}
	p := &plan{layout: o.Layout, pieceLength: o.PieceLength, frameLength: o.FrameLength, workers: o.Workers, used: used}
	if p.layout == "" {
		p.layout = Packed
	}
	if p.pieceLength == 0 {
		for p.pieceLength = DefaultPieceLength; p.pieceLength < MaxPieceLength && used/p.pieceLength > wantPieces; {
			p.pieceLength *= 2
		}
	}
	extents := int64(len(src.Extents()))
	switch {
	case p.layout == Verbatim:
		p.frameLength = min(p.pieceLength, MaxFrameLength)
	case p.frameLength == 0:
		p.frameLength = min(DefaultFrameLength, p.pieceLength)
		for p.frameLength < min(p.pieceLength, MaxFrameLength) && p.indexBound(src.Size(), extents) > wantIndexBytes {
			p.frameLength *= 2
		}
	}
	if err := checkLengths(p.layout, p.pieceLength, p.frameLength); err != nil {
		return nil, err
	}
	p.reserve = ceilDiv(min(p.indexBound(src.Size(), extents), MaxIndexLength), p.pieceLength)
	if p.workers <= 0 {
		p.workers = runtime.GOMAXPROCS(0)
	}
	p.workers = min(p.workers, maxWorkers, max(1, int(workerBytes/p.frameLength)))
	p.inFlight = min(2*p.workers+2, max(4, int(inFlightBytes/p.frameLength)))
	p.sinks = min(p.workers, 4, max(1, int(sinkBytes/p.pieceLength)-1))
	return p, nil
}

func checkSource(src Source) (used int64, err error) {
	if src.Size() <= 0 || src.Size() > MaxDiskSize {
		return 0, fmt.Errorf("source of %d bytes: %w", src.Size(), ErrRange)
	}
	if n := len(src.Extents()); n > MaxExtents {
		return 0, fmt.Errorf("source with %d extents, the limit is %d: %w", n, MaxExtents, ErrLimit)
	}
	var end int64
	for _, e := range src.Extents() {
		switch {
		case e.Len <= 0 || e.Off < 0 || e.Off > src.Size() || e.Len > src.Size()-e.Off:
			return 0, fmt.Errorf("source extent %d+%d of %d bytes: %w", e.Off, e.Len, src.Size(), ErrRange)
		case e.Off < end:
			return 0, fmt.Errorf("source extent %d+%d: before the end of the last one: %w", e.Off, e.Len, ErrOverlap)
		}
		end = e.End()
		used += e.Len
	}
	return used, nil
}

// indexBound is the most bytes that the index can take; see FORMAT.md, "Room for the index".
func (p *plan) indexBound(diskSize, extents int64) int64 {
	offBytes, lenBytes := varintLen(2*diskSize), varintLen(p.frameLength)
	zeroRuns := p.used / minZeroRun
	// Two pieces in a row hold more than one piece's bytes, or else one of them is full of extents.
	pieces := 2*p.used/p.pieceLength + 2*extents/(MaxPieceExtents-MaxFrameExtents) + 2
	frames := p.used/p.frameLength + extents/MaxFrameExtents + pieces + 2
	dataExtents := extents + zeroRuns + frames
	return 32 + pieces*2 + frames*(32+4+2) + dataExtents*(offBytes+lenBytes) + zeroRuns*(offBytes+varintLen(p.used))
}

func varintLen(n int64) int64 { return int64(bits.Len64(uint64(n)|1)+6) / 7 }
