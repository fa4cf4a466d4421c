package disk

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"swarmboot/imagefmt"
)

// planMBR checks t and returns what writes it: sector 0 only. go-diskfs's writer drops disk signature and boot
// code, so the 64 bytes of entries are made here.
func planMBR(d *Device, t imagefmt.Table) (func() error, error) {
	b, err := makeMBR(d, t)
	if err != nil {
		return nil, err
	}
	return func() error {
		_, err := d.WriteAt(b, 0)
		return err
	}, nil
}

// makeMBR checks t and returns sector 0.
func makeMBR(d *Device, t imagefmt.Table) ([]byte, error) {
	b, err := bootSector(t)
	if err != nil {
		return nil, err
	}
	if t.DiskSignature != "" {
		sig, err := strconv.ParseUint(strings.TrimPrefix(t.DiskSignature, "0x"), 16, 32)
		if err != nil {
			return nil, fmt.Errorf("disk signature %.20q: want 8 hex digits", t.DiskSignature)
		}
		binary.LittleEndian.PutUint32(b[440:], uint32(sig))
	}
	var primary []imagefmt.Partition
	var spans []span
	for _, p := range t.Partitions {
		s, err := sectors(d, p)
		if err != nil {
			return nil, err
		}
		if p.Number > 4 {
			continue // logical: inside the extended partition, described there
		}
		if err := mbrEntry(b, p, s); err != nil {
			return nil, err
		}
		primary, spans = append(primary, p), append(spans, s)
	}
	return b, checkSpans(primary, spans)
}

func mbrEntry(sector0 []byte, p imagefmt.Partition, s span) error {
	kind, err := strconv.ParseUint(strings.TrimPrefix(p.Type, "0x"), 16, 8)
	length := s.last - s.first + 1
	switch {
	case p.Number < 1:
		return fmt.Errorf("partition number %d", p.Number)
	case err != nil || kind == 0:
		return fmt.Errorf("partition %d: type %.20q: want 0x01 to 0xff", p.Number, p.Type)
	case s.first == 0:
		return fmt.Errorf("partition %d begins in the table's own sector", p.Number)
	case s.first > 0xffffffff || length > 0xffffffff:
		return fmt.Errorf("partition %d: an MBR cannot describe sectors from %d to %d", p.Number, s.first, s.last)
	}
	e := sector0[446+16*(p.Number-1):][:16]
	if p.Bootable {
		e[0] = 0x80
	}
	putCHS(e[1:4], s.first)
	e[4] = byte(kind)
	putCHS(e[5:8], s.last)
	binary.LittleEndian.PutUint32(e[8:], uint32(s.first))
	binary.LittleEndian.PutUint32(e[12:], uint32(length))
	return nil
}

// putCHS writes the address of a sector for firmware of the last century: 255
// heads, 63 sectors; the largest address where it does not fit.
func putCHS(b []byte, lba uint64) {
	c, h, s := lba/(255*63), lba/63%255, lba%63+1
	if c > 1023 {
		c, h, s = 1023, 254, 63
	}
	b[0], b[1], b[2] = byte(h), byte(s|c>>8<<6), byte(c)
}
