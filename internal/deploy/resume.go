package deploy

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"swarmboot/imagefmt"
	"swarmboot/internal/disk"
)

// gptArray is the size in bytes of a partition array as stageTable writes it (UEFI 2.10, section 5.3).
const gptArray = 128 * 128

// isStaged says whether a disk has the table t, which lists what is kept only, and no boot code: what a deployment leaves that did not
// come to its end, known by the table's own identity (disk GUID or signature). A finished disk has partitions, and one whose run failed
// in good order has no table. It only decides whether it is worth while to look for pieces of the image on the disk: each is believed
// by its SHA-256 alone. A disk that cannot be read here is not recognized; the steps that follow will tell.
func isStaged(dev *disk.Device, t imagefmt.Table) bool {
	switch t.Kind {
	case imagefmt.TableGPT:
		return isStagedGPT(dev, t)
	case imagefmt.TableMBR:
		return isStagedMBR(dev, t)
	}
	return false // a bare file system has no place for a mark
}

func isStagedGPT(dev *disk.Device, t imagefmt.Table) bool {
	want, err := uuid.Parse(t.GUID)
	if err != nil {
		return false
	}
	sector := int64(dev.SectorSize())
	header := make([]byte, 92)
	if _, err := dev.ReadAt(header, sector); err != nil || string(header[:8]) != "EFI PART" {
		return false
	}
	if !bytes.Equal(header[56:72], mixedEndian(want)) || binary.LittleEndian.Uint64(header[72:]) != 2 {
		return false
	}
	entries := make([]byte, gptArray)
	if _, err := dev.ReadAt(entries, 2*sector); err != nil {
		return false
	}
	for _, p := range t.Partitions {
		id, err := uuid.Parse(p.UUID)
		if err != nil || p.Number < 1 || p.Number > len(entries)/128 {
			return false
		}
		e := entries[128*(p.Number-1):][:128]
		if !bytes.Equal(e[16:32], mixedEndian(id)) {
			return false
		}
		clear(e)
	}
	return allZero(entries)
}

// mixedEndian is how a GPT stores a GUID (UEFI 2.10, appendix A).
func mixedEndian(u uuid.UUID) []byte {
	return []byte{u[3], u[2], u[1], u[0], u[5], u[4], u[7], u[6], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]}
}

func isStagedMBR(dev *disk.Device, t imagefmt.Table) bool {
	want, err := strconv.ParseUint(strings.TrimPrefix(t.DiskSignature, "0x"), 16, 32)
	if err != nil || want == 0 {
		return false
	}
	b := make([]byte, 512)
	if _, err := dev.ReadAt(b, 0); err != nil || b[510] != 0x55 || b[511] != 0xaa {
		return false
	}
	for _, p := range t.Partitions {
		if p.Number < 1 || p.Number > 4 {
			return false
		}
		e := b[446+16*(p.Number-1):][:16]
		if int64(binary.LittleEndian.Uint32(e[8:]))*int64(dev.SectorSize()) != p.Start {
			return false
		}
		clear(e)
	}
	return uint64(binary.LittleEndian.Uint32(b[440:])) == want && allZero(b[446:510]) && allZero(b[:440])
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
