package md

import "bytes"

const (
	bitmapMagic   = 0x6d746962
	bitmapVersion = 4   // little-endian on every machine
	bitmapHead    = 256 // bitmap_super_t
	bitmapDelay   = 5   // seconds until a bit is cleared
	// bitmapChunk is what one bit stands for at least, by default.
	bitmapChunk = 64 * mib
	// maxBitmapChunk is what the superblock's field can hold.
	maxBitmapChunk = 1 << 31
)

// bitmapShape is a write-intent bitmap that covers a member or, at level 10, the array. The zero value is none.
type bitmapShape struct {
	covers int64 // bytes
	chunk  int64 // bytes that a bit stands for
}

// newBitmap chooses the chunk so that the bits fit in room, bytes.
func newBitmap(covers, room int64) bitmapShape {
	fits := (room - bitmapHead) * 8
	chunk, bits := int64(4*kib), covers/(4*kib)+1
	for bits > fits {
		chunk *= 2
		bits = (bits + 1) / 2
	}
	return bitmapShape{covers, max(chunk, bitmapChunk)}
}

func (b bitmapShape) none() bool { return b.chunk == 0 }

// size is what the bitmap takes on a member, in bytes.
func (b bitmapShape) size() int64 {
	if b.none() {
		return 0
	}
	bits := (b.covers + b.chunk - 1) / b.chunk
	return roundUp(bitmapHead+(bits+7)/8, 4*kib)
}

// marshal returns a bitmap in which every bit is set: nothing is known to be in sync.
func (b bitmapShape) marshal(array UUID) []byte {
	m := bytes.Repeat([]byte{0xff}, int(b.size()))
	clear(m[:bitmapHead])
	le.PutUint32(m[0:], bitmapMagic)
	le.PutUint32(m[4:], bitmapVersion)
	copy(m[8:], array[:])
	le.PutUint64(m[40:], uint64(b.covers/sector))
	le.PutUint32(m[52:], uint32(b.chunk))
	le.PutUint32(m[56:], bitmapDelay)
	return m
}
