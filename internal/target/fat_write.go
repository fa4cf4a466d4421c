package target

import (
	"context"
	"encoding/binary"
)

// Attributes of a directory entry.
const (
	fatAttrLabel     = 0x08
	fatAttrDirectory = 0x10
	fatAttrLong      = 0x0f
)

// fatBoot is what a boot sector says besides the geometry.
type fatBoot struct {
	id     uint32
	label  string // 11 bytes
	hidden uint32 // sectors before the partition
}

// fatNode is a file or directory.
type fatNode struct {
	raw       []byte // its entries in its directory: those of the long name, then the short one; none for the root
	directory bool
	dots      []byte // a directory's entries for itself and its parent
	children  []*fatNode
	runs      []extRun // where a file's bytes were, in bytes
	size      int64    // of a file, bytes
	data      []byte   // of a file, once loaded
	first     uint32   // its first cluster in the new file system, 0: none
}

// entries is how many directory entries the children have.
func (n *fatNode) entries() (entries int) {
	for _, c := range n.children {
		entries += len(c.raw) / fatEntry
	}
	return entries
}

// length is how many bytes the content takes.
func (n *fatNode) length() int64 {
	if n.directory {
		return int64(len(n.dots) + n.entries()*fatEntry)
	}
	return n.size
}

// own is how many clusters the content takes: a directory has one at least.
func (n *fatNode) own(g *fatGeometry, root bool) int64 {
	if root && g.bits != 32 {
		return 0
	}
	length := n.length()
	if n.directory {
		length = max(length, 1)
	}
	return (length + g.cluster() - 1) / g.cluster()
}

// clusters is how many clusters it and everything in it takes.
func (n *fatNode) clusters(g *fatGeometry, root bool) int64 {
	sum := n.own(g, root)
	for _, c := range n.children {
		sum += c.clusters(g, false)
	}
	return sum
}

// fatWriter writes one FAT.
type fatWriter struct {
	*fatGeometry
	d     Blank
	table []uint32 // the entries in use
}

// writeFAT writes a file system with everything in root, whose files are loaded. The boot sector comes last.
func writeFAT(ctx context.Context, d Blank, g *fatGeometry, boot fatBoot, root *fatNode) error {
	w := &fatWriter{g, d, []uint32{0x0ffffff8, 0x0fffffff}}
	if err := d.Zero(ctx, 0, g.dataStart()); err != nil {
		return err
	}
	w.place(root, true)
	if err := w.content(ctx, root, nil); err != nil {
		return err
	}
	packed := packFAT(w.table, g.bits)
	for i := range int64(2) {
		if _, err := d.WriteAt(packed, (g.reserved+i*g.fatSectors)*g.sector); err != nil {
			return err
		}
	}
	return w.boot(boot, root)
}

// place gives the node and everything in it clusters, each in a row.
func (w *fatWriter) place(n *fatNode, root bool) {
	if count := w.own(n, root); count > 0 {
		n.first = uint32(len(w.table))
		for i := range count {
			next := n.first + uint32(i) + 1
			if i == count-1 {
				next = 0x0fffffff
			}
			w.table = append(w.table, next)
		}
	}
	for _, c := range n.children {
		w.place(c, false)
	}
}

func (w *fatWriter) own(n *fatNode, root bool) int64 { return n.own(w.fatGeometry, root) }

// content writes the clusters of a node, filled up with zeros, and of everything in it. parent is nil for the root.
func (w *fatWriter) content(ctx context.Context, n, parent *fatNode) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	b := n.data
	if n.directory {
		b = w.directory(n, parent)
	}
	switch {
	case n.first > 0:
		count := w.own(n, parent == nil)
		b = append(b[:len(b):len(b)], make([]byte, count*w.cluster()-int64(len(b)))...)
		if _, err := w.d.WriteAt(b, w.at(n.first)); err != nil {
			return err
		}
	case n.directory: // the root of a FAT12 or FAT16
		if _, err := w.d.WriteAt(b, w.rootStart()); err != nil {
			return err
		}
	}
	for _, c := range n.children {
		if err := w.content(ctx, c, n); err != nil {
			return err
		}
	}
	return nil
}

// directory returns the entries of a directory with the new first clusters.
func (w *fatWriter) directory(n, parent *fatNode) []byte {
	var b []byte
	if len(n.dots) == 2*fatEntry {
		b = append(b, n.dots...)
		setFirst(b[:fatEntry], n.first)
		up := parent.first
		if len(parent.raw) == 0 {
			up = 0 // the root, wherever it is
		}
		setFirst(b[fatEntry:], up)
	}
	for _, c := range n.children {
		b = append(b, c.raw...)
		setFirst(b[len(b)-fatEntry:], c.first)
	}
	return b
}

func setFirst(entry []byte, cluster uint32) {
	binary.LittleEndian.PutUint16(entry[20:], uint16(cluster>>16))
	binary.LittleEndian.PutUint16(entry[26:], uint16(cluster))
}

// packFAT writes the entries of a table in 12, 16 or 32 bits.
func packFAT(table []uint32, bits int) []byte {
	le := binary.LittleEndian
	b := make([]byte, (len(table)*bits+7)/8+1)[:(len(table)*bits+7)/8]
	for i, v := range table {
		switch bits {
		case 32:
			le.PutUint32(b[4*i:], v)
		case 16:
			le.PutUint16(b[2*i:], uint16(v))
		case 12:
			at := i * 3 / 2
			if i%2 == 0 {
				b[at], b[at+1] = byte(v), byte(v>>8)&0x0f
			} else {
				b[at] |= byte(v) << 4
				b[at+1] = byte(v >> 4)
			}
		}
	}
	return b
}

// boot writes the boot sector, last of all, and for FAT32 its copy and the sector that counts what is free.
func (w *fatWriter) boot(boot fatBoot, root *fatNode) error {
	b := make([]byte, w.sector)
	le := binary.LittleEndian
	copy(b, "\xeb\x3c\x90mkfs.fat") // some firmware looks at this name
	le.PutUint16(b[11:], uint16(w.sector))
	b[13], b[16], b[21] = byte(w.perCluster), 2, 0xf8
	le.PutUint16(b[14:], uint16(w.reserved))
	le.PutUint16(b[17:], uint16(w.rootEntries))
	le.PutUint16(b[24:], 63) // sectors of a track, heads
	le.PutUint16(b[26:], 255)
	le.PutUint32(b[28:], boot.hidden)
	if w.sectors < 1<<16 && w.bits != 32 {
		le.PutUint16(b[19:], uint16(w.sectors))
	} else {
		le.PutUint32(b[32:], uint32(w.sectors))
	}
	tail := b[36:]
	name := map[int]string{12: "FAT12   ", 16: "FAT16   ", 32: "FAT32   "}[w.bits]
	if w.bits == 32 {
		b[1] = 0x58
		le.PutUint32(b[36:], uint32(w.fatSectors))
		le.PutUint32(b[44:], root.first)
		le.PutUint16(b[48:], 1)
		le.PutUint16(b[50:], 6)
		tail = b[64:]
	} else {
		le.PutUint16(b[22:], uint16(w.fatSectors))
	}
	tail[0], tail[2] = 0x80, 0x29
	le.PutUint32(tail[3:], boot.id)
	copy(tail[7:18], boot.label)
	copy(tail[18:], name)
	copy(tail[26:], "\xf4\xeb\xfd") // halt: there is no system to start here
	b[510], b[511] = 0x55, 0xaa
	if w.bits == 32 {
		info := make([]byte, w.sector)
		copy(info, "RRaA")
		copy(info[484:], "rrAa")
		le.PutUint32(info[488:], uint32(w.clusters)-uint32(len(w.table)-2))
		le.PutUint32(info[492:], uint32(len(w.table)-1))
		info[510], info[511] = 0x55, 0xaa
		for _, s := range []struct {
			sector int64
			b      []byte
		}{{7, info}, {6, b}, {1, info}} {
			if _, err := w.d.WriteAt(s.b, s.sector*w.sector); err != nil {
				return err
			}
		}
	}
	_, err := w.d.WriteAt(b, 0)
	return err
}
