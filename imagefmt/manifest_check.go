package imagefmt

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	nameRE    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$`)
	guidRE    = regexp.MustCompile(`^[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}$`)
	mbrTypeRE = regexp.MustCompile(`^0x[0-9a-f]{2}$`)
	mbrUUIDRE = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{2}$`)
	mbrSigRE  = regexp.MustCompile(`^[0-9a-f]{8}$`)
)

// ValidName says whether name can name an image: letters, digits and "._+-", at most 128, a letter or digit first.
func ValidName(name string) bool { return nameRE.MatchString(name) }

// ParseManifest reads a manifest of at most MaxManifestLength bytes. Unknown fields, trailing data and values that
// contradict each other are errors; a later format version wraps ErrVersion.
func ParseManifest(b []byte) (*Manifest, error) {
	if len(b) > MaxManifestLength {
		return nil, fmt.Errorf("manifest: %d bytes, the limit is %d: %w", len(b), MaxManifestLength, ErrLimit)
	}
	var v struct {
		FormatVersion int `json:"formatVersion"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, fmt.Errorf("manifest: %w: %w", ErrFormat, err)
	}
	if v.FormatVersion != FormatVersion {
		return nil, fmt.Errorf("manifest: formatVersion %d, this program knows %d: %w", v.FormatVersion, FormatVersion, ErrVersion)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	m := new(Manifest)
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("manifest: %w: %w", ErrFormat, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("manifest: data after the JSON object: %w", ErrFormat)
	}
	if err := m.validate(); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *Manifest) validate() error {
	if m.FormatVersion != FormatVersion {
		return fmt.Errorf("manifest: formatVersion %d, this program knows %d: %w", m.FormatVersion, FormatVersion, ErrVersion)
	}
	if !ValidName(m.Name) {
		return manifestErr("name %.140q: want letters, digits and ._+-", m.Name)
	}
	for _, check := range []func() error{m.checkSizes, m.checkPayload, m.checkTable, m.checkBoot} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func manifestErr(format string, a ...any) error {
	return fmt.Errorf("manifest: "+format+": %w", append(a, ErrFormat)...)
}

func powerOfTwo(n int64) bool { return n > 0 && bits.OnesCount64(uint64(n)) == 1 }

func (m *Manifest) checkSizes() error {
	switch {
	case m.SectorSize < 512 || m.SectorSize > 65536 || !powerOfTwo(int64(m.SectorSize)):
		return manifestErr("sectorSize %d: want a power of two from 512 to 65536", m.SectorSize)
	case m.DiskSize <= 0 || m.DiskSize > MaxDiskSize:
		return manifestErr("diskSize %d", m.DiskSize)
	case m.MinDiskSize <= 0 || m.MinDiskSize > m.DiskSize:
		return manifestErr("minDiskSize %d of diskSize %d", m.MinDiskSize, m.DiskSize)
	case m.UsedBytes < 0 || m.ZeroBytes < 0 || m.UsedBytes > m.MinDiskSize || m.ZeroBytes > m.MinDiskSize-m.UsedBytes:
		return manifestErr("usedBytes %d and zeroBytes %d of minDiskSize %d", m.UsedBytes, m.ZeroBytes, m.MinDiskSize)
	}
	return nil
}

func checkLengths(layout Layout, pieceLength, frameLength int64) error {
	switch {
	case layout != Packed && layout != Verbatim:
		return fmt.Errorf("layout %.20q: want packed or verbatim: %w", layout, ErrFormat)
	case pieceLength < MinPieceLength || pieceLength > MaxPieceLength || !powerOfTwo(pieceLength):
		return fmt.Errorf("pieceLength %d: want a power of two from %d to %d: %w", pieceLength, MinPieceLength, MaxPieceLength, ErrFormat)
	case frameLength < MinFrameLength || frameLength > MaxFrameLength || frameLength > pieceLength || frameLength%blockSize != 0:
		return fmt.Errorf("frameLength %d: want a multiple of %d, at most %d and a piece: %w", frameLength, blockSize, MaxFrameLength, ErrFormat)
	}
	return nil
}

func (m *Manifest) checkPayload() error {
	if err := checkLengths(m.Layout, m.PieceLength, m.FrameLength); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	switch {
	case m.IndexLength <= 0 || m.IndexLength > MaxIndexLength:
		return manifestErr("indexLength %d: at most %d", m.IndexLength, MaxIndexLength)
	case m.PayloadLength < int64(m.IndexPieces())*m.PieceLength:
		return manifestErr("payloadLength %d does not hold the index", m.PayloadLength)
	case ceilDiv(m.PayloadLength, m.PieceLength) > MaxPieces:
		return manifestErr("payloadLength %d: more than %d pieces", m.PayloadLength, MaxPieces)
	case strings.ToLower(m.InfoHash+m.IndexSHA256) != m.InfoHash+m.IndexSHA256:
		return manifestErr("hashes in upper case")
	}
	if _, err := m.InfoHashBytes(); err != nil {
		return err
	}
	_, err := m.IndexSHA256Bytes()
	return err
}

func (m *Manifest) checkTable() error {
	t := &m.Table
	switch t.Kind {
	case TableGPT:
		if !guidRE.MatchString(t.GUID) {
			return manifestErr("table.guid %.40q: want a GUID in upper case", t.GUID)
		}
	case TableMBR:
		if !mbrSigRE.MatchString(t.DiskSignature) {
			return manifestErr("table.diskSignature %.40q: want 8 hex digits in lower case", t.DiskSignature)
		}
	case TableNone:
		if len(t.Partitions) > 0 {
			return manifestErr("partitions without a table")
		}
	default:
		return manifestErr("table.kind %.20q: want gpt, mbr or none", t.Kind)
	}
	if len(t.BootCode) > 440 {
		return manifestErr("table.bootCode of %d bytes: at most 440", len(t.BootCode))
	}
	if len(t.Partitions) > MaxPartitions {
		return fmt.Errorf("manifest: %d partitions, the limit is %d: %w", len(t.Partitions), MaxPartitions, ErrLimit)
	}
	seen := map[int]bool{}
	for i := range t.Partitions {
		if err := m.checkPartition(&t.Partitions[i]); err != nil {
			return err
		}
		if seen[t.Partitions[i].Number] {
			return manifestErr("partition %d: listed twice", t.Partitions[i].Number)
		}
		seen[t.Partitions[i].Number] = true
	}
	return m.checkPartitionOverlap()
}

func (m *Manifest) checkPartition(p *Partition) error {
	sector := int64(m.SectorSize)
	switch {
	case p.Number < 1 || p.Number > MaxPartitions:
		return manifestErr("partition number %d", p.Number)
	case p.Start < 0 || p.Length <= 0 || p.Start > m.MinDiskSize || p.Length > m.MinDiskSize-p.Start:
		return fmt.Errorf("manifest: partition %d: bytes %d+%d of minDiskSize %d: %w", p.Number, p.Start, p.Length, m.MinDiskSize, ErrRange)
	case p.Start%sector != 0 || p.Length%sector != 0:
		return manifestErr("partition %d: bytes %d+%d are not whole sectors", p.Number, p.Start, p.Length)
	case p.FSLength < 0 || p.FSLength > p.Length:
		return manifestErr("partition %d: fsLength %d of %d", p.Number, p.FSLength, p.Length)
	case p.UsedBytes < 0 || p.UsedBytes > p.Length:
		return manifestErr("partition %d: usedBytes %d of %d", p.Number, p.UsedBytes, p.Length)
	}
	typeRE, uuidRE := guidRE, guidRE
	if m.Table.Kind == TableMBR {
		typeRE, uuidRE = mbrTypeRE, mbrUUIDRE
	}
	if !typeRE.MatchString(p.Type) {
		return manifestErr("partition %d: type %.40q", p.Number, p.Type)
	}
	if !uuidRE.MatchString(p.UUID) && (p.UUID != "" || m.Table.Kind == TableGPT) {
		return manifestErr("partition %d: uuid %.40q", p.Number, p.UUID)
	}
	for _, s := range []string{p.Label, p.FileSystem, p.FSLabel, p.FSUUID} {
		if !printable(s, 256) {
			return manifestErr("partition %d: text %.40q", p.Number, s)
		}
	}
	return nil
}

// Extended says whether p is the container of an MBR for logical partitions, which lie inside it.
func (p *Partition) Extended() bool { return p.Type == "0x05" || p.Type == "0x0f" || p.Type == "0x85" }

func (m *Manifest) checkPartitionOverlap() error {
	var spans []Extent
	for i := range m.Table.Partitions {
		if p := &m.Table.Partitions[i]; !p.Extended() {
			spans = append(spans, Extent{p.Start, p.Length})
		}
	}
	if e, ok := firstOverlap(spans); ok {
		return fmt.Errorf("manifest: two partitions hold byte %d: %w", e.Off, ErrOverlap)
	}
	return nil
}

func (m *Manifest) checkBoot() error {
	found := m.Boot.Root == 0
	for _, p := range m.Table.Partitions {
		found = found || p.Number == m.Boot.Root
	}
	if !found {
		return manifestErr("boot.root %d: no such partition", m.Boot.Root)
	}
	if err := m.Boot.Check(); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	if err := m.checkVolume(); err != nil {
		return err
	}
	for _, s := range m.Signatures {
		if !printable(s.KeyID, 256) || !printable(s.Algorithm, 64) {
			return manifestErr("signature %.40q", s.KeyID)
		}
	}
	return nil
}

// MaxVolumeSegments bounds the segments of boot.volume.
const MaxVolumeSegments = 1024

var volumeNameRE = regexp.MustCompile(`^[A-Za-z0-9_+.-]{1,127}/[A-Za-z0-9_+.-]{1,127}$`)

func (m *Manifest) checkVolume() error {
	v := m.Boot.Volume
	if v == nil {
		return nil
	}
	if !volumeNameRE.MatchString(v.Name) {
		return manifestErr("boot.volume.name %.200q: want GROUP/VOLUME", v.Name)
	}
	if len(v.Segments) == 0 || len(v.Segments) > MaxVolumeSegments || v.Segments[0].Partition != m.Boot.Root {
		return manifestErr("boot.volume has %d segments, or does not begin in boot.root", len(v.Segments))
	}
	for _, s := range v.Segments {
		room := int64(-1)
		if s.Partition == 0 && len(m.Table.Partitions) == 0 {
			room = m.DiskSize
		}
		for _, p := range m.Table.Partitions {
			if p.Number == s.Partition {
				room = p.Length
			}
		}
		if s.Off < 0 || s.Len <= 0 || s.Off%512 != 0 || s.Len%512 != 0 || s.Off > room || s.Len > room-s.Off {
			return manifestErr("boot.volume: segment %d+%d of partition %d, which has %d bytes", s.Off, s.Len, s.Partition, room)
		}
	}
	return nil
}

// Check says whether a manifest can hold the paths and the command line; Root is checked against its partitions.
func (b *Boot) Check() error {
	for _, path := range []string{b.Kernel, b.Initrd} {
		if path != "" && (path[0] != '/' || !printable(path, 4096)) {
			return fmt.Errorf("boot path %.80q: want an absolute path: %w", path, ErrFormat)
		}
	}
	if !printable(b.Cmdline, 2048) {
		return fmt.Errorf("boot.cmdline %.80q: want at most 2048 printable characters: %w", b.Cmdline, ErrFormat)
	}
	return nil
}

// printable keeps control characters out of consoles and logs.
func printable(s string, limit int) bool {
	return len(s) <= limit && utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

func hexString(b []byte) string { return hex.EncodeToString(b) }
