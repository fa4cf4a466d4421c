package imagefmt

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// FormatVersion is the version of the format that this package reads and writes.
const FormatVersion = 1

// Layout says how the used bytes of a disk lie in the payload.
type Layout string

const (
	// Packed pieces hold whole compressed (or stored) frames, then zero padding.
	Packed Layout = "packed"
	// Verbatim pieces are the used extents one after the other, not compressed.
	Verbatim Layout = "verbatim"
)

// Kinds of partition table.
const (
	TableGPT  = "gpt"
	TableMBR  = "mbr"
	TableNone = "none"
)

// Extent is a run of bytes on a disk: offset and length in bytes.
type Extent struct {
	Off int64 `json:"off"`
	Len int64 `json:"len"`
}

// End is the offset of the first byte after the extent.
func (e Extent) End() int64 { return e.Off + e.Len }

// Manifest describes one image; FORMAT.md, "Manifest", says what each field means.
type Manifest struct {
	FormatVersion int       `json:"formatVersion"`
	Name          string    `json:"name"`
	Created       time.Time `json:"created"`

	DiskSize    int64 `json:"diskSize"`    // bytes of the source disk
	MinDiskSize int64 `json:"minDiskSize"` // bytes a target must have at least
	SectorSize  int   `json:"sectorSize"`  // logical sector, bytes
	Table       Table `json:"table"`

	Layout        Layout `json:"layout"`
	PieceLength   int64  `json:"pieceLength"`
	PayloadLength int64  `json:"payloadLength"`
	FrameLength   int64  `json:"frameLength"` // raw bytes in a frame, at most
	InfoHash      string `json:"infoHash"`    // SHA-1 of the info dict, 40 hex digits
	IndexLength   int64  `json:"indexLength"` // bytes of the index, padding not counted
	IndexSHA256   string `json:"indexSHA256"` // 64 hex digits
	UsedBytes     int64  `json:"usedBytes"`   // raw bytes in frames
	ZeroBytes     int64  `json:"zeroBytes"`   // bytes in zero extents

	Boot       Boot        `json:"boot"`
	Signatures []Signature `json:"signatures,omitempty"`
}

// Table is the partition table of the source disk. A node writes it anew, to the size of its own disk.
type Table struct {
	Kind          string      `json:"kind"`                    // TableGPT, TableMBR or TableNone
	GUID          string      `json:"guid,omitempty"`          // disk GUID (gpt), upper case
	BootCode      []byte      `json:"bootCode,omitempty"`      // first 440 bytes of sector 0; omitted when all zero
	DiskSignature string      `json:"diskSignature,omitempty"` // mbr, 8 hex digits, lower case
	Partitions    []Partition `json:"partitions,omitempty"`
}

// Partition is one entry of the table. Start and Length are bytes.
type Partition struct {
	Number     int    `json:"number"`
	Start      int64  `json:"start"`
	Length     int64  `json:"length"`
	Type       string `json:"type"`                 // GPT type GUID, upper case, or "0x83"
	UUID       string `json:"uuid,omitempty"`       // GPT unique GUID, upper case; mbr "xxxxxxxx-01"
	Label      string `json:"label,omitempty"`      // GPT partition name
	Attributes uint64 `json:"attributes,omitempty"` // GPT attribute bits
	Bootable   bool   `json:"bootable,omitempty"`   // MBR active flag
	FileSystem string `json:"fileSystem,omitempty"` // ext2, ext3, ext4, vfat, swap, LVM2_member, or "" when unknown
	FSLabel    string `json:"fsLabel,omitempty"`
	FSUUID     string `json:"fsUUID,omitempty"`
	FSLength   int64  `json:"fsLength,omitempty"` // bytes from Start that the file system spans and nothing of the image lies behind; 0 when unknown
	UsedBytes  int64  `json:"usedBytes"`
}

// Boot says what to kexec on a deployed disk.
type Boot struct {
	Root    int    `json:"root"`              // partition number; 0: the whole disk is the file system
	Kernel  string `json:"kernel,omitempty"`  // absolute path in root; "": newest /boot/vmlinuz-*
	Initrd  string `json:"initrd,omitempty"`  // absolute path in root; "": the one beside the kernel
	Cmdline string `json:"cmdline,omitempty"` // kernel command line

	// Volume is the LVM logical volume that is the root file system; nil: partition Root is.
	Volume *Volume `json:"volume,omitempty"`
}

// Volume is a linear logical volume: its bytes are those of the segments, one after the other.
type Volume struct {
	Name     string          `json:"name"` // GROUP/VOLUME
	Segments []VolumeSegment `json:"segments"`
}

// VolumeSegment is a run of bytes of a partition (0: of the whole disk), which moves with the partition.
type VolumeSegment struct {
	Partition int   `json:"partition"`
	Off       int64 `json:"off"`
	Len       int64 `json:"len"`
}

// Signature is the place kept for signatures over a manifest; version 1 defines none.
type Signature struct {
	KeyID     string `json:"keyID"`
	Algorithm string `json:"algorithm"`
	Value     []byte `json:"value"`
}

// Marshal checks the manifest and returns it as indented JSON with a final newline.
func (m *Manifest) Marshal() ([]byte, error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if len(b)+1 > MaxManifestLength {
		return nil, fmt.Errorf("manifest: %d bytes, the limit is %d: %w", len(b)+1, MaxManifestLength, ErrLimit)
	}
	return append(b, '\n'), nil
}

// Pieces is the number of pieces in the payload, index pieces included.
func (m *Manifest) Pieces() int { return int(ceilDiv(m.PayloadLength, m.PieceLength)) }

// IndexPieces is the number of pieces at the front of the payload that hold the index.
func (m *Manifest) IndexPieces() int { return int(ceilDiv(m.IndexLength, m.PieceLength)) }

// PieceSize is the length in bytes of a piece: PieceLength but for the last one, 0 when out of range.
func (m *Manifest) PieceSize(piece int) int64 {
	if piece < 0 || piece >= m.Pieces() {
		return 0
	}
	return min(m.PieceLength, m.PayloadLength-int64(piece)*m.PieceLength)
}

// InfoHashBytes is InfoHash decoded.
func (m *Manifest) InfoHashBytes() (h [20]byte, err error) {
	err = decodeHex(h[:], m.InfoHash, "infoHash")
	return h, err
}

// IndexSHA256Bytes is IndexSHA256 decoded.
func (m *Manifest) IndexSHA256Bytes() (h [32]byte, err error) {
	err = decodeHex(h[:], m.IndexSHA256, "indexSHA256")
	return h, err
}

func decodeHex(dst []byte, s, field string) error {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(dst) {
		return fmt.Errorf("manifest: %s %.80q: want %d hex digits: %w", field, s, 2*len(dst), ErrFormat)
	}
	copy(dst, b)
	return nil
}

func ceilDiv(a, b int64) int64 {
	if a <= 0 || b <= 0 {
		return 0
	}
	return 1 + (a-1)/b
}
