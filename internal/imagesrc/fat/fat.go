// Package fat finds the used clusters of a FAT12, FAT16 or FAT32 file system from its tables. Source: Microsoft
// "FAT32 File System Specification" 1.03, and the Linux kernel's fs/fat where practice differs.
package fat

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"strings"

	"swarmboot/internal/imagesrc/volume"
)

const (
	bootSize = 512
	maxFAT12 = 4084 // clusters
	maxFAT16 = 65524
	maxFAT32 = 0x0FFFFFF6
)

// boot is the part of the boot sector that the layout depends on. Lengths are bytes unless said otherwise.
type boot struct {
	raw        []byte
	r          io.ReaderAt
	sector     int64
	cluster    int64
	fatStart   int64
	fatLen     int64 // of one copy
	fats       int64
	rootStart  int64 // FAT12/16: fixed root directory
	rootLen    int64
	dataStart  int64
	total      int64
	clusters   int64 // number of data clusters, the first one is number 2
	bits       int   // of a table entry: 12, 16, 32
	active     int64 // which copy of the table counts
	mirrored   bool  // all copies are kept alike
	extended   int   // offset of the extended boot record: drive number, state, signature, serial, label
	rootNumber int64 // FAT32: first cluster of the root directory
}

// Read is a volume.Reader. The reserved sectors, all copies of the table and the root directory are used; of the
// data area, the clusters whose entry is neither free nor marked bad.
func Read(r io.ReaderAt, size int64) (*volume.Info, error) {
	b, err := readBoot(r, size)
	if err != nil {
		return nil, err
	}
	in := &volume.Info{FileSystem: "vfat", Size: b.total}
	if s := b.raw[b.extended+2]; s == 0x28 || s == 0x29 {
		id := binary.LittleEndian.Uint32(b.raw[b.extended+3:])
		in.UUID = fmt.Sprintf("%04X-%04X", id>>16, id&0xFFFF)
		if s == 0x29 {
			in.Label = label(b.raw[b.extended+7:][:11])
		}
	}
	if l, err := b.rootLabel(); err != nil {
		return nil, err
	} else if l != "" {
		in.Label = l
	}
	m := &volume.Map{}
	m.Add(0, b.dataStart)
	if in.Dirty, err = b.usedClusters(m); err != nil {
		return nil, err
	}
	in.Extents = m.Extents(in.Size)
	return in, nil
}

func readBoot(r io.ReaderAt, size int64) (*boot, error) {
	if size < bootSize {
		return nil, volume.ErrNotRecognised
	}
	b := &boot{raw: make([]byte, bootSize), r: r}
	if _, err := r.ReadAt(b.raw, 0); err != nil {
		return nil, fmt.Errorf("read boot sector: %w", err)
	}
	if !b.recognised() {
		return nil, volume.ErrNotRecognised
	}
	if err := b.parse(size); err != nil {
		return nil, fmt.Errorf("vfat: boot sector: %w", err)
	}
	return b, nil
}

func (b *boot) u16(off int) int64 { return int64(binary.LittleEndian.Uint16(b.raw[off:])) }
func (b *boot) u32(off int) int64 { return int64(binary.LittleEndian.Uint32(b.raw[off:])) }

// recognised is strict, since a FAT has no magic of its own: the boot signature and every field with few legal
// values must be right. An NTFS or exFAT boot sector has no reserved sectors or no tables, so it fails.
func (b *boot) recognised() bool {
	sector, perCluster, media := b.u16(11), int64(b.raw[13]), b.raw[21]
	jump := b.raw[0] == 0xEB && b.raw[2] == 0x90 || b.raw[0] == 0xE9
	return b.u16(510) == 0xAA55 && jump &&
		sector >= 512 && sector <= 4096 && bits.OnesCount64(uint64(sector)) == 1 &&
		perCluster > 0 && bits.OnesCount64(uint64(perCluster)) == 1 &&
		b.u16(14) > 0 && b.raw[16] > 0 && b.raw[16] <= 4 && (media == 0xF0 || media >= 0xF8) &&
		(b.u16(22) != 0 || b.u32(36) != 0)
}

func (b *boot) parse(size int64) error {
	b.sector = b.u16(11)
	b.cluster = b.sector * int64(b.raw[13])
	b.fats = int64(b.raw[16])
	b.total = b.u16(19)
	if b.total == 0 {
		b.total = b.u32(32)
	}
	b.total *= b.sector
	b.extended, b.mirrored = 36, true
	fatSectors, is32 := b.u16(22), false
	if fatSectors == 0 {
		fatSectors, is32 = b.u32(36), true
		b.extended, b.rootNumber = 64, b.u32(44)
		if flags := b.u16(40); flags&0x80 != 0 {
			b.mirrored, b.active = false, flags&0xF
		}
	}
	b.fatStart = b.u16(14) * b.sector
	b.fatLen = fatSectors * b.sector
	b.rootStart = b.fatStart + b.fats*b.fatLen
	b.rootLen = (b.u16(17)*32 + b.sector - 1) / b.sector * b.sector
	b.dataStart = b.rootStart + b.rootLen
	switch {
	case b.total > size:
		return fmt.Errorf("%d bytes, but only %d are there: the disk or file is cut short", b.total, size)
	case b.dataStart >= b.total:
		return fmt.Errorf("tables of %d bytes leave no room for data in %d", b.dataStart, b.total)
	case is32 && b.rootLen != 0 || !is32 && b.rootLen == 0:
		return fmt.Errorf("a fixed root directory of %d bytes", b.rootLen)
	case b.active >= b.fats:
		return fmt.Errorf("table %d of %d is the active one", b.active, b.fats)
	}
	return b.parseClusters(is32)
}

func (b *boot) parseClusters(is32 bool) error {
	b.clusters = (b.total - b.dataStart) / b.cluster
	limit := int64(maxFAT16)
	switch {
	case is32:
		b.bits, limit = 32, maxFAT32
	case b.clusters > maxFAT12:
		b.bits = 16
	default:
		b.bits = 12
	}
	if b.clusters == 0 || b.clusters > limit {
		return fmt.Errorf("%d clusters", b.clusters)
	}
	if need := ((b.clusters+2)*int64(b.bits) + 7) / 8; need > b.fatLen {
		return fmt.Errorf("%d clusters need a table of %d bytes, it has %d", b.clusters, need, b.fatLen)
	}
	return nil
}

// label trims a label in its 11 byte form. "NO NAME" stands for none.
func label(b []byte) string {
	s := strings.TrimRight(string(bytes.TrimRight(b, "\x00")), " ")
	if s == "NO NAME" {
		return ""
	}
	for i := range len(s) {
		if s[i] < 0x20 {
			return ""
		}
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
