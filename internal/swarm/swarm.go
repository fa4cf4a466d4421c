// Package swarm moves the pieces of an image over BitTorrent: the server seeds payloads
// (Seeder), a node fetches one straight to its disk and seeds it from there (Session).
// It is the only importer of the BitTorrent library; README.md says which of the library's
// defaults are changed and why.
package swarm

import (
	"context"
	"io"
	"log/slog"
	"time"

	"swarmboot/imagefmt"
)

// Peer-id prefixes (BEP 20): a node tells by them what it got from the server and what from nodes.
const (
	SeederPeerIDPrefix = "-SS0001-"
	NodePeerIDPrefix   = "-SN0001-"
)

// SeederOptions are the settings of NewSeeder.
type SeederOptions struct {
	Listen     string       // host:port for BitTorrent connections; ":0" picks a free port
	UploadRate int64        // bytes per second for all images together; 0 is no limit
	Logger     *slog.Logger // nil is slog.Default
}

// Target is the disk of a node: imagefmt.Target with a cheap way to write zeros.
type Target interface {
	io.ReaderAt
	io.WriterAt
	// Zero makes n bytes at off read as zero.
	Zero(ctx context.Context, off, n int64) error
}

// NodeOptions are the settings of Join.
type NodeOptions struct {
	Node     string             // the node's id (its MAC address), sent to the tracker
	Run      string             // random, one for each run of the node
	Rack     func() string      // name of its rack or switch, 64 bytes at most; "" or nil: the tracker goes by the address
	Metainfo *imagefmt.Metainfo // what the payload's pieces hash to
	Manifest *imagefmt.Manifest // what the payload is
	Target   Target             // where the pieces go
	Announce string             // URL of the tracker
	Listen   string             // host:port for BitTorrent connections; "" is ":0"
	CheckRaw bool               // check the raw SHA-256 of every frame before it is written
	Resume   bool               // look which pieces are on the target already before they are fetched
	Stall    time.Duration      // no progress for this long ends Wait with *StallError or *HungError; 0 is never
	Logger   *slog.Logger       // nil is slog.Default
}

// Stats are totals since Join. Bytes are raw bytes of the image; FromServer, FromNodes and
// Uploaded are payload bytes on the wire.
type Stats struct {
	PiecesDone, PiecesTotal         int
	PiecesKept                      int // of PiecesDone: were on the target before (NodeOptions.Resume)
	BytesDone, BytesTotal           int64
	FromServer, FromNodes, Uploaded int64
	HashFailures                    int
}
