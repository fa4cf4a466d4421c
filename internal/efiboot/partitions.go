package efiboot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

const (
	gptMagic      = "EFI PART"
	gptHeaderSize = 92
	gptEntrySize  = 128
	maxGPTEntries = 1024
)

// espType is C12A7328-F81F-11D2-BA4B-00A0C93EC93B as it is on the disk.
var espType = [16]byte{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}

// mbrESP is the type of an ESP in an MBR.
const mbrESP = 0xef

var errNoTable = errors.New("no partition table")

// Partitions reads the partition table of a disk with logical sectors of the size given: a GPT whose first copy is whole, else the
// primary partitions of an MBR. A disk without a table has none.
func Partitions(r io.ReaderAt, sector int) ([]Partition, error) {
	boot := make([]byte, 512)
	if _, err := r.ReadAt(boot, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read sector 0: %w", err)
	}
	list, err := readGPT(r, int64(sector))
	if errors.Is(err, errNoTable) {
		return readMBR(boot), nil
	}
	return list, err
}

func readGPT(r io.ReaderAt, sector int64) ([]Partition, error) {
	le := binary.LittleEndian
	h := make([]byte, gptHeaderSize)
	if n, err := r.ReadAt(h, sector); n < len(h) {
		if errors.Is(err, io.EOF) {
			return nil, errNoTable
		}
		return nil, fmt.Errorf("read the GPT header: %w", err)
	}
	sum := le.Uint32(h[16:])
	clear(h[16:20])
	size, entries, entrySize, array := le.Uint32(h[12:]), le.Uint32(h[80:]), le.Uint32(h[84:]), le.Uint64(h[72:])
	switch {
	case string(h[:8]) != gptMagic, size != gptHeaderSize, crc32.ChecksumIEEE(h) != sum,
		entrySize != gptEntrySize, entries > maxGPTEntries, array < 2, array > 1<<40:
		return nil, errNoTable
	}
	b := make([]byte, entries*entrySize)
	if n, err := r.ReadAt(b, int64(array)*sector); n < len(b) {
		return nil, fmt.Errorf("read the GPT at LBA %d: %w", array, err)
	}
	if crc32.ChecksumIEEE(b) != le.Uint32(h[88:]) {
		return nil, errNoTable
	}
	var list []Partition
	for i := range int(entries) {
		e := b[i*gptEntrySize:][:gptEntrySize]
		kind := [16]byte(e)
		first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		if kind == [16]byte{} || last < first {
			continue
		}
		list = append(list, Partition{
			ID: ID{SignatureGUID, [16]byte(e[16:])}, Number: i + 1, Start: first, Sectors: last - first + 1, ESP: kind == espType,
		})
	}
	return list, nil
}

// readMBR reads the four entries. Logical partitions are left out: firmware does not look for an ESP there.
func readMBR(boot []byte) []Partition {
	le := binary.LittleEndian
	id := ID{Kind: SignatureMBR}
	copy(id.Sig[:], boot[440:444])
	if le.Uint16(boot[510:]) != 0xaa55 || id.Sig == [16]byte{} {
		return nil
	}
	var list []Partition
	for i := range 4 {
		e := boot[446+16*i:][:16]
		start, n := le.Uint32(e[8:]), le.Uint32(e[12:])
		if e[0]&0x7f != 0 { // a boot sector that ends in the same signature
			return nil
		}
		if e[4] != 0 && n != 0 {
			list = append(list, Partition{ID: id, Number: i + 1, Start: uint64(start), Sectors: uint64(n), ESP: e[4] == mbrESP})
		}
	}
	return list
}
