package imagesrc

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/diskfs/go-diskfs/partition/mbr"

	"swarmboot/imagefmt"
)

// maxLogical bounds an EBR chain, as the kernel does.
const maxLogical = 252

// mbrEntry is an entry in an MBR or EBR. Start and length count sectors; start is relative to something that
// depends on the place of the entry.
type mbrEntry struct {
	kind          byte
	active        bool
	start, length int64
}

func (e mbrEntry) container() bool { return e.kind == 0x05 || e.kind == 0x0F || e.kind == 0x85 }

// mbrEntries decodes the entries in use, nil when the sector is no MBR: the signature is missing, or a boot flag
// is neither 0 nor 0x80, which is how the kernel tells a boot sector that ends in the same signature.
func mbrEntries(b []byte) []mbrEntry {
	if binary.LittleEndian.Uint16(b[510:]) != 0xAA55 {
		return nil
	}
	for e := b[446:510]; len(e) > 0; e = e[16:] {
		if e[0]&0x7F != 0 {
			return nil
		}
	}
	return tableEntries(b)
}

// tableEntries decodes the entries in use of an MBR or EBR, whatever their boot flags.
func tableEntries(b []byte) []mbrEntry {
	var list []mbrEntry
	for e := b[446:510]; len(e) > 0; e = e[16:] {
		entry := mbrEntry{
			kind: e[4], active: e[0] == 0x80,
			start: int64(binary.LittleEndian.Uint32(e[8:])), length: int64(binary.LittleEndian.Uint32(e[12:])),
		}
		if entry.kind != 0 && entry.length != 0 {
			list = append(list, entry)
		}
	}
	return list
}

// readMBR reads the four entries with go-diskfs and the chain of logical partitions itself, since go-diskfs does not.
func (d *disk) readMBR(boot []byte) error {
	t, err := mbr.Read(&gptFile{SectionReader: io.NewSectionReader(d.r, 0, d.size)}, d.sector, d.sector)
	if err != nil {
		return fmt.Errorf("MBR: %w", err)
	}
	d.table = imagefmt.Table{Kind: imagefmt.TableMBR, DiskSignature: t.UUID(), BootCode: bootCode(boot)}
	d.reserve(0, 1)
	var containers []imagefmt.Partition
	for _, p := range t.Partitions {
		if p.Type == mbr.Empty || p.Size == 0 {
			continue
		}
		e := mbrEntry{kind: byte(p.Type), active: p.Bootable, start: int64(p.Start), length: int64(p.Size)}
		out := d.addMBR(p.Index, e, 0)
		if e.container() {
			containers = append(containers, out)
		}
	}
	for i := range containers {
		if err := d.checkPartitions(containers[i : i+1]); err != nil {
			return err
		}
		if err := d.readLogical(containers[i]); err != nil {
			return fmt.Errorf("logical partitions: %w", err)
		}
	}
	var data []imagefmt.Partition
	for _, p := range d.table.Partitions {
		if !p.Extended() {
			data = append(data, p)
		}
	}
	return d.checkPartitions(data)
}

// addMBR lists a partition; base is the sector that the entry counts from.
func (d *disk) addMBR(number int, e mbrEntry, base int64) imagefmt.Partition {
	sector := int64(d.sector)
	p := imagefmt.Partition{
		Number: number, Start: (base + e.start) * sector, Length: e.length * sector,
		Type: fmt.Sprintf("0x%02x", e.kind), Bootable: e.active,
		UUID: fmt.Sprintf("%s-%02x", d.table.DiskSignature, number),
	}
	d.table.Partitions = append(d.table.Partitions, p)
	return p
}

// readLogical follows the chain of EBRs: each describes one logical partition, counted from itself, and the next
// EBR, counted from the start of the container. Numbers go on from 5.
func (d *disk) readLogical(container imagefmt.Partition) error {
	sector := int64(d.sector)
	first := container.Start / sector
	number := 5
	for _, p := range d.table.Partitions {
		number = max(number, p.Number+1)
	}
	seen := map[int64]bool{}
	b := make([]byte, bootSize)
	for at := first; ; {
		if at < first || (at-first)*sector >= container.Length || seen[at] || len(seen) >= maxLogical {
			return fmt.Errorf("the chain of EBRs leads to sector %d, outside its container, in a circle, or past %d links", at, maxLogical)
		}
		seen[at] = true
		if _, err := d.r.ReadAt(b, at*sector); err != nil {
			return fmt.Errorf("read EBR at sector %d: %w", at, err)
		}
		if binary.LittleEndian.Uint16(b[510:]) != 0xAA55 {
			if at == first { // an extended partition that was never filled
				return nil
			}
			return fmt.Errorf("EBR at sector %d: no signature", at)
		}
		var next int64
		for _, e := range tableEntries(b) { // the kernel does not look at the flags of an EBR (parse_extended of block/partitions/msdos.c)
			switch {
			case e.container() && next == 0:
				next = first + e.start
			case !e.container() && number <= maxLogical+4:
				if e.start == 0 {
					return fmt.Errorf("EBR at sector %d: a partition lies on top of it", at)
				}
				d.addMBR(number, e, at)
				number++
			}
		}
		if next == 0 {
			return nil
		}
		at = next
	}
}
