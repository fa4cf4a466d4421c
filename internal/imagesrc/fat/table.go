package fat

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"swarmboot/internal/imagesrc/volume"
)

const (
	// chunk is how much of a table is read at once: a multiple of 3 bytes, so that FAT12 entries are never cut.
	chunk = 96 << 10
	// maxRootBytes bounds the search for the volume label.
	maxRootBytes = 64 << 10
)

// usedClusters adds the used clusters to m and says why the table may not be trusted, "" when it may.
func (b *boot) usedClusters(m *volume.Map) (string, error) {
	tableLen := ((b.clusters+2)*int64(b.bits) + 7) / 8
	active, other := make([]byte, min(chunk, tableLen)), make([]byte, min(chunk, tableLen))
	reason := ""
	if b.raw[b.extended+1]&1 != 0 {
		reason = "it was not unmounted cleanly"
	}
	next := int64(0) // cluster number of the first entry in the chunk
	for off := int64(0); off < tableLen; off += chunk {
		n := min(chunk, tableLen-off)
		if err := b.readTable(active[:n], b.active, off); err != nil {
			return "", err
		}
		if off == 0 && reason == "" {
			reason = b.stateBits(active)
		}
		for c := int64(0); b.mirrored && c < b.fats; c++ {
			if c == b.active {
				continue
			}
			if err := b.readTable(other[:n], c, off); err != nil {
				return "", err
			}
			if reason == "" && !b.alike(active[:n], other[:n], off) {
				reason = "the copies of the table differ, run fsck.fat"
			}
		}
		next = b.addUsed(m, active[:n], next)
	}
	return reason, nil
}

func (b *boot) readTable(p []byte, table, off int64) error {
	at := b.fatStart + table*b.fatLen + off
	if _, err := b.r.ReadAt(p, at); err != nil {
		return fmt.Errorf("vfat: read table %d at byte %d: %w", table+1, at, err)
	}
	return nil
}

// alike compares two copies of the table. Entries 0 and 1 hold state bits, which some systems keep in the first
// copy only.
func (b *boot) alike(one, two []byte, off int64) bool {
	if skip := b.bits * 2 / 8; off == 0 {
		one, two = one[skip:], two[skip:]
	}
	return bytes.Equal(one, two)
}

// stateBits looks at the shutdown and error bits of entry 1.
func (b *boot) stateBits(table []byte) string {
	var clean, noErrors bool
	switch b.bits {
	case 16:
		e := binary.LittleEndian.Uint16(table[2:])
		clean, noErrors = e&0x8000 != 0, e&0x4000 != 0
	case 32:
		e := binary.LittleEndian.Uint32(table[4:])
		clean, noErrors = e&0x08000000 != 0, e&0x04000000 != 0
	default:
		return ""
	}
	switch {
	case !clean:
		return "it was not unmounted cleanly"
	case !noErrors:
		return "disk errors were recorded, run fsck.fat"
	}
	return ""
}

// addUsed adds the used clusters of a chunk whose first entry is number next, and returns the number after its last.
func (b *boot) addUsed(m *volume.Map, p []byte, next int64) int64 {
	count := min(int64(len(p))*8/int64(b.bits), b.clusters+2-next)
	first := int64(-1)
	for i := range count {
		used := b.used(b.entry(p, i)) && next+i >= 2
		switch {
		case used && first < 0:
			first = i
		case !used && first >= 0:
			m.Add(b.clusterOff(next+first), (i-first)*b.cluster)
			first = -1
		}
	}
	if first >= 0 {
		m.Add(b.clusterOff(next+first), (count-first)*b.cluster)
	}
	return next + count
}

// entry decodes entry i of a piece of the table.
func (b *boot) entry(p []byte, i int64) uint32 {
	switch b.bits {
	case 12:
		v := uint32(binary.LittleEndian.Uint16(p[i*3/2:]))
		return v >> (4 * (i & 1)) & 0xFFF
	case 16:
		return uint32(binary.LittleEndian.Uint16(p[i*2:]))
	}
	return binary.LittleEndian.Uint32(p[i*4:]) & 0x0FFFFFFF
}

// used says what an entry means: 0 is free, ..F7 is a bad cluster, which nobody can read.
func (b *boot) used(entry uint32) bool {
	bad := uint32(0x0FFFFFF7) & (1<<b.bits - 1)
	return entry != 0 && entry != bad
}

func (b *boot) clusterOff(number int64) int64 { return b.dataStart + (number-2)*b.cluster }

// rootLabel is the volume label in the root directory, which counts more than the one in the boot sector.
func (b *boot) rootLabel() (string, error) {
	if b.bits != 32 {
		return b.labelIn(b.rootStart, min(b.rootLen, maxRootBytes))
	}
	cluster := b.rootNumber
	for read := int64(0); read < maxRootBytes; read += b.cluster {
		if cluster < 2 || cluster >= b.clusters+2 {
			return "", nil
		}
		l, err := b.labelIn(b.clusterOff(cluster), b.cluster)
		if err != nil || l != "" {
			return l, err
		}
		var e [4]byte
		if err := b.readTable(e[:], b.active, cluster*4); err != nil {
			return "", err
		}
		cluster = int64(b.entry(e[:], 0))
	}
	return "", nil
}

// labelIn looks for a volume label among the directory entries in n bytes at off.
func (b *boot) labelIn(off, n int64) (string, error) {
	dir := make([]byte, n)
	if _, err := b.r.ReadAt(dir, off); err != nil {
		return "", fmt.Errorf("vfat: read root directory at byte %d: %w", off, err)
	}
	for ; len(dir) >= 32 && dir[0] != 0; dir = dir[32:] {
		const volumeID, longName = 0x08, 0x0F
		if attr := dir[11]; dir[0] != 0xE5 && attr&0x3F != longName && attr&(volumeID|0x10) == volumeID {
			return label(dir[:11]), nil
		}
	}
	return "", nil
}
