package target

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// Swap describes a swap area.
type Swap struct {
	Label string   // up to 15 bytes
	UUID  [16]byte // all zero: a random one
}

// Layout of a swap area, version 1 (linux/swap.h, union swap_header; mkswap(8)).
const (
	swapPage    = 4096 // bytes: the page size of amd64, and of arm64 as distributions build it
	swapHeader  = 1024 // offset of version, last page, number of bad pages
	swapUUID    = swapHeader + 12
	swapLabel   = swapHeader + 28
	swapMagic   = "SWAPSPACE2"
	minSwapPage = 10
)

// MakeSwap makes the first size bytes of w a swap area, as mkswap(8) does. Only its first page is written, so that
// it takes no longer for a large one; what else would be recognised there must have been wiped before. Of
// more than 2^32-1 pages (16 TiB) the rest stays unused.
func MakeSwap(w io.WriterAt, size int64, s Swap) error {
	if err := s.check(size); err != nil {
		return fmt.Errorf("make swap: %w", err)
	}
	pages := min(size/swapPage, 1<<32-1)
	b := make([]byte, swapPage)
	if s.UUID == [16]byte{} {
		s.UUID = randomUUID()
	}
	le := binary.LittleEndian
	le.PutUint32(b[swapHeader:], 1)
	le.PutUint32(b[swapHeader+4:], uint32(pages-1))
	copy(b[swapUUID:], s.UUID[:])
	copy(b[swapLabel:], s.Label)
	copy(b[swapPage-len(swapMagic):], swapMagic)
	if _, err := w.WriteAt(b, 0); err != nil {
		return fmt.Errorf("make swap: %w", err)
	}
	return nil
}

func (s Swap) check(size int64) error {
	if size < minSwapPage*swapPage {
		return fmt.Errorf("%d bytes are too few, want %d at least", size, minSwapPage*swapPage)
	}
	if len(s.Label) >= 16 || strings.ContainsRune(s.Label, 0) {
		return fmt.Errorf("label %.40q: want 15 bytes at most", s.Label)
	}
	return nil
}

// randomUUID is of version 4 (RFC 9562, 5.4).
func randomUUID() (u [16]byte) {
	rand.Read(u[:]) //nolint:errcheck // never fails since Go 1.24
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return u
}
