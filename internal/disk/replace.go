package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"

	"github.com/google/uuid"

	"swarmboot/imagefmt"
)

// gptHeaderSize is the size of a GPT header in bytes (UEFI 2.10, table 5.5).
const gptHeaderSize = 92

// tableWrite is one step of putting a table in the place of another: it is on the medium before the next begins.
type tableWrite struct {
	b   []byte
	off int64
}

// ReplaceTable is WriteTable for a disk with partitions that stay: whenever the power fails, the table that the kernel reads
// is the old one or the new one, whole. So partitions that are in both are never missing. The
// disk must have a table of t's kind already.
//
// An MBR is one sector, which a disk writes or does not. Of a GPT the header is one sector too, but its array is
// 32: a new array is written where the header does not point to yet, then the header. The array goes
// to the usual place, LBA 2, in the end; where it must be overwritten meanwhile, the header points behind it, into the gap before the
// first partition. Only where there is no such gap is a moment at which the primary copy is damaged and the backup is
// what counts, as with every partitioning tool. A primary copy that is damaged already is mended first, while
// the backup stands.
func ReplaceTable(d *Device, t imagefmt.Table) error {
	writes, err := planReplace(d, t)
	if err != nil {
		return fmt.Errorf("partition table: %w", err)
	}
	for _, w := range writes {
		if _, err := d.WriteAt(w.b, w.off); err != nil {
			return fmt.Errorf("write partition table: %w", err)
		}
		if err := d.Sync(); err != nil {
			return err
		}
	}
	d.table = t
	return nil
}

// planReplace returns the writes of ReplaceTable, in order. It reads the device and writes nothing.
func planReplace(d *Device, t imagefmt.Table) ([]tableWrite, error) {
	rec := &recorder{Device: d}
	if err := recordTable(rec, t); err != nil {
		return nil, err
	}
	if t.Kind != imagefmt.TableGPT {
		return rec.writes, d.hasMBR()
	}
	if len(rec.writes) != 5 { // sector 0, backup array and header, primary array and header: planGPT
		return nil, fmt.Errorf("a GPT of %d parts", len(rec.writes))
	}
	sector0, backup, primary := rec.writes[0], rec.writes[1:3], rec.writes[3:5]
	current, err := d.currentGPT()
	if err != nil {
		return nil, err
	}
	keepNames(backup, current)
	keepNames(primary, current)
	writes := []tableWrite{sector0}
	usual := 2*int64(d.sector) + gptArraySize // where an array at LBA 2 ends
	beside := max(usual, current.end)
	switch {
	case current.array < 0: // the backup is all there is
		return append(append(writes, primary...), backup...), nil
	case current.array < usual && current.gap(t) >= beside+gptArraySize:
		writes = append(append(writes, backup...), movedArray(primary, beside, d.sector)...)
		return append(writes, primary...), nil
	}
	return append(append(writes, backup...), primary...), nil
}

// movedArray is a primary copy with its array at off instead.
func movedArray(primary []tableWrite, off int64, sector int) []tableWrite {
	header := append([]byte(nil), primary[1].b...)
	binary.LittleEndian.PutUint64(header[72:], uint64(off/int64(sector)))
	sealGPT(header)
	return []tableWrite{{primary[0].b, off}, {header, primary[1].off}}
}

// sealGPT puts the checksum of a header into it.
func sealGPT(header []byte) {
	clear(header[16:20])
	binary.LittleEndian.PutUint32(header[16:], crc32.ChecksumIEEE(header[:gptHeaderSize]))
}

// keepNames gives the entries of partitions that stay the names of the live ones, bit for bit: the inventory, by which tables are planned, has another
// character in the place of those that may not be shown, and udev names a link by them.
func keepNames(array []tableWrite, live liveGPT) {
	entries, header := array[0].b, array[1].b
	for i := 0; i < gptEntries && (i+1)*live.each <= len(live.entries); i++ {
		e, l := entries[128*i:][:128], live.entries[live.each*i:][:128]
		if bytes.Equal(e[:48], l[:48]) && gptName(e) == printable(gptName(l)) { // type, UUID, first and last sector
			copy(e[56:], l[56:])
		}
	}
	binary.LittleEndian.PutUint32(header[88:], crc32.ChecksumIEEE(entries[:gptArraySize]))
	sealGPT(header)
}

// liveGPT is what a disk has now.
type liveGPT struct {
	array, end int64 // where the primary copy's array is; -1 if that copy is damaged
	first      int64 // where its first partition begins
	entries    []byte
	each       int // bytes of an entry
}

// gap is where the first partition of both tables begins.
func (g liveGPT) gap(t imagefmt.Table) int64 {
	first := g.first
	for _, p := range t.Partitions {
		first = min(first, p.Start)
	}
	return first
}

var errNoGPT = errors.New("the disk has no GPT to be replaced")

// hasMBR says why what is in sector 0 is not the disk's table.
func (d *Device) hasMBR() error {
	b := make([]byte, 512)
	if err := d.readAll(b, 0); err != nil {
		return err
	}
	if b[510] != 0x55 || b[511] != 0xaa || b[450] == 0xee {
		return errors.New("the disk has no MBR to be replaced")
	}
	return nil
}

// currentGPT reads the primary copy and, if it is damaged, looks whether the backup is whole.
func (d *Device) currentGPT() (liveGPT, error) {
	sector := int64(d.sector)
	g, err := d.gptAt(sector)
	if err != nil {
		return g, err
	}
	if g.array >= 0 {
		return g, nil
	}
	b, err := d.gptAt(d.size/sector*sector - sector)
	if err == nil && b.array < 0 {
		err = errNoGPT
	}
	b.array = -1
	return b, err
}

// Lists says whether the table on the device, as ReplaceTable would find it, has all these partitions: number, place, and in a GPT
// the UUID.
func (d *Device) Lists(kind string, parts []imagefmt.Partition) (bool, error) {
	if kind != imagefmt.TableGPT {
		return d.listsMBR(parts)
	}
	g, err := d.currentGPT()
	if err != nil {
		return false, err
	}
	sector := int64(d.sector)
	for _, p := range parts {
		id, err := uuid.Parse(p.UUID)
		at := (p.Number - 1) * g.each
		if err != nil || at < 0 || at+g.each > len(g.entries) {
			return false, nil
		}
		e := g.entries[at:]
		start, last := binary.LittleEndian.Uint64(e[32:]), binary.LittleEndian.Uint64(e[40:])
		if !bytes.Equal(e[16:32], mixedEndian(id)) || start != uint64(p.Start/sector) || last != uint64((p.Start+p.Length)/sector-1) {
			return false, nil
		}
	}
	return true, nil
}

func (d *Device) listsMBR(parts []imagefmt.Partition) (bool, error) {
	b := make([]byte, 512)
	if err := d.readAll(b, 0); err != nil {
		return false, err
	}
	for _, p := range parts {
		if p.Number < 1 || p.Number > 4 {
			return false, nil
		}
		if kind, start, n := mbrPartition(b, p.Number-1); kind == 0 || start*int64(d.sector) != p.Start || n*int64(d.sector) != p.Length {
			return false, nil
		}
	}
	return true, nil
}

// mixedEndian is how a GPT stores a GUID (UEFI 2.10, appendix A).
func mixedEndian(u uuid.UUID) []byte {
	return []byte{u[3], u[2], u[1], u[0], u[5], u[4], u[7], u[6], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]}
}

// gptAt reads the copy whose header is at off, with its checksums (UEFI 2.10, 5.3.2). array is -1 if it is no valid one.
func (d *Device) gptAt(off int64) (liveGPT, error) {
	none := liveGPT{array: -1}
	sector := int64(d.sector)
	h := make([]byte, sector)
	if err := d.readAll(h, off); err != nil {
		return none, err
	}
	le := binary.LittleEndian
	size, sum := le.Uint32(h[12:]), le.Uint32(h[16:])
	if string(h[:8]) != "EFI PART" || size < gptHeaderSize || int64(size) > sector || le.Uint64(h[24:]) != uint64(off/sector) {
		return none, nil
	}
	clear(h[16:20])
	lba, count, each := le.Uint64(h[72:]), le.Uint32(h[80:]), le.Uint32(h[84:])
	if crc32.ChecksumIEEE(h[:size]) != sum || count > 1024 || each < 128 || each > 4096 || lba > uint64(d.size/sector) {
		return none, nil
	}
	entries := make([]byte, int64(count)*int64(each))
	if int64(lba)*sector > d.size-int64(len(entries)) {
		return none, nil
	}
	if err := d.readAll(entries, int64(lba)*sector); err != nil {
		return none, err
	}
	if crc32.ChecksumIEEE(entries) != le.Uint32(h[88:]) {
		return none, nil
	}
	g := liveGPT{entries: entries, each: int(each), array: int64(lba) * sector, end: (int64(lba)*sector + int64(len(entries)) + sector - 1) / sector * sector, first: d.size}
	for ; len(entries) > 0; entries = entries[each:] {
		if start := le.Uint64(entries[32:]); start > 0 && start < uint64(g.first/sector) {
			g.first = int64(start) * sector
		}
	}
	return g, nil
}

func (d *Device) readAll(b []byte, off int64) error {
	if n, err := d.ReadAt(b, off); n < len(b) {
		if err == nil || errors.Is(err, io.EOF) {
			err = &IOError{d.path, "read", off, io.ErrUnexpectedEOF}
		}
		return err
	}
	return nil
}

// recorder takes what go-diskfs and planMBR would write.
type recorder struct {
	*Device
	writes []tableWrite
}

// recordTable has the writes of WriteTable go to r.
func recordTable(r *recorder, t imagefmt.Table) error {
	switch t.Kind {
	case imagefmt.TableGPT:
		boot, table, err := makeGPT(r.Device, t)
		if err != nil {
			return err
		}
		r.writes = append(r.writes, tableWrite{boot, 0})
		return table.Write(r, r.size)
	case imagefmt.TableMBR:
		b, err := makeMBR(r.Device, t)
		r.writes = append(r.writes, tableWrite{b, 0})
		return err
	}
	return fmt.Errorf("a table of kind %q cannot be replaced while partitions stay", t.Kind)
}

func (r *recorder) WriteAt(b []byte, off int64) (int, error) {
	r.writes = append(r.writes, tableWrite{append([]byte(nil), b...), off})
	return len(b), nil
}

func (r *recorder) Sync() error                    { return nil }
func (r *recorder) Stat() (fs.FileInfo, error)     { return os.Stat(r.path) }
func (r *recorder) Read([]byte) (int, error)       { return 0, io.EOF }
func (r *recorder) Seek(int64, int) (int64, error) { return r.size, nil }
func (r *recorder) Close() error                   { return nil }
