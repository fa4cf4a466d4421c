package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"

	"swarmboot/imagefmt"
)

// Bounds of the arrays that are read: more entries than any tool makes.
const (
	maxGPTEntries   = 1024
	maxGPTEntrySize = 4096
)

// readTable reads the partition table that the kernel would use, and the sector size that it was made for; of kind none
// when there is none. It is an error when there is one that cannot be trusted: what it describes may be worth keeping.
func readTable(d *Device) (t imagefmt.Table, sector int, err error) {
	t = imagefmt.Table{Kind: imagefmt.TableNone}
	boot := make([]byte, 512)
	if _, err := d.ReadAt(boot, 0); err != nil {
		if d.size < 512 && errors.Is(err, io.EOF) {
			return t, 0, nil
		}
		return t, 0, fmt.Errorf("it cannot be read: %w", err)
	}
	protective, others := mbrKinds(boot)
	if protective || !others {
		t, sector, err := readGPT(d, protective)
		if err != nil || sector != 0 {
			return t, sector, err
		}
	}
	if others && !protective {
		return readMBR(d, boot)
	}
	return t, 0, nil
}

// mbrKinds says whether a boot sector protects a GPT, and whether it has other partitions. A flag that is neither 0 nor 0x80
// means that it is no MBR but, say, the boot sector of a FAT (as the kernel tells them apart: block/partitions/msdos.c).
func mbrKinds(boot []byte) (protective, others bool) {
	if boot[510] != 0x55 || boot[511] != 0xaa {
		return false, false
	}
	for i := range 4 {
		if boot[446+16*i]&0x7f != 0 {
			return false, false
		}
		switch kind, _, n := mbrPartition(boot, i); {
		case kind == 0xee:
			protective = true
		case kind != 0 && n != 0:
			others = true
		}
	}
	return protective, others
}

// readGPT reads the first copy that is whole, of either sector size; sector 0 without an error means that there is none.
func readGPT(d *Device, protective bool) (t imagefmt.Table, sector int, err error) {
	none := imagefmt.Table{Kind: imagefmt.TableNone}
	sizes := []int{512, 4096}
	if d.sector == 4096 {
		sizes = []int{4096, 512}
	}
	var damage error
	for _, sector := range sizes {
		last := d.size/int64(sector) - 1
		for _, lba := range []int64{1, last} {
			if lba == last && !protective {
				continue // a left-over
			}
			t, found, err := readGPTCopy(d, int64(sector), lba)
			if err == nil && found {
				return t, sector, nil
			}
			if err != nil && damage == nil {
				damage = fmt.Errorf("GPT at sector %d of %d bytes: %w", lba, sector, err)
			}
		}
	}
	if protective && damage == nil {
		damage = errors.New("the MBR protects a GPT that is not there")
	}
	return none, 0, damage
}

// readGPTCopy reads one header and its array (UEFI 2.10, 5.3). found is false where there is no header.
func readGPTCopy(d *Device, sector, lba int64) (t imagefmt.Table, found bool, err error) {
	h := make([]byte, 512)
	if lba < 1 || lba >= d.size/sector {
		return t, false, nil
	}
	if _, err := d.ReadAt(h, lba*sector); err != nil {
		return t, false, fmt.Errorf("it cannot be read: %w", err)
	}
	if string(h[:8]) != "EFI PART" {
		return t, false, nil
	}
	le := binary.LittleEndian
	size, array := le.Uint32(h[12:]), le.Uint64(h[72:])
	count, entry := int64(le.Uint32(h[80:])), int64(le.Uint32(h[84:]))
	if size < 92 || size > 512 {
		return t, false, fmt.Errorf("a header of %d bytes", size)
	}
	sum := le.Uint32(h[16:])
	le.PutUint32(h[16:], 0)
	switch {
	case crc32.ChecksumIEEE(h[:size]) != sum:
		return t, false, errors.New("the checksum of the header is wrong")
	case le.Uint64(h[24:]) != uint64(lba):
		return t, false, errors.New("the header belongs elsewhere")
	case count < 1 || count > maxGPTEntries || entry < 128 || entry > maxGPTEntrySize || entry%8 != 0:
		return t, false, fmt.Errorf("an array of %d entries of %d bytes", count, entry)
	case array < 2 || array > uint64(d.size/sector) || int64(array)*sector > d.size-count*entry:
		return t, false, fmt.Errorf("the array at sector %d is outside the disk", array)
	}
	b := make([]byte, count*entry)
	if _, err := d.ReadAt(b, int64(array)*sector); err != nil && !errors.Is(err, io.EOF) {
		return t, false, fmt.Errorf("it cannot be read: %w", err)
	}
	if crc32.ChecksumIEEE(b) != le.Uint32(h[88:]) {
		return t, false, errors.New("the checksum of the array is wrong")
	}
	t = imagefmt.Table{Kind: imagefmt.TableGPT, GUID: formatGUID(h[56:72])}
	for i := range count {
		p, used, err := readGPTEntry(b[i*entry:][:128], int(i)+1, sector, d.size)
		if err != nil {
			return t, false, err
		}
		if used {
			t.Partitions = append(t.Partitions, p)
		}
	}
	return t, true, nil
}

func readGPTEntry(b []byte, number int, sector, size int64) (p imagefmt.Partition, used bool, err error) {
	le := binary.LittleEndian
	kind := formatGUID(b[:16])
	if !typeGUID(kind) {
		return p, false, nil
	}
	first, last := le.Uint64(b[32:]), le.Uint64(b[40:])
	if first < 1 || first > last || last >= uint64(size/sector) {
		return p, false, fmt.Errorf("partition %d lies at sectors %d to %d of %d", number, first, last, size/sector)
	}
	return imagefmt.Partition{
		Number: number, Start: int64(first) * sector, Length: int64(last-first+1) * sector, Type: kind, UUID: formatGUID(b[16:32]),
		Label: printable(gptName(b)), Attributes: le.Uint64(b[48:]),
	}, true, nil
}

// gptName is the name in an entry.
func gptName(entry []byte) string {
	name := make([]uint16, 0, gptNameUnits)
	for i := range gptNameUnits {
		u := binary.LittleEndian.Uint16(entry[56+2*i:])
		if u == 0 {
			break
		}
		name = append(name, u)
	}
	return string(utf16.Decode(name))
}

// printable replaces what must not reach a console or a manifest.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// formatGUID writes a GUID in upper case; its first three fields are little-endian (UEFI 2.10, appendix A).
func formatGUID(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08X-%04X-%04X-%04X-%012X", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

// readMBR reads the four entries and the chain of logical partitions.
func readMBR(d *Device, boot []byte) (imagefmt.Table, int, error) {
	signature := binary.LittleEndian.Uint32(boot[440:])
	t := imagefmt.Table{Kind: imagefmt.TableMBR, DiskSignature: fmt.Sprintf("%08x", signature)}
	sector := int64(d.sector)
	add := func(number int, kind, flag byte, start, n int64) {
		t.Partitions = append(t.Partitions, imagefmt.Partition{
			Number: number, Start: start * sector, Length: n * sector, Type: fmt.Sprintf("0x%02x", kind), Bootable: flag == 0x80,
			UUID: fmt.Sprintf("%08x-%02x", signature, number),
		})
	}
	w := &wiper{d: d, seen: map[int64]bool{}}
	for i := range 4 {
		kind, start, n := mbrPartition(boot, i)
		if kind == 0 || n == 0 {
			continue
		}
		if start < 1 || start > d.size/sector || n > d.size/sector-start {
			return imagefmt.Table{}, 0, fmt.Errorf("MBR: partition %d lies at sectors %d to %d of %d", i+1, start, start+n-1, d.size/sector)
		}
		add(i+1, kind, boot[446+16*i], start, n)
		if !extended(kind) {
			continue
		}
		logical, err := w.logical(start, sector)
		if err != nil {
			return imagefmt.Table{}, 0, fmt.Errorf("it cannot be read: %w", err)
		}
		for j, r := range logical {
			add(5+j, 0x83, 0, r.off/sector, r.len/sector) // the chain's types are not needed by anyone
		}
	}
	return t, d.sector, nil
}
