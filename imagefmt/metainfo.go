package imagefmt

import (
	"crypto/sha1" //nolint:gosec // BEP 3 says SHA-1; the raw bytes have SHA-256 in the index
	"fmt"
)

// PayloadSuffix follows the image's name in the name of the payload file, which is also the name in the info dict.
const PayloadSuffix = ".payload"

// indexKey is the key of the info dict that commits the info-hash to the index.
const indexKey = "swarmboot-index-sha256"

// Metainfo is the BitTorrent v1 metainfo (BEP 3, one file; private flag of BEP 27) of a payload.
type Metainfo struct {
	Name        string // name of the payload file: image name and PayloadSuffix
	PieceLength int64
	Length      int64
	Pieces      []byte // SHA-1 of every piece, 20 bytes each
	Private     bool
	IndexSHA256 [32]byte // zero when the info dict has none
	InfoHash    [20]byte
	InfoBytes   []byte // the info dict, bencoded
}

// encodeInfo sets InfoBytes and InfoHash from the other fields.
func (mi *Metainfo) encodeInfo() {
	b := make([]byte, 0, len(mi.Pieces)+len(mi.Name)+256)
	b = appendInt(appendString(append(b, 'd'), "length"), mi.Length)
	b = appendString(appendString(b, "name"), mi.Name)
	b = appendInt(appendString(b, "piece length"), mi.PieceLength)
	b = appendString(appendString(b, "pieces"), mi.Pieces)
	if mi.Private {
		b = appendInt(appendString(b, "private"), 1)
	}
	b = appendString(appendString(b, indexKey), mi.IndexSHA256[:])
	mi.InfoBytes = append(b, 'e')
	mi.InfoHash = sha1.Sum(mi.InfoBytes)
}

// Marshal returns the .torrent file with the announce URL given; none when "".
func (mi *Metainfo) Marshal(announce string) []byte {
	b := make([]byte, 0, len(mi.InfoBytes)+len(announce)+64)
	b = append(b, 'd')
	if announce != "" {
		b = appendString(appendString(b, "announce"), announce)
	}
	b = appendString(b, "info")
	return append(append(b, mi.InfoBytes...), 'e')
}

// ParseMetainfo reads a .torrent of at most MaxMetainfoLength bytes. It must be canonical bencode with one file; keys
// that it does not know are passed over. Pieces and InfoBytes are parts of b.
func ParseMetainfo(b []byte) (*Metainfo, error) {
	if len(b) > MaxMetainfoLength {
		return nil, fmt.Errorf("metainfo: %d bytes, the limit is %d: %w", len(b), MaxMetainfoLength, ErrLimit)
	}
	d := &bdecoder{b: b}
	mi := new(Metainfo)
	err := d.dict(func(key string) error {
		if key != "info" {
			return d.skip(1)
		}
		start := d.off
		if err := mi.parseInfo(d); err != nil {
			return err
		}
		mi.InfoBytes = b[start:d.off:d.off]
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case d.off != len(b):
		return nil, d.fail("data after the dictionary")
	case mi.InfoBytes == nil:
		return nil, d.fail("no info dictionary")
	}
	mi.InfoHash = sha1.Sum(mi.InfoBytes)
	if err := mi.validate(); err != nil {
		return nil, err
	}
	return mi, nil
}

func (mi *Metainfo) parseInfo(d *bdecoder) error {
	return d.dict(func(key string) (err error) {
		var s []byte
		var n int64
		switch key {
		case "length":
			mi.Length, err = d.integer()
		case "piece length":
			mi.PieceLength, err = d.integer()
		case "private":
			n, err = d.integer()
			mi.Private = n == 1
		case "name":
			s, err = d.str()
			mi.Name = string(s[:min(len(s), 1024)])
		case "pieces":
			s, err = d.str()
			mi.Pieces = s[:len(s):len(s)]
		case indexKey:
			s, err = d.str()
			if err == nil && len(s) != len(mi.IndexSHA256) {
				return d.fail(indexKey)
			}
			copy(mi.IndexSHA256[:], s)
		default:
			err = d.skip(2)
		}
		return err
	})
}

func (mi *Metainfo) validate() error {
	if mi.PieceLength < MinPieceLength || mi.PieceLength > MaxPieceLength || !powerOfTwo(mi.PieceLength) {
		return fmt.Errorf("metainfo: piece length %d: %w", mi.PieceLength, ErrFormat)
	}
	pieces := ceilDiv(mi.Length, mi.PieceLength)
	switch {
	case mi.Length <= 0 || pieces > MaxPieces:
		return fmt.Errorf("metainfo: length %d: %w", mi.Length, ErrLimit)
	case int64(len(mi.Pieces)) != pieces*sha1.Size:
		return fmt.Errorf("metainfo: %d bytes of hashes for %d pieces: %w", len(mi.Pieces), pieces, ErrFormat)
	case mi.Name == "" || !printable(mi.Name, 255):
		return fmt.Errorf("metainfo: name %.80q: %w", mi.Name, ErrFormat)
	}
	return nil
}

// PieceSHA1 is the hash of a piece; ok is false when there is no such piece.
func (mi *Metainfo) PieceSHA1(piece int) (h [sha1.Size]byte, ok bool) {
	if piece < 0 || piece >= len(mi.Pieces)/sha1.Size {
		return h, false
	}
	return [sha1.Size]byte(mi.Pieces[piece*sha1.Size:]), true
}

// Check says whether metainfo and manifest belong together; an error wraps ErrMismatch and names the field.
func (mi *Metainfo) Check(m *Manifest) error {
	sum, err := m.IndexSHA256Bytes()
	if err != nil {
		return err
	}
	for _, f := range []struct {
		field string
		ok    bool
	}{
		{"info-hash", hexString(mi.InfoHash[:]) == m.InfoHash},
		{"name", mi.Name == m.Name+PayloadSuffix},
		{"piece length", mi.PieceLength == m.PieceLength},
		{"length", mi.Length == m.PayloadLength},
		{"private flag", mi.Private},
		{"index SHA-256", mi.IndexSHA256 == sum},
	} {
		if !f.ok {
			return fmt.Errorf("metainfo of %q against the manifest: %s: %w", m.Name, f.field, ErrMismatch)
		}
	}
	return nil
}
