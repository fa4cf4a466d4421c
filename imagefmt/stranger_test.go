package imagefmt_test

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // BEP 3
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/anacrolix/torrent/bencode"
	"github.com/klauspost/compress/zstd"

	"swarmboot/imagefmt"
)

// stranger reads an image by FORMAT.md and nothing else of this package, so that a change of what is written
// cannot go together with a change of what is read.
type stranger struct {
	t       *testing.T
	index   []byte
	payload []byte
	dec     *zstd.Decoder
	m       struct {
		FormatVersion, DiskSize, MinDiskSize, PieceLength, PayloadLength, FrameLength, IndexLength, UsedBytes, ZeroBytes int64
		Name, InfoHash, IndexSHA256                                                                                      string
	}
	disk  []byte
	owner []byte // of each byte of the disk: 0 unused, 'd' data, 'z' zero
	used  int64
	zero  int64
}

func (s *stranger) must(ok bool, what string, a ...any) {
	s.t.Helper()
	if !ok {
		s.t.Fatalf("FORMAT.md: "+what, a...)
	}
}

func (s *stranger) uvarint() (v int64) {
	for shift := 0; ; shift += 7 {
		s.must(len(s.index) > 0 && shift < 63, "index ends in a number")
		b := s.index[0]
		s.index = s.index[1:]
		v |= int64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
}

func (s *stranger) zigzag() int64 {
	v := s.uvarint()
	return v>>1 ^ -(v & 1)
}

// put lays bytes down on the disk, each place once.
func (s *stranger) put(off int64, b []byte, owner byte) {
	s.must(off >= 0 && off+int64(len(b)) <= s.m.MinDiskSize, "bytes %d+%d beyond minDiskSize", off, len(b))
	for i := range b {
		if s.owner[off+int64(i)] != 0 {
			s.t.Fatalf("FORMAT.md: byte %d is in two extents", off+int64(i))
		}
		s.owner[off+int64(i)] = owner
	}
	copy(s.disk[off:], b)
}

func (s *stranger) read(manifest, torrent []byte) {
	s.must(json.Unmarshal(manifest, &s.m) == nil, "manifest is no JSON")
	s.must(s.m.FormatVersion == 1 && int64(len(s.payload)) == s.m.PayloadLength, "manifest %+v", s.m)
	s.disk, s.owner = make([]byte, s.m.DiskSize), make([]byte, s.m.DiskSize)
	s.index = s.payload[:s.m.IndexLength]
	sum := sha256.Sum256(s.index)
	s.must(hex.EncodeToString(sum[:]) == s.m.IndexSHA256, "indexSHA256")
	s.metainfo(torrent, sum)
	s.must(string(s.index[:5]) == "SBIX\x01", "magic")
	s.index = s.index[5:]
	pieces, zeros := s.uvarint(), s.uvarint()
	first := (s.m.IndexLength + s.m.PieceLength - 1) / s.m.PieceLength
	s.must(first+pieces == (s.m.PayloadLength+s.m.PieceLength-1)/s.m.PieceLength, "%d data pieces", pieces)
	end := int64(0)
	for range zeros {
		off := end + s.uvarint()
		n := s.uvarint()
		s.put(off, make([]byte, n), 'z')
		end, s.zero = off+n, s.zero+n
	}
	s.must(!slices.ContainsFunc(s.payload[s.m.IndexLength:first*s.m.PieceLength], notZero), "padding behind the index")
	for i := first; i < first+pieces; i++ {
		s.piece(s.payload[i*s.m.PieceLength:min((i+1)*s.m.PieceLength, s.m.PayloadLength)], i == first+pieces-1)
	}
	s.must(len(s.index) == 0 && s.used == s.m.UsedBytes && s.zero == s.m.ZeroBytes, "%d bytes left, %d used, %d zero", len(s.index), s.used, s.zero)
}

func notZero(b byte) bool { return b != 0 }

func (s *stranger) piece(b []byte, last bool) {
	end := int64(0)
	var err error
	for range s.uvarint() {
		head := s.uvarint()
		raw, rest := b[:head>>1], b[head>>1:]
		if head&1 == 1 {
			raw, err = s.dec.DecodeAll(raw, nil)
			s.must(err == nil && int64(len(raw)) > head>>1, "zstd frame: %v", err)
		}
		sum, left := sha256.Sum256(raw), raw
		for range s.uvarint() {
			off := end + s.zigzag()
			n := s.uvarint()
			s.put(off, left[:n], 'd')
			end, left = off+n, left[n:]
		}
		s.must(len(left) == 0 && int64(len(raw)) <= s.m.FrameLength, "frame of %d bytes, %d in no extent", len(raw), len(left))
		s.must(bytes.Equal(sum[:], s.index[:32]), "SHA-256 of the raw bytes")
		b, s.index, s.used = rest, s.index[32:], s.used+int64(len(raw))
	}
	s.must(!slices.ContainsFunc(b, notZero) && (!last || len(b) == 0), "padding")
}

func (s *stranger) metainfo(torrent []byte, index [32]byte) {
	var mi struct {
		Info bencode.Bytes `bencode:"info"`
	}
	var info struct {
		Length      int64  `bencode:"length"`
		Name        string `bencode:"name"`
		PieceLength int64  `bencode:"piece length"`
		Pieces      string `bencode:"pieces"`
		Private     int    `bencode:"private"`
		Index       string `bencode:"swarmboot-index-sha256"`
	}
	s.must(bencode.Unmarshal(torrent, &mi) == nil && bencode.Unmarshal(mi.Info, &info) == nil, "metainfo is no bencode")
	sum := sha1.Sum(mi.Info)
	s.must(hex.EncodeToString(sum[:]) == s.m.InfoHash, "infoHash")
	s.must(info.Length == s.m.PayloadLength && info.Name == s.m.Name+".payload" && info.PieceLength == s.m.PieceLength, "info %+v", info)
	s.must(info.Private == 1 && info.Index == string(index[:]), "private %d, index %x", info.Private, info.Index)
	var pieces []byte
	for b := s.payload; len(b) > 0; b = b[min(int64(len(b)), s.m.PieceLength):] {
		sum := sha1.Sum(b[:min(int64(len(b)), s.m.PieceLength)])
		pieces = append(pieces, sum[:]...)
	}
	s.must(info.Pieces == string(pieces), "SHA-1 of the pieces")
}

// buffer is a payload in memory.
type buffer struct{ b []byte }

func (f *buffer) ReadAt(p []byte, off int64) (int, error)  { return copy(p, f.b[off:]), nil }
func (f *buffer) WriteAt(p []byte, off int64) (int, error) { return copy(f.b[off:], p), nil }
func (f *buffer) Truncate(n int64) error                   { f.b = f.b[:n]; return nil }

type disk struct {
	*bytes.Reader
	extents []imagefmt.Extent
}

func (d disk) Extents() []imagefmt.Extent { return d.extents }

func TestFormatByAStranger(t *testing.T) {
	const size = 8 << 20
	content, used := make([]byte, size), make([]bool, size)
	r := rand.New(rand.NewPCG(11, 12))
	var extents []imagefmt.Extent
	for off := int64(0); off < size-1<<19; {
		off += r.Int64N(100_000)
		n := 1 + r.Int64N(300_000)
		extents = append(extents, imagefmt.Extent{Off: off, Len: n})
		kind := r.IntN(4)
		for i := off; i < off+n; i++ {
			used[i] = true
			switch kind {
			case 0: // zero
			case 1:
				content[i] = byte(r.Uint32())
			default:
				content[i] = "swarmboot "[i%10] + byte(i>>12)
			}
		}
		off += n
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	for _, o := range []imagefmt.WriterOptions{
		{}, {Layout: imagefmt.Verbatim}, {PieceLength: 16 << 10, FrameLength: 8 << 10}, {PieceLength: 1 << 20, FrameLength: 1 << 20},
	} {
		out := &buffer{make([]byte, 4*size)}
		res, err := imagefmt.Write(context.Background(), out, disk{bytes.NewReader(content), extents}, "img", o)
		if err != nil {
			t.Fatal(err)
		}
		m := &imagefmt.Manifest{SectorSize: 512, Created: time.Unix(1e9, 0), Table: imagefmt.Table{Kind: imagefmt.TableNone}}
		res.Fill(m)
		manifest, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		s := &stranger{t: t, payload: out.b, dec: dec}
		s.read(manifest, res.Metainfo)
		s.must(s.zero >= 256<<10, "only %d bytes are zero extents", s.zero)
		for i, u := range used {
			if u != (s.owner[i] != 0) || s.disk[i] != content[i] {
				t.Fatalf("%+v: byte %d: used %v, in an extent %q", o, i, u, s.owner[i])
			}
		}
	}
}
