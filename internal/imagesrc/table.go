package imagesrc

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"swarmboot/imagefmt"
	"swarmboot/internal/imagesrc/volume"
)

const (
	bootCodeSize = 440
	bootSize     = 512 // the part of sector 0 that an MBR fills, whatever the sector size
)

// readTable fills in table, reserved and sector. As for the kernel, a GPT counts only where the MBR protects it.
func (d *disk) readTable() error {
	d.table = imagefmt.Table{Kind: imagefmt.TableNone}
	if d.size < bootSize {
		return fmt.Errorf("%d bytes are no disk", d.size)
	}
	boot := make([]byte, bootSize)
	if _, err := d.r.ReadAt(boot, 0); err != nil {
		return fmt.Errorf("read sector 0: %w", err)
	}
	entries := mbrEntries(boot)
	protective := false
	for _, e := range entries {
		protective = protective || e.kind == 0xEE
	}
	sector := d.findGPT(protective)
	switch {
	case sector != 0 && protective:
		if len(entries) > 1 {
			d.note("the MBR lists partitions too (a hybrid MBR): a target gets one that only protects the GPT")
		}
		return d.readGPT(boot, sector)
	case protective:
		return errors.New("the MBR protects a GPT, but neither end of the disk holds one: both copies are damaged")
	case sector != 0 && len(entries) == 0 && !d.bareFileSystem():
		d.note("the protective MBR is missing; a target gets one")
		return d.readGPT(boot, sector)
	case sector != 0 && len(entries) != 0:
		d.note("a GPT is there too, but the MBR does not protect it: the MBR's partitions count")
	}
	if len(entries) == 0 {
		return nil
	}
	err := d.readMBR(boot)
	if err != nil && d.bareFileSystem() { // boot code that looks like entries
		d.table, d.reserved = imagefmt.Table{Kind: imagefmt.TableNone}, nil
		return nil
	}
	// Installers that make an MBR leave the backup of the GPT that was there. On a target it would be in the way of partitions that
	// grow, and demand a disk that is as large.
	if err == nil && d.reserveBackup(d.size/int64(d.sector)-1) {
		d.note("the backup of an old GPT at the end of the disk is left out")
	}
	return err
}

// bareFileSystem says whether a known file system begins at the start of the disk.
func (d *disk) bareFileSystem() bool {
	for _, fs := range readers {
		if _, err := fs.read(d.r, d.size); err == nil {
			return true
		} else if !errors.Is(err, volume.ErrNotRecognised) {
			return true
		}
	}
	return len(foreign(d.r, d.size)) > 0
}

// bootCode returns the first 440 bytes of sector 0, nil when they are zero.
func bootCode(boot []byte) []byte {
	if allZero(boot[:bootCodeSize]) {
		return nil
	}
	return bytes.Clone(boot[:bootCodeSize])
}

// printable replaces what a manifest cannot hold.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}
