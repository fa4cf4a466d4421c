package target

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// fatVolume is a FAT that is read. Nothing in it is trusted.
type fatVolume struct {
	fatGeometry
	r       io.ReaderAt
	boot    fatBoot
	root    uint32 // first cluster of a FAT32's root directory
	table   []byte
	seen    []bool // clusters that belong to something
	entries int
	used    int64 // bytes
}

// openFAT reads the boot sector and the first table.
func openFAT(r io.ReaderAt, size int64) (*fatVolume, error) {
	b := make([]byte, 512)
	if err := readFull(r, b, 0); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	v := &fatVolume{r: r}
	v.sector, v.perCluster, v.reserved = int64(le.Uint16(b[11:])), int64(b[13]), int64(le.Uint16(b[14:]))
	v.rootEntries, v.sectors, v.fatSectors = int64(le.Uint16(b[17:])), int64(le.Uint16(b[19:])), int64(le.Uint16(b[22:]))
	if v.sectors == 0 {
		v.sectors = int64(le.Uint32(b[32:]))
	}
	tail := b[36:]
	if v.fatSectors == 0 {
		v.bits, v.fatSectors, v.root, tail = 32, int64(le.Uint32(b[36:])), le.Uint32(b[44:]), b[64:]
	}
	if b[510] != 0x55 || b[511] != 0xaa || (b[0] != 0xeb && b[0] != 0xe9) || string(b[3:8]) == "EXFAT" || string(b[3:7]) == "NTFS" || v.sector == 0 || v.perCluster == 0 {
		return nil, ErrNotFAT
	}
	v.boot = fatBoot{le.Uint32(tail[3:]), string(tail[7:18]), le.Uint32(b[28:])}
	switch {
	case v.sector < 512 || v.sector > 4096 || v.sector&(v.sector-1) != 0 || v.perCluster&(v.perCluster-1) != 0:
		return nil, fmt.Errorf("boot sector: %d sectors of %d bytes in a cluster", v.perCluster, v.sector)
	case b[16] != 1 && b[16] != 2, v.reserved == 0, v.fatSectors == 0, v.sectors*v.sector > size:
		return nil, fmt.Errorf("boot sector: %d tables of %d sectors, %d sectors in all, %d bytes", b[16], v.fatSectors, v.sectors, size)
	case tail[2] != 0x29:
		return nil, errors.New("boot sector: no label and volume ID")
	case v.fatSectors*v.sector > fatMaxTable:
		return nil, fmt.Errorf("a table of %d bytes; %d are the limit", v.fatSectors*v.sector, fatMaxTable)
	}
	return v, v.readTable(int64(b[16]))
}

func (v *fatVolume) readTable(tables int64) error {
	start := (v.reserved + tables*v.fatSectors) * v.sector
	if tables == 1 { // rootStart counts two
		v.reserved -= v.fatSectors
	}
	v.clusters = (v.sectors*v.sector - start - v.rootEntries*fatEntry) / v.cluster()
	if v.bits == 0 {
		v.bits = 16
		if v.clusters < fat12Max {
			v.bits = 12
		}
	}
	if v.clusters <= 0 || (v.clusters+2)*int64(v.bits)/8 > v.fatSectors*v.sector {
		return fmt.Errorf("boot sector: %d clusters, a table of %d sectors", v.clusters, v.fatSectors)
	}
	v.seen = make([]bool, v.clusters+2)
	v.table = make([]byte, v.fatSectors*v.sector+1)
	return readFull(v.r, v.table[:v.fatSectors*v.sector], start-tables*v.fatSectors*v.sector)
}

// next is the entry of a cluster in the table.
func (v *fatVolume) next(c uint32) uint32 {
	le := binary.LittleEndian
	switch v.bits {
	case 32:
		return le.Uint32(v.table[4*c:]) & 0x0fffffff
	case 16:
		if n := uint32(le.Uint16(v.table[2*c:])); n < 0xfff0 {
			return n
		}
		return 0x0fffffff
	}
	n := uint32(le.Uint16(v.table[c*3/2:])) >> (4 * (c % 2)) & 0xfff
	if n < 0xff0 {
		return n
	}
	return 0x0fffffff
}

// chain returns where the clusters of a chain lie, in bytes, as runs. Each belongs to it alone.
func (v *fatVolume) chain(first uint32, what string) (runs []extRun, length int64, err error) {
	for c := first; c < 0x0ffffff8; c = v.next(c) {
		if c < 2 || int64(c) >= v.clusters+2 || v.seen[c] {
			return nil, 0, fmt.Errorf("%s: cluster %d is out of range or belongs to something else too: fsck.fat may help", what, c)
		}
		v.seen[c] = true
		length += v.cluster()
		if last := len(runs) - 1; last >= 0 && runs[last].end() == v.at(c) {
			runs[last].length += v.cluster()
		} else {
			runs = append(runs, extRun{v.at(c), v.cluster()})
		}
	}
	if v.used += length; v.used > fatMaxUsed {
		return nil, 0, fmt.Errorf("more than %d bytes are in use, which is the limit", fatMaxUsed)
	}
	return runs, length, nil
}

// readRuns reads the first length bytes of what lies in runs.
func readRuns(r io.ReaderAt, runs []extRun, length int64) ([]byte, error) {
	b := make([]byte, 0, length)
	for _, run := range runs {
		n := min(run.length, length-int64(len(b)))
		b = b[:int64(len(b))+n]
		if err := readFull(r, b[int64(len(b))-n:], run.start); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// tree reads all directories.
func (v *fatVolume) tree() (*fatNode, error) {
	root := &fatNode{directory: true}
	runs, length := []extRun{{v.rootStart(), v.rootEntries * fatEntry}}, v.rootEntries*fatEntry
	if v.bits == 32 {
		var err error
		if runs, length, err = v.chain(v.root, "root directory"); err != nil {
			return nil, err
		}
	}
	return root, v.directory(root, runs, length, "", 0)
}

// directory reads the entries of one directory and those below.
func (v *fatVolume) directory(n *fatNode, runs []extRun, length int64, path string, depth int) error {
	if depth > fatMaxDepth {
		return fmt.Errorf("%.80q: more than %d directories deep", path, fatMaxDepth)
	}
	b, err := readRuns(v.r, runs, length)
	if err != nil {
		return err
	}
	var long []byte
	for ; len(b) >= fatEntry && b[0] != 0; b = b[fatEntry:] {
		e := b[:fatEntry]
		if v.entries++; v.entries > fatMaxEntries {
			return fmt.Errorf("more than %d files, which is the limit", fatMaxEntries)
		}
		switch {
		case e[0] == 0xe5: // deleted
			long = nil
		case e[11]&0x3f == fatAttrLong:
			long = append(long, e...)
		case string(e[:11]) == ".          " || string(e[:11]) == "..         ":
			n.dots = append(n.dots, e...)
		default:
			child := &fatNode{raw: append(long, e...), directory: e[11]&(fatAttrDirectory|fatAttrLabel) == fatAttrDirectory}
			long = nil
			if err := v.child(child, e, path, depth); err != nil {
				return err
			}
			n.children = append(n.children, child)
		}
	}
	if path != "" && len(n.dots) != 2*fatEntry {
		return fmt.Errorf("%.80q: no entries for itself and its parent: fsck.fat may help", path)
	}
	return nil
}

// child finds the content of what an entry describes.
func (v *fatVolume) child(n *fatNode, e []byte, path string, depth int) error {
	le := binary.LittleEndian
	if e[11]&fatAttrLabel != 0 {
		return nil
	}
	path = fmt.Sprintf("%s/%.11s", path, e)
	first := uint32(le.Uint16(e[26:]))
	if v.bits == 32 {
		first |= uint32(le.Uint16(e[20:])) << 16
	}
	n.size = int64(le.Uint32(e[28:]))
	if first == 0 && !n.directory && n.size == 0 {
		return nil
	}
	runs, length, err := v.chain(first, fmt.Sprintf("%.80q", path))
	if err != nil {
		return err
	}
	if n.directory {
		n.size = 0
		return v.directory(n, runs, length, path, depth+1)
	}
	if n.size > length {
		return fmt.Errorf("%.80q: %d bytes in clusters for %d: fsck.fat may help", path, n.size, length)
	}
	n.runs = runs
	return nil
}

// load reads all files.
func (n *fatNode) load(ctx context.Context, r io.ReaderAt) (err error) {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(n.runs) > 0 {
		if n.data, err = readRuns(r, n.runs, n.size); err != nil {
			return err
		}
	}
	for _, c := range n.children {
		if err := c.load(ctx, r); err != nil {
			return err
		}
	}
	return nil
}
