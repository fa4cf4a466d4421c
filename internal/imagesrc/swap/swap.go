// Package swap recognises Linux swap space, of which only the header is worth keeping: the first page, with the
// UUID and label (Linux kernel, union swap_header in include/linux/swap.h).
package swap

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"swarmboot/internal/imagesrc/volume"
)

const (
	minPage, maxPage = 4 << 10, 64 << 10

	headerOff  = 1024 // after the space for a boot loader
	badPageOff = headerOff + 512
)

// suspended are the signatures of a hibernated system, which take the place of swap's own.
var suspended = []string{"S1SUSPEND\x00", "S2SUSPEND\x00", "ULSUSPEND\x00", "LINHIB0001"}

// Read is a volume.Reader. The signature stands at the end of the first page, whose size is that of the machine
// that made the swap space: 4 KiB to 64 KiB.
func Read(r io.ReaderAt, size int64) (*volume.Info, error) {
	for page := int64(minPage); page <= maxPage && page <= size; page *= 2 {
		var sig [10]byte
		if _, err := r.ReadAt(sig[:], page-int64(len(sig))); err != nil {
			return nil, fmt.Errorf("read swap signature: %w", err)
		}
		switch s := string(sig[:]); s {
		case "SWAPSPACE2":
			return readHeader(r, size, page)
		case "SWAP-SPACE":
			return &volume.Info{FileSystem: "swap", Size: size, Opaque: "swap of version 0 is not known"}, nil
		case suspended[0], suspended[1], suspended[2], suspended[3]:
			return &volume.Info{FileSystem: "swap", Size: size, Dirty: "it holds a hibernated system"}, nil
		}
	}
	return nil, volume.ErrNotRecognised
}

func readHeader(r io.ReaderAt, size, page int64) (*volume.Info, error) {
	b := make([]byte, badPageOff)
	if _, err := r.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("read swap header: %w", err)
	}
	h := b[headerOff:]
	in := &volume.Info{FileSystem: "swap", Size: size}
	if v := binary.LittleEndian.Uint32(h); v != 1 {
		in.Opaque = fmt.Sprintf("swap header of version %#x is not known", v)
		return in, nil
	}
	pages, bad := int64(binary.LittleEndian.Uint32(h[4:]))+1, int64(binary.LittleEndian.Uint32(h[8:]))
	if pages*page > size {
		return nil, fmt.Errorf("swap: header says %d pages of %d bytes, only %d bytes are there", pages, page, size)
	}
	if bad > (page-badPageOff-10)/4 {
		return nil, fmt.Errorf("swap: header says %d bad pages", bad)
	}
	in.Size = pages * page
	if id := h[12:28]; !bytes.Equal(id, make([]byte, 16)) {
		in.UUID = fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	}
	name, _, _ := bytes.Cut(h[28:44], []byte{0})
	in.Label = strings.ToValidUTF8(string(name), "\uFFFD")
	m := &volume.Map{}
	m.Add(0, page)
	in.Extents = m.Extents(in.Size)
	return in, nil
}
