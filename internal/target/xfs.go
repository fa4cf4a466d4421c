package target

import (
	"context"
	"fmt"
	"math/bits"
	"strings"
	"time"
)

// XFS describes an empty XFS.
type XFS struct {
	Label  string    // up to 12 bytes
	UUID   [16]byte  // all zero: a random one
	Sector int       // physical sector of the device in bytes, 512 or 4096; 0: 512. It must not be less than the logical one
	Time   time.Time // of its inodes; zero: now
}

// Sizes of the XFS that MakeXFS makes, in bytes, and where mkfs.xfs (xfsprogs 6.1) has its limits.
const (
	xfsBlock     = 4096
	xfsInode     = 512
	xfsMinSize   = 300 << 20
	xfsMaxAG     = (1<<40)/xfsBlock - 1 // blocks
	xfsMinAG     = (16 << 20) / xfsBlock
	xfsFewAGs    = 4 // allocation groups up to 4 TiB
	xfsFewBlocks = (4 << 40) / xfsBlock
	xfsMinLog    = (64 << 20) / xfsBlock
	xfsMaxLog    = (2<<30 - 10<<20) / xfsBlock
	xfsLogRatio  = 2048
	xfsChunk     = 64                             // inodes
	xfsChunkSize = xfsChunk * xfsInode / xfsBlock // blocks
	xfsFreeList  = 4                              // blocks in a fresh AGFL: one for each level of the free space trees, and two
	edgeSize     = 1 << 20                        // bytes at both ends of a new file system that are zeroed against old signatures
)

// xfsGeometry is how an XFS lies on its device. Lengths are blocks of 4 KiB unless they say otherwise.
type xfsGeometry struct {
	sector                    int // bytes
	blocks                    int64
	agBlocks                  int64
	agCount                   int
	agBits                    int   // bits of a block's number in its group
	headers                   int64 // superblock, AGF, AGI, AGFL
	bno, cnt, ino, fino, refc int64 // roots of the trees, each one block
	free                      int64 // the first block after them
	logAG                     int
	logBlocks                 int64
	rootBlock                 int64 // of the first chunk of inodes, in group 0
	maxPct                    byte
}

// newXFSGeometry chooses what mkfs.xfs chooses (calc_default_ag_geometry, calculate_log_size): four groups up to 4 TiB,
// groups of 1 TiB beyond, and a log of 1/2048 of the size, from 64 MiB to 2 GiB.
func newXFSGeometry(size int64, sector int) (*xfsGeometry, error) {
	if sector == 0 {
		sector = 512
	}
	if sector != 512 && sector != 4096 {
		return nil, fmt.Errorf("sectors of %d bytes: want 512 or 4096", sector)
	}
	if size < xfsMinSize {
		return nil, fmt.Errorf("%d bytes are too few for an XFS, want %d at least", size, xfsMinSize)
	}
	g := &xfsGeometry{sector: sector, blocks: size / xfsBlock, agBlocks: xfsMaxAG, maxPct: 25}
	if g.blocks < xfsFewBlocks {
		g.agBlocks = min((g.blocks+xfsFewAGs-1)/xfsFewAGs, xfsMaxAG)
	}
	if rest := g.blocks % g.agBlocks; rest < xfsMinAG && g.blocks > g.agBlocks {
		g.blocks -= rest // a last group that is too small stays unused
	}
	g.agCount = int((g.blocks + g.agBlocks - 1) / g.agBlocks)
	g.agBits = bits.Len64(uint64(g.agBlocks - 1))
	switch {
	case g.blocks >= (50<<40)/xfsBlock:
		g.maxPct = 1
	case g.blocks >= (1<<40)/xfsBlock:
		g.maxPct = 5
	}
	g.headers = int64(4*sector+xfsBlock-1) / xfsBlock
	g.bno, g.cnt, g.ino, g.fino, g.refc = g.headers, g.headers+1, g.headers+2, g.headers+3, g.headers+4
	g.free = g.headers + 5
	g.logAG = g.agCount / 2
	g.logBlocks = min(max(g.blocks/xfsLogRatio, xfsMinLog), xfsMaxLog)
	g.rootBlock = (g.free + xfsFreeList + xfsChunkSize - 1) / xfsChunkSize * xfsChunkSize
	return g, nil
}

// agLength is the size of a group.
func (g *xfsGeometry) agLength(ag int) int64 {
	return min(g.agBlocks, g.blocks-int64(ag)*g.agBlocks)
}

// offset is where a block of a group lies, in bytes.
func (g *xfsGeometry) offset(ag int, block int64) int64 {
	return (int64(ag)*g.agBlocks + block) * xfsBlock
}

// xfsRun is a run of free blocks in a group.
type xfsRun struct{ start, length int64 }

// freeList is the first block of a group's free list, which comes after the log where that is.
func (g *xfsGeometry) freeList(ag int) int64 {
	if ag == g.logAG {
		return g.free + g.logBlocks
	}
	return g.free
}

// freeRuns are what is left of a group, ordered by place.
func (g *xfsGeometry) freeRuns(ag int) (runs []xfsRun) {
	at := g.freeList(ag) + xfsFreeList
	if ag == 0 {
		if at < g.rootBlock {
			runs = append(runs, xfsRun{at, g.rootBlock - at})
		}
		at = g.rootBlock + xfsChunkSize
	}
	return append(runs, xfsRun{at, g.agLength(ag) - at})
}

// freeBlocks is the superblock's count: free runs and free lists of all groups.
func (g *xfsGeometry) freeBlocks() (n int64) {
	for ag := range g.agCount {
		n += xfsFreeList
		for _, r := range g.freeRuns(ag) {
			n += r.length
		}
	}
	return n
}

// MakeXFS makes the first size bytes of d an empty XFS of version 5, the same bytes as mkfs.xfs writes with
// -m reflink=1,finobt=1,rmapbt=0,bigtime=0,inobtcount=0 -i sparse=1, but for times: Linux 4.16 and RHEL 8 mount it. It writes
// a few blocks for every TiB, and zeros where the log is: 1/2048 of the size, 2 GiB at most. The superblock comes last: what was
// interrupted is no file system.
func MakeXFS(ctx context.Context, d Blank, size int64, x XFS) error {
	if err := makeXFS(ctx, d, size, x); err != nil {
		return fmt.Errorf("make xfs: %w", err)
	}
	return nil
}

func makeXFS(ctx context.Context, d Blank, size int64, x XFS) error {
	g, err := x.plan(size)
	if err != nil {
		return err
	}
	if x.UUID == [16]byte{} {
		x.UUID = randomUUID()
	}
	if x.Time.IsZero() {
		x.Time = time.Now()
	}
	if err := zeroEdges(ctx, d, size); err != nil {
		return err
	}
	w := &xfsWriter{xfsGeometry: g, d: d, x: x}
	if err := d.Zero(ctx, g.offset(g.logAG, g.free), g.logBlocks*xfsBlock); err != nil {
		return err
	}
	for ag := g.agCount - 1; ag >= 0; ag-- { // the first superblock comes last
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := w.group(ag); err != nil {
			return err
		}
	}
	return nil
}

// plan checks everything.
func (x XFS) plan(size int64) (*xfsGeometry, error) {
	if len(x.Label) > 12 || strings.ContainsRune(x.Label, 0) {
		return nil, fmt.Errorf("label %.40q: want 12 bytes at most", x.Label)
	}
	return newXFSGeometry(size, x.Sector)
}

// zeroEdges clears both ends of a new file system, where other systems look for their signatures.
func zeroEdges(ctx context.Context, d Blank, size int64) error {
	edge := min(edgeSize, size)
	if err := d.Zero(ctx, 0, edge); err != nil {
		return err
	}
	return d.Zero(ctx, size-edge, edge)
}
