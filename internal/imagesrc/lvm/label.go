package lvm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

const (
	sector      = 512
	scanSectors = 4 // the label is in one of the first sectors
	mdaHeader   = 512
	maxText     = 8 << 20 // bytes of metadata text that are read
	maxAreas    = 8

	labelMagic   = "LABELONE"
	labelType    = "LVM2 001"
	mdaMagic     = " LVM2 x[5A%r0N*>"
	mdaVersion   = 1
	initialCRC   = 0xf597a6cf
	ignoredFlag  = 1
	rawLocations = 40 // offset of the first raw_locn in an mda_header
)

// ErrNone says that there is no LVM label.
var ErrNone = errors.New("no LVM label")

// checksum is LVM's calc_crc: CRC-32 without the inversions.
func checksum(b []byte) uint32 {
	return ^crc32.Update(^uint32(initialCRC), crc32.IEEETable, b)
}

// Read reads the physical volume that fills size bytes of r. Without a label the error is ErrNone. Damage is no
// error: Groups tells of it.
func Read(r io.ReaderAt, size int64) (*PV, error) {
	b := make([]byte, scanSectors*sector)
	if size < int64(len(b)) {
		return nil, ErrNone
	}
	if _, err := r.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("read LVM label: %w", err)
	}
	for n := range scanSectors {
		s := b[n*sector:][:sector]
		if string(s[:8]) != labelMagic {
			continue
		}
		pv := &PV{Size: size}
		areas, err := pv.parseLabel(s, n)
		if err != nil {
			pv.bad = "LVM label: " + err.Error()
			return pv, nil
		}
		return pv, pv.readAreas(r, areas)
	}
	return nil, ErrNone
}

// parseLabel reads label_header and pv_header, which lie in one sector, and returns the metadata areas.
func (pv *PV) parseLabel(s []byte, n int) ([]Area, error) {
	le := binary.LittleEndian
	switch at := le.Uint32(s[20:]); {
	case string(s[24:32]) != labelType:
		return nil, fmt.Errorf("type %.8q is not known", s[24:32])
	case le.Uint64(s[8:]) != uint64(n):
		return nil, fmt.Errorf("it says that it is in sector %d, not %d", le.Uint64(s[8:]), n)
	case checksum(s[20:]) != le.Uint32(s[16:]):
		return nil, errors.New("its checksum is wrong")
	case at < 32 || at > sector-40:
		return nil, fmt.Errorf("the header is at byte %d", at)
	default:
		s = s[at:]
	}
	pv.UUID = formatUUID(string(s[:32]))
	s = s[40:]
	var lists [2][]Area // data areas, metadata areas
	for i := range lists {
		for {
			if len(s) < 16 {
				return nil, errors.New("its lists of areas do not end")
			}
			a := Area{int64(le.Uint64(s)), int64(le.Uint64(s[8:]))}
			s = s[16:]
			if a.Off == 0 {
				break
			}
			lists[i] = append(lists[i], a)
		}
	}
	if len(lists[1]) > maxAreas {
		return nil, fmt.Errorf("%d metadata areas", len(lists[1]))
	}
	return lists[1], nil
}

// readAreas reads the metadata areas; the error is one of reading.
func (pv *PV) readAreas(r io.ReaderAt, areas []Area) error {
	for _, a := range areas {
		if a.Off < sector || a.Len < 2*mdaHeader || a.Off > pv.Size || a.Len > pv.Size-a.Off {
			pv.bad = fmt.Sprintf("LVM: a metadata area at bytes %d+%d of %d", a.Off, a.Len, pv.Size)
			return nil
		}
		pv.Metadata = append(pv.Metadata, a)
		h := make([]byte, mdaHeader)
		if _, err := r.ReadAt(h, a.Off); err != nil {
			return fmt.Errorf("read LVM metadata header: %w", err)
		}
		at, n, sum, err := parseMDA(h, a)
		if err == nil && n > 0 {
			var text []byte
			if text, err = readText(r, a, at, n); err != nil {
				return err
			}
			err = pv.takeText(text, sum)
		}
		if err != nil {
			pv.bad = "LVM metadata area: " + err.Error()
			pv.texts = nil
			return nil
		}
	}
	return nil
}

// parseMDA reads an mda_header: where the text begins in the area and how long it is, 0 when there is none.
func parseMDA(h []byte, a Area) (at, length int64, sum uint32, err error) {
	le := binary.LittleEndian
	switch {
	case checksum(h[4:]) != le.Uint32(h):
		return 0, 0, 0, errors.New("its checksum is wrong")
	case string(h[4:20]) != mdaMagic || le.Uint32(h[20:]) != mdaVersion:
		return 0, 0, 0, errors.New("it has another magic or version")
	case le.Uint64(h[24:]) != uint64(a.Off) || le.Uint64(h[32:]) != uint64(a.Len):
		return 0, 0, 0, errors.New("it says that it lies elsewhere")
	}
	committed, prepared := h[rawLocations:], h[rawLocations+24:]
	if le.Uint64(committed) != 0 && le.Uint64(prepared) != 0 {
		return 0, 0, 0, errors.New("a change of the group was not completed")
	}
	at, length = int64(le.Uint64(committed)), int64(le.Uint64(committed[8:]))
	if at == 0 || length == 0 || le.Uint32(committed[20:])&ignoredFlag != 0 {
		return 0, 0, 0, nil
	}
	if at < mdaHeader || at >= a.Len || length < 0 || length > a.Len-mdaHeader || length > maxText {
		return 0, 0, 0, fmt.Errorf("text at bytes %d+%d of %d", at, length, a.Len)
	}
	return at, length, le.Uint32(committed[16:]), nil
}

// readText reads from the ring behind the header of an area.
func readText(r io.ReaderAt, a Area, at, length int64) ([]byte, error) {
	text := make([]byte, length)
	first := min(length, a.Len-at)
	if _, err := r.ReadAt(text[:first], a.Off+at); err != nil {
		return nil, fmt.Errorf("read LVM metadata: %w", err)
	}
	if _, err := r.ReadAt(text[first:], a.Off+mdaHeader); err != nil {
		return nil, fmt.Errorf("read LVM metadata: %w", err)
	}
	return text, nil
}

func (pv *PV) takeText(text []byte, sum uint32) error {
	if checksum(text) != sum {
		return errors.New("the checksum of its text is wrong")
	}
	root, err := parse(text)
	if err != nil {
		return err
	}
	if root.text("contents") != "Text Format Volume Group" || root.number("version") != 1 {
		return errors.New("it holds another kind of text")
	}
	var vg *node
	for _, n := range root.children {
		if n.section && vg != nil {
			return errors.New("it describes two groups")
		}
		if n.section {
			vg = n
		}
	}
	if vg == nil {
		return errors.New("it describes no group")
	}
	pv.texts = append(pv.texts, vg)
	return nil
}
