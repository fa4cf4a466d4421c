package imagefmt

import (
	"errors"
	"fmt"
)

// Limits of format version 1 (FORMAT.md, "Limits"). A file beyond one is refused with ErrLimit before memory is
// spent on it.
const (
	MaxManifestLength = 1 << 20
	MaxIndexLength    = 64 << 20
	MaxMetainfoLength = 12 << 20
	MaxPieces         = 1 << 19
	MaxExtents        = 4 << 20 // frame and zero extents together
	MinPieceLength    = 16 << 10
	MaxPieceLength    = 16 << 20
	MinFrameLength    = 4 << 10
	MaxFrameLength    = 1 << 20  // raw bytes
	MaxFrameExtents   = 4096     // extents in one frame
	MaxPieceExtents   = 65536    // extents in one piece
	MaxPieceFrames    = 4096     // frames in one piece
	MaxPieceRaw       = 64 << 20 // raw bytes that one piece may unpack to
	MaxPartitions     = 256
	MaxDiskSize       = 1 << 60
)

// Classes of failure; every error of this package that blames its input wraps one of them.
var (
	ErrFormat   = errors.New("not well formed")
	ErrVersion  = errors.New("unknown format version")
	ErrLimit    = errors.New("beyond a limit of the format")
	ErrRange    = errors.New("outside the disk")
	ErrOverlap  = errors.New("byte described twice")
	ErrHash     = errors.New("hash does not match")
	ErrMismatch = errors.New("parts of the image do not agree")
)

// VerifyError says which piece, and which of its extents, does not hold the bytes that the index promises.
type VerifyError struct {
	Piece  int
	Extent Extent // first extent of the frame that differs; of length 0 when the piece as a whole does
	Err    error  // ErrHash, or what went wrong while decoding
}

func (e *VerifyError) Error() string {
	if e.Extent.Len == 0 {
		return fmt.Sprintf("piece %d: %v", e.Piece, e.Err)
	}
	return fmt.Sprintf("piece %d, disk bytes %d+%d: %v", e.Piece, e.Extent.Off, e.Extent.Len, e.Err)
}

// Unwrap gives the class of the failure.
func (e *VerifyError) Unwrap() error { return e.Err }
