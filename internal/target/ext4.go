package target

import (
	"bytes"
	"context"
	_ "embed" // the template
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
)

//go:generate ./ext4template.sh ext4template.zst

//go:embed ext4template.zst
var ext4Template []byte

// Ext4 describes an empty ext4.
type Ext4 struct {
	Label string   // up to 16 bytes
	UUID  [16]byte // all zero: a random one
}

// Blank is a device whose content does not matter any more.
type Blank interface {
	io.WriterAt
	Zero(ctx context.Context, off, n int64) error
}

// TemplateSize is the size in bytes of the file system that MakeExt4 makes.
const TemplateSize = 128 << 20

// Fields of an ext4 superblock (kernel documentation, "The Super Block"), offsets in it.
const (
	extUUID     = 104
	extLabel    = 120
	extChecksum = 1020
)

// MakeExt4 makes an empty ext4 of TemplateSize bytes at the start of d; GrowFileSystem then makes it as large as the
// device: quickly up to 8 TiB, for which the template has room for descriptors, group by group beyond. Every byte of those is
// written: the template's blocks, zeros elsewhere. It has an inode for each 64 KiB.
func MakeExt4(ctx context.Context, d Blank, e Ext4) error {
	if len(e.Label) > 16 || strings.ContainsRune(e.Label, 0) {
		return fmt.Errorf("make ext4: label %.40q: want 16 bytes at most", e.Label)
	}
	if e.UUID == [16]byte{} {
		e.UUID = randomUUID()
	}
	if err := d.Zero(ctx, 0, TemplateSize); err != nil {
		return fmt.Errorf("make ext4: %w", err)
	}
	z, err := zstd.NewReader(bytes.NewReader(ext4Template), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return fmt.Errorf("make ext4: %w", err)
	}
	defer z.Close()
	if err := writeTemplate(ctx, d, z, e); err != nil {
		return fmt.Errorf("make ext4: %w", err)
	}
	return nil
}

// writeTemplate writes what is not zero in the template. The first block, with the superblock, comes last: what was
// interrupted is no file system.
func writeTemplate(ctx context.Context, d Blank, template io.Reader, e Ext4) error {
	var first []byte
	zeros := make([]byte, 4096)
	for off := int64(0); ; off += 4096 {
		b := make([]byte, 4096)
		if _, err := io.ReadFull(template, b); errors.Is(err, io.EOF) && off == TemplateSize {
			break
		} else if err != nil {
			return err
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case off == 0:
			first = b
		case !bytes.Equal(b, zeros):
			if _, err := d.WriteAt(b, off); err != nil {
				return err
			}
		}
	}
	sb := first[extOffset:][:superSize]
	copy(sb[extUUID:], e.UUID[:])
	copy(sb[extLabel:extLabel+16], e.Label)
	// All other checksums begin with the seed that the superblock names (metadata_csum_seed), not with the UUID.
	sum := ^crc32.Checksum(sb[:extChecksum], crc32.MakeTable(crc32.Castagnoli))
	binary.LittleEndian.PutUint32(sb[extChecksum:], sum)
	_, err := d.WriteAt(first, 0)
	return err
}
