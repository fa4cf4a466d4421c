package imagefmt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"testing"
)

func FuzzManifest(f *testing.F) {
	good, err := goodManifest().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"formatVersion":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			return
		}
		again, err := m.Marshal()
		if err != nil {
			t.Fatalf("read, but cannot be written: %v", err)
		}
		m2, err := ParseManifest(again)
		if err != nil {
			t.Fatalf("written, but cannot be read: %v", err)
		}
		if third, err := m2.Marshal(); err != nil || !bytes.Equal(again, third) {
			t.Fatalf("not stable: %v", err)
		}
	})
}

func FuzzMetainfo(f *testing.F) {
	f.Add(testMetainfo().Marshal("http://x/announce"))
	f.Add([]byte("d8:announce1:x4:infod6:lengthi1eee"))
	f.Fuzz(func(t *testing.T, b []byte) {
		mi, err := ParseMetainfo(b)
		if err != nil {
			return
		}
		again, err := ParseMetainfo(mi.Marshal("http://y/"))
		if err != nil || again.InfoHash != mi.InfoHash {
			t.Fatalf("written again: %v", err)
		}
		if _, ok := mi.PieceSHA1(len(mi.Pieces)/20 - 1); !ok {
			t.Fatal("no last piece")
		}
	})
}

// FuzzIndex gives the reader any bytes under a manifest that vouches for them; what it accepts must keep the promises
// of ParseIndex, and a Restorer must not write outside or twice.
func FuzzIndex(f *testing.F) {
	const k = 1 << 10
	f.Add(encodeIndex([]Extent{{512 * k, 64 * k}}, []*packFrame{stored(Extent{0, 32 * k}, Extent{100 * k, 32 * k})}), uint8(1), false)
	f.Add(encodeIndex(nil, []*packFrame{zstdFrame(30*k, Extent{0, 60 * k}), zstdFrame(34*k, Extent{64 * k, 40 * k})}, []*packFrame{zstdFrame(64*k-1, Extent{200 * k, 64 * k}), stored(Extent{300 * k, 1})}), uint8(2), false)
	f.Add(encodeIndex(nil, []*packFrame{stored(Extent{4, 64 * k})}), uint8(1), true)
	f.Fuzz(func(t *testing.T, b []byte, pieces uint8, verbatim bool) {
		if len(b) == 0 {
			return
		}
		m := forge(b, int(pieces))
		m.DiskSize, m.MinDiskSize = 1<<20, 1<<20
		if verbatim {
			m.Layout = Verbatim
		}
		// Sums that fit whatever the index says, so that the fuzzer gets past them.
		probe := Index{b: b, indexPieces: m.IndexPieces(), pieceLength: m.PieceLength, payload: m.PayloadLength, frameLength: m.FrameLength, verbatim: verbatim, diskEnd: m.MinDiskSize}
		var s indexScan
		if probe.gather(&s) == nil {
			m.UsedBytes, m.ZeroBytes = s.used, s.zero
		}
		ix, err := ParseIndex(b, m)
		if err != nil {
			return
		}
		disk := &memDisk{b: make([]byte, m.MinDiskSize), writes: make([]uint8, m.MinDiskSize)}
		for _, z := range ix.Zero() {
			for i := z.Off; i < z.End(); i++ {
				disk.writes[i]++
			}
		}
		data := make([]byte, m.PieceLength)
		for n := ix.IndexPieces(); n < ix.Pieces(); n++ {
			frames, err := ix.Frames(n)
			if err != nil {
				t.Fatal(err)
			}
			for i := range frames { // as if every frame were stored: only places matter here
				for _, e := range frames[i].Extents {
					if _, err := disk.WriteAt(make([]byte, e.Len), e.Off); err != nil {
						t.Fatal(err)
					}
				}
			}
			// With the zeros of this piece as data nothing may panic, whatever the error.
			_, _ = NewRestorer(ix, &memDisk{b: make([]byte, m.MinDiskSize), writes: make([]uint8, m.MinDiskSize)}, false).WritePiece(n, data[:ix.PieceSize(n)])
		}
		for i, w := range disk.writes {
			if w > 1 {
				t.Fatalf("byte %d written %d times", i, w)
			}
		}
	})
}

// FuzzFrame unpacks any bytes: never more than the raw length, and never without an error unless exactly that.
func FuzzFrame(f *testing.F) {
	enc := newEncoder()
	f.Add(enc.EncodeAll(bytes.Repeat([]byte("swarm"), 1000), nil), uint32(5000))
	f.Add(enc.EncodeAll(make([]byte, 1<<20), nil), uint32(4096))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd}, uint32(1))
	dec := newDecoder()
	f.Fuzz(func(t *testing.T, data []byte, rawLen uint32) {
		n := int(rawLen%MaxFrameLength) + 1
		guard := bytes.Repeat([]byte{0xEE}, n+64)
		if err := decode(dec, guard[:n], data); err == nil {
			if len(data) == 0 {
				t.Fatalf("%d bytes out of nothing", n)
			}
		}
		if !bytes.Equal(guard[n:], bytes.Repeat([]byte{0xEE}, 64)) {
			t.Fatal("wrote behind the frame")
		}
	})
}

// FuzzRoundTrip images a disk of the fuzzer's making and restores it.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("hello, swarm"), []byte{1, 2, 3, 0, 200, 7}, uint64(1), uint8(0))
	f.Add([]byte{0}, []byte{255, 255, 255, 255}, uint64(2), uint8(5))
	f.Add(bytes.Repeat([]byte("ab"), 3000), []byte{9, 90, 1, 1}, uint64(3), uint8(14))
	f.Fuzz(func(t *testing.T, pattern, runs []byte, seed uint64, option uint8) {
		const size = 1 << 18
		src := &testSource{memDisk: memDisk{b: make([]byte, size)}}
		if seed%2 == 0 {
			fillRandom(rand.New(rand.NewPCG(seed, 0)), src.b)
		}
		for at := int(seed>>8) % size; len(pattern) > 0 && at < size; at += len(pattern) * (1 + int(seed%7)) {
			copy(src.b[at:], pattern)
		}
		grain := []int64{1, 512, 4096}[seed%3]
		off := int64(0)
		for i := 0; i+1 < len(runs); i += 2 {
			off += int64(runs[i]) * grain
			n := (int64(runs[i+1]) + 1) * grain
			if off+n > size {
				break
			}
			src.extents = append(src.extents, Extent{off, n})
			off += n
		}
		o := []WriterOptions{{PieceLength: 16 << 10, FrameLength: 4 << 10}, {PieceLength: 32 << 10, FrameLength: 16 << 10}, {Layout: Verbatim, PieceLength: 16 << 10}}[option%3]
		o.Workers = 1 + int(option>>4)%3
		im := build(t, src, o)
		im.checkRestore(t)
		image, err := Open(im.m, bytes.NewReader(im.payload))
		if err != nil {
			t.Fatal(err)
		}
		if err := image.VerifyPieces(context.Background(), im.mi, nil); err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(im.payload[:im.m.IndexLength]); sum != im.res.IndexSHA256 {
			t.Fatal("index hash")
		}
	})
}
