package imagefmt

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// goodManifest is a manifest with everything in it.
func goodManifest() *Manifest {
	return &Manifest{
		FormatVersion: 1, Name: "debian-12", Created: time.Unix(1700000000, 0).UTC(),
		DiskSize: 1 << 30, MinDiskSize: 600 << 20, SectorSize: 512, Layout: Packed,
		PieceLength: 256 << 10, PayloadLength: 3 << 20, FrameLength: 128 << 10,
		InfoHash: strings.Repeat("ab", 20), IndexLength: 1000, IndexSHA256: strings.Repeat("cd", 32),
		UsedBytes: 5 << 20, ZeroBytes: 1 << 20,
		Table: Table{Kind: TableGPT, GUID: "0FC63DAF-8483-4772-8E79-3D69D8477DE4", Partitions: []Partition{
			{Number: 1, Start: 1 << 20, Length: 100 << 20, Type: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", UUID: "0FC63DAF-8483-4772-8E79-3D69D8477DE5", FileSystem: "vfat"},
			{Number: 2, Start: 101 << 20, Length: 400 << 20, Type: "0FC63DAF-8483-4772-8E79-3D69D8477DE4", UUID: "0FC63DAF-8483-4772-8E79-3D69D8477DE6", Label: "root", FileSystem: "ext4"},
		}},
		Boot:       Boot{Root: 2, Cmdline: "console=ttyS0", Volume: volume("vg-0/lv_root", VolumeSegment{2, 1 << 20, 399 << 20})},
		Signatures: []Signature{{KeyID: "k", Algorithm: "none", Value: []byte{1}}},
	}
}

func volume(name string, segments ...VolumeSegment) *Volume { return &Volume{name, segments} }

func TestManifestRoundTrip(t *testing.T) {
	b, err := goodManifest().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := m.Marshal()
	if err != nil || !bytes.Equal(b, again) {
		t.Fatalf("marshaled again: %v\n%s", err, again)
	}
}

func TestBadManifests(t *testing.T) {
	for name, c := range map[string]struct {
		change func(m *Manifest)
		want   error
	}{
		"version":             {func(m *Manifest) { m.FormatVersion = 2 }, ErrVersion},
		"name with slash":     {func(m *Manifest) { m.Name = "../x" }, ErrFormat},
		"hidden name":         {func(m *Manifest) { m.Name = ".x" }, ErrFormat},
		"disk size":           {func(m *Manifest) { m.DiskSize = -1 }, ErrFormat},
		"file system beyond":  {func(m *Manifest) { m.Table.Partitions[0].FSLength = m.Table.Partitions[0].Length + 1 }, ErrFormat},
		"min above disk":      {func(m *Manifest) { m.MinDiskSize = 2 << 30 }, ErrFormat},
		"sector":              {func(m *Manifest) { m.SectorSize = 513 }, ErrFormat},
		"layout":              {func(m *Manifest) { m.Layout = "zip" }, ErrFormat},
		"piece length":        {func(m *Manifest) { m.PieceLength = 3 << 16 }, ErrFormat},
		"huge piece":          {func(m *Manifest) { m.PieceLength = 32 << 20 }, ErrFormat},
		"frame length":        {func(m *Manifest) { m.FrameLength = 2 << 20 }, ErrFormat},
		"frame beyond piece":  {func(m *Manifest) { m.FrameLength = 512 << 10 }, ErrFormat},
		"index length":        {func(m *Manifest) { m.IndexLength = 65 << 20 }, ErrFormat},
		"index beyond":        {func(m *Manifest) { m.IndexLength = 4 << 20 }, ErrFormat},
		"pieces":              {func(m *Manifest) { m.PayloadLength = 1 << 50 }, ErrFormat},
		"used":                {func(m *Manifest) { m.UsedBytes = 1 << 62; m.ZeroBytes = 1 << 62 }, ErrFormat},
		"info-hash":           {func(m *Manifest) { m.InfoHash = "00" }, ErrFormat},
		"upper case hash":     {func(m *Manifest) { m.InfoHash = strings.Repeat("AB", 20) }, ErrFormat},
		"partition beyond":    {func(m *Manifest) { m.Table.Partitions[1].Length = 1 << 62 }, ErrRange},
		"partition negative":  {func(m *Manifest) { m.Table.Partitions[1].Start = -512 }, ErrRange},
		"partition overlap":   {func(m *Manifest) { m.Table.Partitions[1].Start = 90 << 20 }, ErrOverlap},
		"partition twice":     {func(m *Manifest) { m.Table.Partitions[1].Number = 1 }, ErrFormat},
		"partition type":      {func(m *Manifest) { m.Table.Partitions[1].Type = "0x83" }, ErrFormat},
		"partition unaligned": {func(m *Manifest) { m.Table.Partitions[1].Length++ }, ErrFormat},
		"many partitions":     {func(m *Manifest) { m.Table.Partitions = make([]Partition, 257) }, ErrLimit},
		"table kind":          {func(m *Manifest) { m.Table.Kind = "bsd" }, ErrFormat},
		"boot code":           {func(m *Manifest) { m.Table.BootCode = make([]byte, 441) }, ErrFormat},
		"label with escape":   {func(m *Manifest) { m.Table.Partitions[0].Label = "\x1b[2J" }, ErrFormat},
		"boot root":           {func(m *Manifest) { m.Boot.Root = 3 }, ErrFormat},
		"boot kernel":         {func(m *Manifest) { m.Boot.Kernel = "vmlinuz" }, ErrFormat},
		"volume name":         {func(m *Manifest) { m.Boot.Volume = volume("root", VolumeSegment{2, 0, 512}) }, ErrFormat},
		"volume of nothing":   {func(m *Manifest) { m.Boot.Volume = volume("vg/root") }, ErrFormat},
		"volume elsewhere":    {func(m *Manifest) { m.Boot.Volume = volume("vg/root", VolumeSegment{1, 0, 512}) }, ErrFormat},
		"volume nowhere": {func(m *Manifest) {
			m.Boot.Volume = volume("vg/root", VolumeSegment{2, 0, 512}, VolumeSegment{3, 0, 512})
		}, ErrFormat},
		"volume too long":   {func(m *Manifest) { m.Boot.Volume = volume("vg/root", VolumeSegment{2, 512, 400 << 20}) }, ErrFormat},
		"volume overflow":   {func(m *Manifest) { m.Boot.Volume = volume("vg/root", VolumeSegment{2, 1<<63 - 512, 512}) }, ErrFormat},
		"volume of sectors": {func(m *Manifest) { m.Boot.Volume = volume("vg/root", VolumeSegment{2, 0, 511}) }, ErrFormat},
		"command line":      {func(m *Manifest) { m.Boot.Cmdline = "a\nb" }, ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			m := goodManifest()
			c.change(m)
			if _, err := m.Marshal(); !errors.Is(err, c.want) {
				t.Errorf("Marshal: %v, want %v", err, c.want)
			}
			b, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseManifest(b); !errors.Is(err, c.want) {
				t.Errorf("ParseManifest: %v, want %v", err, c.want)
			}
		})
	}
}

func TestBadManifestText(t *testing.T) {
	good, _ := goodManifest().Marshal()
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"empty":         {"", ErrFormat},
		"null":          {"null", ErrVersion},
		"array":         {"[]", ErrFormat},
		"trailing":      {string(good) + "{}", ErrFormat},
		"unknown field": {strings.Replace(string(good), `"name"`, `"extra": 1, "name"`, 1), ErrFormat},
		"wrong type":    {strings.Replace(string(good), `"diskSize": `, `"diskSize": 0.5`, 1), ErrFormat},
		"too long":      {strings.Repeat(" ", MaxManifestLength+1), ErrLimit},
	} {
		if _, err := ParseManifest([]byte(c.text)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// forge makes a manifest for an index that the writer would not make: lengths and hash fit, contents are free.
func forge(index []byte, pieces int) *Manifest {
	m := goodManifest()
	m.PieceLength, m.FrameLength, m.Table = 64<<10, 64<<10, Table{Kind: TableNone}
	m.Boot.Volume = nil
	m.IndexLength = int64(len(index))
	sum := sha256.Sum256(index)
	m.IndexSHA256 = hexString(sum[:])
	m.PayloadLength = int64(m.IndexPieces()+pieces) * m.PieceLength
	return m
}

func encodeIndex(zeros []Extent, pieces ...[]*packFrame) []byte {
	b := binary.AppendUvarint([]byte(indexMagic), uint64(len(pieces)))
	b = binary.AppendUvarint(b, uint64(len(zeros)))
	var end int64
	for _, z := range zeros {
		b = appendExtent(b, z, end, false)
		end = z.End()
	}
	for _, p := range pieces {
		b = appendRecord(b, p)
	}
	return b
}

func stored(e ...Extent) *packFrame {
	f := &packFrame{kind: Stored, extents: e}
	for _, x := range e {
		f.rawLen += int(x.Len)
	}
	f.data = make([]byte, f.rawLen)
	return f
}

func zstdFrame(size int, e ...Extent) *packFrame {
	f := stored(e...)
	f.kind, f.data = Zstd, make([]byte, size)
	return f
}

func TestBadIndexes(t *testing.T) {
	const k = 1 << 10
	full := stored(Extent{0, 64 * k})
	many := make([]Extent, MaxFrameExtents+1)
	for i := range many {
		many[i] = Extent{int64(i) * 16, 8}
	}
	for name, c := range map[string]struct {
		index  []byte
		pieces int
		want   error
	}{
		"empty":                  {nil, 0, ErrFormat},
		"magic":                  {[]byte("SBIY\x01\x00\x00"), 0, ErrFormat},
		"other version":          {[]byte("SBIX\x02\x00\x00"), 0, ErrFormat},
		"cut short":              {encodeIndex(nil, []*packFrame{full})[:20], 1, ErrFormat},
		"trailing":               {append(encodeIndex(nil, []*packFrame{full}), 0), 1, ErrFormat},
		"pieces":                 {encodeIndex(nil, []*packFrame{full}), 2, ErrMismatch},
		"no frames":              {encodeIndex(nil, []*packFrame{}), 1, ErrFormat},
		"no extents":             {encodeIndex(nil, []*packFrame{zstdFrame(64 * k)}), 1, ErrFormat},
		"empty extent":           {encodeIndex(nil, []*packFrame{zstdFrame(64*k, Extent{0, 0})}), 1, ErrFormat},
		"last piece not full":    {encodeIndex(nil, []*packFrame{stored(Extent{0, 4096})}), 1, ErrFormat},
		"piece too full":         {encodeIndex(nil, []*packFrame{full, stored(Extent{1 << 20, 1})}), 1, ErrFormat},
		"twice in a piece":       {encodeIndex(nil, []*packFrame{stored(Extent{0, 32 * k}), stored(Extent{32*k - 1, 32 * k})}), 1, ErrOverlap},
		"twice in a frame":       {encodeIndex(nil, []*packFrame{stored(Extent{100, 32 * k}, Extent{0, 32 * k})}), 1, ErrOverlap},
		"twice in two pieces":    {encodeIndex(nil, []*packFrame{full}, []*packFrame{stored(Extent{64*k - 1, 64 * k})}), 2, ErrOverlap},
		"same piece twice":       {encodeIndex(nil, []*packFrame{full}, []*packFrame{full}), 2, ErrOverlap},
		"zero and frame":         {encodeIndex([]Extent{{60 * k, 64 * k}}, []*packFrame{full}), 1, ErrOverlap},
		"beyond the disk":        {encodeIndex(nil, []*packFrame{stored(Extent{600<<20 - 64*k + 1, 64 * k})}), 1, ErrRange},
		"before the disk":        {encodeIndex(nil, []*packFrame{stored(Extent{-1, 64 * k})}), 1, ErrRange},
		"far beyond":             {encodeIndex(nil, []*packFrame{stored(Extent{1 << 61, 64 * k})}), 1, ErrRange},
		"zero beyond":            {encodeIndex([]Extent{{0, 601 << 20}}), 0, ErrRange},
		"frame too long":         {encodeIndex(nil, []*packFrame{zstdFrame(64*k, Extent{0, 64*k + 1})}), 1, ErrLimit},
		"zstd longer than raw":   {encodeIndex(nil, []*packFrame{zstdFrame(64*k, Extent{0, 64 * k})}), 1, ErrFormat},
		"stored of other length": {encodeIndex(nil, []*packFrame{{kind: Stored, data: make([]byte, 64*k), extents: []Extent{{0, k}}}}), 1, ErrFormat},
		"many extents":           {encodeIndex(nil, []*packFrame{stored(many...)}), 1, ErrFormat},
		"sum of bytes":           {encodeIndex(nil, []*packFrame{full}), 1, ErrMismatch},
		"frame count":            {append(encodeIndex(nil)[:5], 1, 0, 0xff, 0xff, 0xff, 0xff, 0x7f), 1, ErrFormat},
		"zero count":             {append(encodeIndex(nil)[:5], 0, 0xff, 0xff, 0xff, 0x01), 0, ErrFormat},
		"endless varint":         {append(encodeIndex(nil)[:5], bytes.Repeat([]byte{0xff}, 20)...), 0, ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			m := forge(c.index, c.pieces)
			if _, err := ParseIndex(c.index, m); !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
		})
	}
}

func TestIndexOfAnotherImage(t *testing.T) {
	im := build(t, randomSource(1, 1<<20, 4096), WriterOptions{})
	b := bytes.Clone(im.payload[:im.m.IndexLength])
	b[len(b)-1] ^= 1
	if _, err := ParseIndex(b, im.m); !errors.Is(err, ErrHash) {
		t.Errorf("changed byte: %v", err)
	}
	if _, err := ParseIndex(b[1:], im.m); !errors.Is(err, ErrMismatch) {
		t.Errorf("other length: %v", err)
	}
}

// TestRawBytesOfAPieceAreBounded forges a piece of frames that each unpack to the most a frame may hold.
func TestRawBytesOfAPieceAreBounded(t *testing.T) {
	var frames []*packFrame
	for i := range MaxPieceRaw>>16 + 1 {
		frames = append(frames, zstdFrame(16, Extent{int64(i) << 16, 64 << 10}))
	}
	b := encodeIndex(nil, frames)
	if _, err := ParseIndex(b, forge(b, 1)); !errors.Is(err, ErrLimit) {
		t.Fatalf("%v, want %v", err, ErrLimit)
	}
}

// TestDecompressionBomb: a frame that unpacks to 1 GiB where the index says 64 KiB fails without that memory.
func TestDecompressionBomb(t *testing.T) {
	enc, _ := zstd.NewWriter(nil, zstd.WithWindowSize(1<<20))
	var bomb bytes.Buffer
	enc.Reset(&bomb)
	for range 16 {
		if _, err := enc.Write(make([]byte, 64<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	dec := newDecoder()
	short := enc.EncodeAll(make([]byte, 4096), nil)
	for name, data := range map[string][]byte{
		"streamed": bomb.Bytes(), "sized": enc.EncodeAll(make([]byte, 65<<10), nil), "too short": short, "two frames": bytes.Repeat(short, 17),
		"garbage": []byte("not a zstd frame"), "empty": nil,
	} {
		dst := make([]byte, 64<<10)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := decode(dec, dst, data)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want %v", name, err, ErrFormat)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
			t.Errorf("%s: allocated %d bytes", name, n)
		}
	}
}
