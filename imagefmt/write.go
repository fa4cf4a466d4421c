package imagefmt

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
)

// Result is what Write says about a payload: all that a manifest has to know, and the metainfo.
type Result struct {
	Name                     string
	DiskSize                 int64 // bytes of the source
	End                      int64 // end of the last used byte
	Layout                   Layout
	PieceLength, FrameLength int64
	PayloadLength            int64
	IndexLength              int64
	UsedBytes                int64 // raw bytes in frames
	ZeroBytes                int64 // bytes in zero extents
	PaddingBytes             int64 // bytes of the payload that are neither index nor frames
	IndexSHA256              [32]byte
	Pieces                   []byte // SHA-1 of every piece
	InfoHash                 [20]byte
	Metainfo                 []byte // the .torrent without announce; ParseMetainfo and Marshal add one
}

// Write makes the payload of an image called name in one pass over the used extents of src. The same source, name and
// options give the same bytes whatever Workers is. It needs at most 256 MiB of memory. When it fails, what dst holds
// is of no use.
func Write(ctx context.Context, dst Output, src Source, name string, o WriterOptions) (*Result, error) {
	if !ValidName(name) {
		return nil, fmt.Errorf("image name %.140q: want letters, digits and ._+-: %w", name, ErrFormat)
	}
	p, err := newPlan(src, o)
	if err != nil {
		return nil, err
	}
	w := &writer{plan: p, progress: o.Progress}
	w.buffers = &bufferPool{size: int(p.frameLength), free: make(chan []byte, p.inFlight+8)}
	w.sink = newSink(dst, p, w.buffers)
	w.walker = &walker{src: src, frameLength: p.frameLength, buffers: w.buffers}
	if err := w.run(ctx); err != nil {
		return nil, err
	}
	if err := checkExtents(w.sink.extents, w.walker.zeroCount); err != nil {
		return nil, err
	}
	res := &Result{
		Name: name, DiskSize: src.Size(), End: w.walker.end, Layout: p.layout,
		PieceLength: p.pieceLength, FrameLength: p.frameLength, ZeroBytes: w.walker.zeroed,
	}
	if err := w.sink.close(w.walker.head(len(w.sink.records)), res); err != nil {
		return nil, err
	}
	res.addMetainfo()
	return res, nil
}

func (r *Result) addMetainfo() {
	mi := Metainfo{
		Name: r.Name + PayloadSuffix, PieceLength: r.PieceLength, Length: r.PayloadLength,
		Pieces: r.Pieces, Private: true, IndexSHA256: r.IndexSHA256,
	}
	mi.encodeInfo()
	r.InfoHash, r.Metainfo = mi.InfoHash, mi.Marshal("")
}

// Fill sets the fields of m that Write knows. MinDiskSize, when it is 0, becomes the end of the last used byte or
// partition, with room for a backup GPT behind it; Marshal refuses it where the source does not have that room. The other fields are the
// caller's: Created, SectorSize, Table, Boot.
func (r *Result) Fill(m *Manifest) {
	m.FormatVersion, m.Name, m.DiskSize = FormatVersion, r.Name, r.DiskSize
	m.Layout, m.PieceLength, m.FrameLength = r.Layout, r.PieceLength, r.FrameLength
	m.PayloadLength, m.IndexLength = r.PayloadLength, r.IndexLength
	m.IndexSHA256, m.InfoHash = hexString(r.IndexSHA256[:]), hexString(r.InfoHash[:])
	m.UsedBytes, m.ZeroBytes = r.UsedBytes, r.ZeroBytes
	if m.MinDiskSize != 0 {
		return
	}
	sector := int64(max(m.SectorSize, 512))
	end := max(r.End, 1)
	for _, p := range m.Table.Partitions {
		end = max(end, p.Start+p.Length)
	}
	m.MinDiskSize = min(ceilDiv(end, sector)*sector, m.DiskSize) // a file may end within a sector
	if m.Table.Kind == TableGPT {
		m.MinDiskSize += sector + max(16384, sector) // header and 128 entries of 128 bytes (UEFI 2.10, 5.3.1)
	}
}

// writer is the pipeline: walker → workers → packer → sinks.
type writer struct {
	*plan
	progress func(done, total int64)
	buffers  *bufferPool
	walker   *walker
	sink     *sink
}

func (w *writer) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	work := make(chan *job, w.inFlight)
	order := make(chan *job, w.inFlight)
	tokens := make(chan struct{}, w.inFlight) // one for each job between walker and packer
	w.walker.emit = func(j *job) error {
		select {
		case tokens <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		work <- j // neither blocks: no more jobs than tokens
		order <- j
		return nil
	}
	g.Go(func() error {
		defer close(order)
		defer close(work)
		return w.walker.run(ctx)
	})
	for range w.workers {
		g.Go(func() error {
			w.encodeJobs(work)
			return nil
		})
	}
	g.Go(func() error {
		defer close(w.sink.work)
		return w.pack(ctx, order, tokens)
	})
	for range w.sinks {
		g.Go(w.sink.run)
	}
	return g.Wait()
}

// encodeJobs packs frames until work is closed.
func (w *writer) encodeJobs(work <-chan *job) {
	var scratch []byte
	enc := newEncoder()
	for j := range work {
		f := &j.frame
		f.sum = sha256.Sum256(j.raw)
		f.kind, f.data = Stored, j.raw
		if w.layout == Packed {
			if f.kind, f.data = encode(enc, j.raw, scratch); f.kind == Zstd {
				scratch = f.data
				f.data = slices.Clone(f.data)
				w.buffers.put(j.raw)
			}
		}
		j.raw = nil
		close(j.ready)
	}
}

func (w *writer) pack(ctx context.Context, order <-chan *job, tokens <-chan struct{}) error {
	k := newPacker(w.plan, func(frames []*packFrame, last bool) error { return w.sink.place(ctx, frames, last) })
	for j := range order {
		<-j.ready
		<-tokens
		if err := k.add(&j.frame); err != nil {
			return err
		}
		if w.progress != nil {
			w.progress(j.consumed, w.used)
		}
	}
	if err := ctx.Err(); err != nil {
		return err // the walker stopped early: its error says why
	}
	if err := k.finish(); err != nil {
		return err
	}
	if w.progress != nil {
		w.progress(w.used, w.used)
	}
	return nil
}
