package imagefmt

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// blockSize is the grain of zero detection and of frame splits, bytes.
const blockSize = 4096

// newEncoder makes the one encoder of the format. Its options are constants: a node encodes a frame again from its
// disk and must get the writer's bytes.
func newEncoder() *zstd.Encoder {
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(MaxFrameLength),
		zstd.WithSingleSegment(true),
		zstd.WithEncoderCRC(false), // the index has a SHA-256
		zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // constant options
	}
	return enc
}

func newDecoder() *zstd.Decoder {
	dec, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(MaxFrameLength),
		zstd.WithDecoderMaxMemory(MaxFrameLength),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err) // constant options
	}
	return dec
}

// encode packs raw into buf. A frame that saves less than 1/64 is stored: then data is raw itself.
func encode(enc *zstd.Encoder, raw, buf []byte) (kind FrameKind, data []byte) {
	data = enc.EncodeAll(raw, buf[:0])
	if len(data) > len(raw)-len(raw)/64-1 {
		return Stored, raw
	}
	return Zstd, data
}

// decode unpacks a zstd frame into dst, which it must fill to the last byte and never exceeds.
func decode(dec *zstd.Decoder, dst, data []byte) error {
	out, err := dec.DecodeAll(data, dst[:0:len(dst)])
	if err != nil {
		return fmt.Errorf("unpack: %w: %w", ErrFormat, err)
	}
	if len(out) != len(dst) {
		return fmt.Errorf("unpack: %d bytes, the index says %d: %w", len(out), len(dst), ErrFormat)
	}
	return nil
}

// unpackFrame returns the raw bytes of f: a part of data when stored, else in dst. With check the SHA-256 must match.
func unpackFrame(dec *zstd.Decoder, f *Frame, piece, dst []byte, check bool) ([]byte, error) {
	data := piece[f.Off : f.Off+f.Len]
	if f.Kind == Zstd {
		if err := decode(dec, dst, data); err != nil {
			return nil, err
		}
		data = dst
	}
	if check {
		return data, checkRaw(f, data)
	}
	return data, nil
}

func checkRaw(f *Frame, raw []byte) error {
	if sha256.Sum256(raw) != f.SHA256 {
		return fmt.Errorf("SHA-256 of the raw bytes: %w", ErrHash)
	}
	return nil
}

var zeroBlock [64 << 10]byte

func allZero(b []byte) bool {
	for len(b) > len(zeroBlock) {
		if !bytes.Equal(b[:len(zeroBlock)], zeroBlock[:]) {
			return false
		}
		b = b[len(zeroBlock):]
	}
	return bytes.Equal(b, zeroBlock[:len(b)])
}

// resize returns a slice of n bytes, in buf when it is large enough.
func resize(buf []byte, n int) []byte {
	if cap(buf) < n {
		return make([]byte, n)
	}
	return buf[:n]
}
