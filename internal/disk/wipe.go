package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"swarmboot/imagefmt"
)

// region is a part of a disk where a signature may stand: the whole disk or an old partition.
type region struct {
	name     string
	off, len int64
}

// spot is a signature that was found and what has to be zeroed to clear it.
type spot struct {
	name     string
	off, len int64
}

// wiper looks for signatures first and clears them afterwards.
type wiper struct {
	d     *Device
	kept  []imagefmt.Extent
	spots []spot
	seen  map[int64]bool // by offset: many layouts look at the same sector
}

// WipeKeeping clears what could make the machine boot, mount or assemble the disk's old content: both GPTs
// (the backup also where the primary says it is) and the MBR; superblocks and labels
// of md, LVM, LUKS, ZFS, firmware RAID, swap and file systems on the
// whole disk and in the partitions of the old tables. It reads, and zeroes only sectors in which it
// recognized something; it returns them as "NAME at offset N", and nil when nothing was written. The tables go
// last, so that after an interruption the next call finds the partitions again.
//
// Kept are parts of the disk that stay as they are, byte for byte: nothing that touches one of them is cleared. With any of
// them the table that the kernel reads stays too (both headers of a GPT, or the MBR): it says where they are until
// WriteTable puts another in its place; tables that were left over elsewhere are cleared.
//
// Fresh are the places of new partitions. No old table lists what may have been left there, such as a superblock of a run that was
// cut off before it had written its table.
func WipeKeeping(ctx context.Context, d *Device, kept []imagefmt.Extent, fresh ...imagefmt.Extent) (cleared []string, err error) {
	spots, err := toClear(ctx, d, kept, fresh)
	if err != nil {
		return nil, err
	}
	for _, s := range spots {
		if cleared == nil {
			cleared = []string{} // from here on the disk is not what it was
		}
		if err := d.zeroByWriting(s.off, s.len); err != nil {
			return cleared, fmt.Errorf("wipe %s: %w", s.name, err)
		}
		cleared = append(cleared, fmt.Sprintf("%s at offset %d", s.name, s.off))
	}
	return cleared, d.Sync()
}

// WouldClear returns what WipeKeeping would zero. It only reads.
func WouldClear(d *Device, kept []imagefmt.Extent, fresh ...imagefmt.Extent) (all []imagefmt.Extent, err error) {
	spots, err := toClear(context.Background(), d, kept, fresh)
	for _, s := range spots {
		all = append(all, imagefmt.Extent{Off: s.off, Len: s.len})
	}
	return all, err
}

// toClear finds what WipeKeeping clears, in that order.
func toClear(ctx context.Context, d *Device, kept, fresh []imagefmt.Extent) ([]spot, error) {
	w := &wiper{d: d, kept: kept, seen: map[int64]bool{}}
	tables, parts, err := w.tables()
	if err != nil {
		return nil, fmt.Errorf("wipe: %w", err)
	}
	parts = append(parts, region{"disk", 0, d.size})
	for _, f := range fresh {
		parts = append(parts, region{"place of a new partition", f.Off, f.Len})
	}
	for _, r := range parts {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err := w.scan(r); err != nil {
			return nil, fmt.Errorf("wipe: %w", err)
		}
	}
	return append(w.spots, tables...), nil
}

// read returns n bytes at off, nil when they do not all lie on the disk.
func (w *wiper) read(off, n int64) ([]byte, error) {
	if off < 0 || off > w.d.size-n {
		return nil, nil
	}
	b := make([]byte, n)
	if _, err := w.d.ReadAt(b, off); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// has says whether magic stands at off, inside r.
func (w *wiper) has(r region, off int64, magic string) (bool, error) {
	if off < r.off || off+int64(len(magic)) > r.off+r.len {
		return false, nil
	}
	b, err := w.read(off, int64(len(magic)))
	return err == nil && b != nil && bytes.Equal(b, []byte(magic)), err
}

func (w *wiper) found(name string, off, n int64) {
	n = min(n, w.d.size-off)
	for _, k := range w.kept {
		if off < k.End() && k.Off < off+n {
			return
		}
	}
	if off >= 0 && n > 0 && !w.seen[off] {
		w.seen[off] = true
		w.spots = append(w.spots, spot{name, off, n})
	}
}

// scan looks for every known signature in r.
func (w *wiper) scan(r region) error {
	for _, s := range signatures {
		for _, at := range s.at(r.len) {
			ok, err := w.has(r, r.off+at+s.magicOff, s.magic)
			if err != nil {
				return err
			}
			if ok {
				w.found(r.name+": "+s.name, r.off+at, s.clear)
			}
		}
	}
	return w.zfs(r)
}

// zfs looks for the four labels of a vdev (on-disk specification, 1.2): 256 KiB each, two in front, two at
// the aligned end. The uberblocks in the label's second half carry the magic number.
func (w *wiper) zfs(r region) error {
	const label, ring = 256 << 10, 128 << 10
	end := r.len / label * label
	for i, at := range []int64{0, label, end - 2*label, end - label} {
		if at < 0 || at+label > r.len {
			continue
		}
		b, err := w.read(r.off+at+ring, label-ring)
		if err != nil {
			return err
		}
		for off := 0; off+8 <= len(b); off += 1024 {
			if binary.LittleEndian.Uint64(b[off:]) == 0x00bab10c || binary.BigEndian.Uint64(b[off:]) == 0x00bab10c {
				// Without the first 16 KiB, which hold a boot block or nothing.
				w.found(fmt.Sprintf("%s: ZFS label %d", r.name, i), r.off+at+16<<10, label-16<<10)
				break
			}
		}
	}
	return nil
}

// tables finds partition tables: their spots, and the partitions that they describe.
func (w *wiper) tables() (spots []spot, parts []region, err error) {
	w2 := &wiper{d: w.d, kept: w.kept, seen: map[int64]bool{}}
	if len(w.kept) > 0 {
		if err := w2.keepTable(); err != nil {
			return nil, nil, err
		}
		w.kept = w2.kept // a boot sector or a GPT may look like something else too
	}
	for _, sector := range []int64{512, 4096} { // the disk may have been used with the other
		p, err := w2.gpt(sector)
		if err != nil {
			return nil, nil, err
		}
		parts = append(parts, p...)
	}
	p, err := w2.mbr()
	return w2.spots, append(parts, p...), err
}

// keepTable adds the table that the kernel reads to what is kept.
func (w *wiper) keepTable() error {
	sector := int64(w.d.sector)
	reserved := int64(gptArraySize) + sector // array and header
	w.kept = append([]imagefmt.Extent{{Off: 0, Len: sector}}, w.kept...)
	header, err := w.read(sector, 8)
	if err == nil && string(header) == "EFI PART" {
		end := w.d.size / sector * sector
		w.kept = append(w.kept, imagefmt.Extent{Off: sector, Len: reserved}, imagefmt.Extent{Off: end - reserved, Len: reserved})
	}
	return err
}

// gpt looks for a primary header in sector 1, a backup in the last sector, and one where the primary points to.
func (w *wiper) gpt(sector int64) (parts []region, err error) {
	headers := []struct {
		name string
		off  int64
	}{{"primary GPT", sector}, {"backup GPT", w.d.size/sector*sector - sector}}
	for i := 0; i < len(headers); i++ {
		h := headers[i]
		b, err := w.read(h.off, 512)
		if err != nil {
			return nil, err
		}
		if b == nil || string(b[:8]) != "EFI PART" {
			continue
		}
		w.found(h.name, h.off, 512)
		p, err := w.gptPartitions(b, sector)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p...)
		if alt := binary.LittleEndian.Uint64(b[32:]); i == 0 && alt > 1 && alt < uint64(w.d.size/sector) {
			headers = append(headers, headers[1])
			headers[2].off = int64(alt) * sector
		}
	}
	return parts, nil
}

func (w *wiper) gptPartitions(header []byte, sector int64) (parts []region, err error) {
	first := binary.LittleEndian.Uint64(header[72:])
	count, size := binary.LittleEndian.Uint32(header[80:]), binary.LittleEndian.Uint32(header[84:])
	if first > uint64(w.d.size/sector) || count > 1024 || size < 128 || size > 4096 {
		return nil, nil // damaged: there is nothing to be learnt from it
	}
	b, err := w.read(int64(first)*sector, int64(count)*int64(size))
	for i := 0; len(b) >= int(size); i, b = i+1, b[size:] {
		lba, last := binary.LittleEndian.Uint64(b[32:]), binary.LittleEndian.Uint64(b[40:])
		if lba > 0 && lba <= last && last < uint64(w.d.size/sector) {
			parts = append(parts, region{fmt.Sprintf("partition %d", i+1), int64(lba) * sector, int64(last-lba+1) * sector})
		}
	}
	return parts, err
}

// mbr looks at sector 0. A FAT boot sector has the same mark at its end and is cleared alike.
func (w *wiper) mbr() (parts []region, err error) {
	b, err := w.read(0, 512)
	if err != nil || b == nil || b[510] != 0x55 || b[511] != 0xaa {
		return nil, err
	}
	w.found("MBR", 0, 512)
	sector := int64(w.d.sector)
	for i := range 4 {
		kind, start, n := mbrPartition(b, i)
		if kind == 0 || kind == 0xee {
			continue
		}
		if r, ok := w.inside(i+1, start*sector, n*sector); ok {
			parts = append(parts, r)
		}
		if extended(kind) {
			logical, err := w.logical(start, sector)
			if err != nil {
				return nil, err
			}
			parts = append(parts, logical...)
		}
	}
	return parts, nil
}

// logical follows the chain of boot records in the extended partition that begins at sector start.
func (w *wiper) logical(start, sector int64) (parts []region, err error) {
	next := start
	for n := 5; n < 133; n++ { // a damaged chain may be a ring
		b, err := w.read(next*sector, 512)
		if err != nil || b == nil || b[510] != 0x55 || b[511] != 0xaa {
			return parts, err
		}
		if kind, off, length := mbrPartition(b, 0); kind != 0 {
			if r, ok := w.inside(n, (next+off)*sector, length*sector); ok {
				parts = append(parts, r)
			}
		}
		kind, off, _ := mbrPartition(b, 1)
		if kind == 0 || off == 0 {
			return parts, nil
		}
		next = start + off
	}
	return parts, nil
}

func mbrPartition(sector []byte, i int) (kind byte, start, n int64) {
	e := sector[446+16*i:][:16]
	return e[4], int64(binary.LittleEndian.Uint32(e[8:])), int64(binary.LittleEndian.Uint32(e[12:]))
}

// inside makes a region of a partition; one that reaches beyond the disk is cut off there.
func (w *wiper) inside(number int, off, n int64) (region, bool) {
	n = min(n, w.d.size-off)
	return region{fmt.Sprintf("partition %d", number), off, n}, off > 0 && n > 0
}
