package extfs

import (
	"encoding/binary"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc32c continues a CRC-32C without the inversion at start and end, as ext4 keeps it.
func crc32c(crc uint32, p []byte) uint32 { return ^crc32.Update(^crc, castagnoli, p) }

// crc16 is CRC-16/ARC, the checksum of group descriptors with uninit_bg but without metadata_csum.
func crc16(crc uint16, p []byte) uint16 {
	for _, b := range p {
		crc ^= uint16(b)
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ 0xA001
			} else {
				crc >>= 1
			}
		}
	}
	return crc
}

// superSum says whether the superblock's checksum holds, and sets the seed of all others.
func (s *superblock) superSum() bool {
	if s.ro&roMetadataCsum == 0 {
		return true
	}
	s.seed = crc32c(^uint32(0), s.raw[104:120])
	if s.incompat&incompatCsumSeed != 0 {
		s.seed = s.u32(624)
	}
	return s.u32(1020) == crc32c(^uint32(0), s.raw[:1020])
}

// descSum says whether a group descriptor's checksum holds.
func (s *superblock) descSum(group uint64, desc []byte) bool {
	var le [4]byte
	binary.LittleEndian.PutUint32(le[:], uint32(group))
	want := binary.LittleEndian.Uint16(desc[0x1E:])
	switch {
	case s.ro&roMetadataCsum != 0:
		crc := crc32c(s.seed, le[:])
		crc = crc32c(crc, desc[:0x1E])
		crc = crc32c(crc, []byte{0, 0})
		return want == uint16(crc32c(crc, desc[0x20:]))
	case s.ro&roGDTChecksum != 0:
		crc := crc16(0xFFFF, s.raw[104:120])
		crc = crc16(crc, le[:])
		crc = crc16(crc, desc[:0x1E])
		return want == crc16(crc, desc[0x20:])
	}
	return true
}

// bitmapSum says whether a group's block bitmap has the checksum that its descriptor promises.
func (s *superblock) bitmapSum(desc, bitmap []byte) bool {
	if s.ro&roMetadataCsum == 0 {
		return true
	}
	crc := crc32c(s.seed, bitmap[:s.perGroup/s.ratio/8])
	if binary.LittleEndian.Uint16(desc[0x18:]) != uint16(crc) {
		return false
	}
	return s.descSize < 0x3A || binary.LittleEndian.Uint16(desc[0x38:]) == uint16(crc>>16)
}
