package target

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// FAT describes an empty FAT file system, such as an EFI system partition.
type FAT struct {
	Label    string    // up to 11 bytes of ASCII, upper case; "": none
	VolumeID uint32    // 0: one from the time
	Sector   int       // logical sector of the device, 512 or 4096 bytes: systems mount no other; 0: 512
	Hidden   uint32    // sectors before the partition
	Time     time.Time // of its creation; zero: now
}

// Kinds of FAT by the number of clusters (Microsoft, "FAT: General Overview of On-Disk Format", 1.03).
const (
	fat12Max = 4085
	fat16Max = 65525
	fat32Max = 0x0ffffff5
)

const (
	fatEntry   = 32 // bytes of a directory entry
	fatMinSize = 256 << 10
	fatMaxSize = 2 << 40
)

// fatGeometry is how a FAT lies on its device. Lengths are sectors unless they say otherwise.
type fatGeometry struct {
	sector      int64 // bytes
	perCluster  int64
	reserved    int64
	fatSectors  int64 // one of the two tables
	rootEntries int64 // 0 for FAT32, whose root directory is a chain
	sectors     int64
	clusters    int64
	bits        int // 12, 16 or 32
}

func (g *fatGeometry) cluster() int64 { return g.perCluster * g.sector }
func (g *fatGeometry) rootStart() int64 {
	return (g.reserved + 2*g.fatSectors) * g.sector
}
func (g *fatGeometry) dataStart() int64 { return g.rootStart() + g.rootEntries*fatEntry }

// at is where a cluster lies, in bytes.
func (g *fatGeometry) at(cluster uint32) int64 {
	return g.dataStart() + (int64(cluster)-2)*g.cluster()
}

// newFATGeometry chooses FAT32 where there are clusters enough for it, as firmware prefers, else FAT16 or FAT12. The root
// directory has room for so many entries where its size is fixed.
func newFATGeometry(size int64, sector int, rootEntries int64) (*fatGeometry, error) {
	if sector != 512 && sector != 4096 {
		return nil, fmt.Errorf("sectors of %d bytes: want 512 or 4096", sector)
	}
	if size < fatMinSize || size > fatMaxSize {
		return nil, fmt.Errorf("%d bytes: want %d to %d", size, int64(fatMinSize), int64(fatMaxSize))
	}
	cluster := int64(32 << 10)
	for _, c := range []struct{ below, cluster int64 }{{260 << 20, 512}, {8 << 30, 4 << 10}, {16 << 30, 8 << 10}, {32 << 30, 16 << 10}} { // as mkfs.fat
		if size <= c.below {
			cluster = c.cluster
			break
		}
	}
	for _, bits := range []int{32, 16, 12} {
		for c := max(cluster, int64(sector)); c <= 32<<10; c *= 2 {
			if g := fitFAT(size/int64(sector), int64(sector), c, bits, rootEntries); g != nil {
				return g, nil
			}
			if bits == 32 {
				break // smaller clusters than those would be FAT32, larger ones never
			}
		}
	}
	return nil, fmt.Errorf("no FAT fits %d bytes in sectors of %d", size, sector)
}

// fitFAT makes a FAT of a kind, nil when its number of clusters says another.
func fitFAT(sectors, sector, cluster int64, bits int, rootEntries int64) *fatGeometry {
	g := &fatGeometry{sector: sector, perCluster: cluster / sector, reserved: 1, sectors: sectors, bits: bits}
	if bits == 32 {
		g.reserved = 32
	} else {
		perSector := sector / fatEntry
		g.rootEntries = (max(rootEntries, 512) + perSector - 1) / perSector * perSector
	}
	for { // the tables take room from the clusters that they describe
		g.clusters = (sectors - g.dataStart()/sector) / g.perCluster
		need := ((g.clusters+2)*int64(bits) + 8*sector - 1) / (8 * sector)
		if g.clusters <= 0 || need <= g.fatSectors {
			break
		}
		g.fatSectors = need
	}
	least, most := map[int]int64{12: 1, 16: fat12Max, 32: fat16Max}[bits], map[int]int64{12: fat12Max - 1, 16: fat16Max - 1, 32: fat32Max - 1}[bits]
	if g.clusters < least || g.clusters > most || g.rootEntries > 0xffff {
		return nil
	}
	return g
}

// MakeFAT makes the first size bytes of d an empty FAT with sectors of the given size.
func MakeFAT(ctx context.Context, d Blank, size int64, f FAT) error {
	if err := makeFAT(ctx, d, size, f); err != nil {
		return fmt.Errorf("make fat: %w", err)
	}
	return nil
}

func makeFAT(ctx context.Context, d Blank, size int64, f FAT) error {
	g, err := f.plan(size)
	if err != nil {
		return err
	}
	if f.Time.IsZero() {
		f.Time = time.Now()
	}
	if f.VolumeID == 0 {
		f.VolumeID = uint32(f.Time.Unix())<<8 | uint32(f.Time.Nanosecond()>>16)&0xff | 1
	}
	root := &fatNode{directory: true}
	boot := fatBoot{id: f.VolumeID, label: "NO NAME    ", hidden: f.Hidden}
	if f.Label != "" {
		boot.label = f.Label + strings.Repeat(" ", 11-len(f.Label))
		root.children = append(root.children, &fatNode{raw: fatLabel(boot.label, f.Time)})
	}
	if err := zeroEdges(ctx, d, size); err != nil {
		return err
	}
	return writeFAT(ctx, d, g, boot, root)
}

// plan checks everything.
func (f FAT) plan(size int64) (*fatGeometry, error) {
	if len(f.Label) > 11 || f.Label != strings.ToUpper(f.Label) || strings.ContainsFunc(f.Label, func(r rune) bool {
		return r < ' ' || r > '~' || strings.ContainsRune(`"*+,./:;<=>?[\]|`, r)
	}) {
		return nil, fmt.Errorf("label %.40q: want 11 characters at most, upper case, none of \"*+,./:;<=>?[\\]|", f.Label)
	}
	if f.Sector == 0 {
		f.Sector = 512
	}
	return newFATGeometry(size, f.Sector, 0)
}

// fatLabel is the entry of the root directory that holds the label.
func fatLabel(label string, at time.Time) []byte {
	b := make([]byte, fatEntry)
	copy(b, label)
	b[11] = fatAttrLabel
	at = at.UTC()
	binary.LittleEndian.PutUint16(b[22:], uint16(at.Hour()<<11|at.Minute()<<5|at.Second()/2))
	binary.LittleEndian.PutUint16(b[24:], uint16(max(0, at.Year()-1980)<<9|int(at.Month())<<5|at.Day()))
	return b
}

// Area is a device, or a part of one, that is read as well.
type Area interface {
	io.ReaderAt
	Blank
}

// Limits of ConvertFAT, which holds all files in memory while it writes.
const (
	fatMaxUsed    = 256 << 20 // bytes of files and directories
	fatMaxEntries = 1 << 16
	fatMaxTable   = 32 << 20 // bytes
	fatMaxDepth   = 32
)

// ErrNotFAT says that there is no FAT file system.
var ErrNotFAT = errors.New("no FAT file system")

// CheckFAT says whether ConvertFAT would convert the FAT at the start of r for a partition of size bytes and the sector size. It reads
// the tables and the directories. ErrNotFAT is wrapped when there is none.
func CheckFAT(r io.ReaderAt, size int64, sector int) error {
	_, _, _, err := planFAT(r, size, sector)
	if err != nil {
		return fmt.Errorf("fat with sectors of %d bytes: %w", sector, err)
	}
	return nil
}

// ConvertFAT builds the FAT at the start of d anew in the same place with another sector size, since a system mounts a FAT only on a
// device with its own: files, long names, times, attributes, label and volume ID stay. Deleted files and boot code do not. Everything
// is read and checked before the first write; an error before that leaves d as it was. The boot sector goes first and comes
// back last, so that an interrupted conversion leaves no FAT. One that has that sector size already stays as it is.
func ConvertFAT(ctx context.Context, d Area, size int64, sector int) error {
	g, boot, root, err := planFAT(d, size, sector)
	if err == nil && g != nil {
		err = convertFAT(ctx, d, g, *boot, root)
	}
	if err != nil {
		return fmt.Errorf("convert fat to sectors of %d bytes: %w", sector, err)
	}
	return nil
}

// planFAT reads a FAT and finds a place for its files; g is nil when there is nothing to convert.
func planFAT(r io.ReaderAt, size int64, sector int) (g *fatGeometry, boot *fatBoot, root *fatNode, err error) {
	v, err := openFAT(r, size)
	if err != nil {
		return nil, nil, nil, err
	}
	if v.sector == int64(sector) {
		return nil, nil, nil, nil
	}
	if root, err = v.tree(); err != nil {
		return nil, nil, nil, err
	}
	if g, err = newFATGeometry(size, sector, int64(root.entries())); err != nil {
		return nil, nil, nil, err
	}
	if need := root.clusters(g, true); need > g.clusters {
		return nil, nil, nil, fmt.Errorf("its files need %d clusters of %d bytes, there are %d", need, g.cluster(), g.clusters)
	}
	boot = &v.boot
	boot.hidden = uint32(uint64(boot.hidden) * uint64(v.sector) / uint64(sector))
	return g, boot, root, nil
}

func convertFAT(ctx context.Context, d Area, g *fatGeometry, boot fatBoot, root *fatNode) error {
	if err := root.load(ctx, d); err != nil {
		return err
	}
	return writeFAT(ctx, d, g, boot, root)
}
