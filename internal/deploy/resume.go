package deploy

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"swarmboot/imagefmt"
)

// gptArray is the size in bytes of a partition array as stageTable writes it (UEFI 2.10, section 5.3).
const gptArray = 128 * 128

// unfinished says whether the disk carries what a deployment of this image leaves that did not come to its
// end: the image's own table (disk GUID or signature) without partitions, as stageTable writes it. A finished
// disk has partitions, and one whose run failed in good order has no table. It only decides whether it is
// worth while to look for pieces of the image on the disk: each is believed by its SHA-256 alone. A disk that
// cannot be read here is not recognized; the steps that follow will tell.
func (w *writer) unfinished() bool {
	switch w.m.Table.Kind {
	case imagefmt.TableGPT:
		return w.unfinishedGPT()
	case imagefmt.TableMBR:
		return w.unfinishedMBR()
	}
	return false // a bare file system has no place for a mark
}

func (w *writer) unfinishedGPT() bool {
	want, err := uuid.Parse(w.m.Table.GUID)
	if err != nil {
		return false
	}
	sector := int64(w.dev.SectorSize())
	header := make([]byte, 92)
	if _, err := w.dev.ReadAt(header, sector); err != nil || string(header[:8]) != "EFI PART" {
		return false
	}
	if !bytes.Equal(header[56:72], mixedEndian(want)) || binary.LittleEndian.Uint64(header[72:]) != 2 {
		return false
	}
	entries := make([]byte, gptArray)
	_, err = w.dev.ReadAt(entries, 2*sector)
	return err == nil && allZero(entries)
}

// mixedEndian is how a GPT stores a GUID (UEFI 2.10, appendix A).
func mixedEndian(u uuid.UUID) []byte {
	return []byte{u[3], u[2], u[1], u[0], u[5], u[4], u[7], u[6], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]}
}

func (w *writer) unfinishedMBR() bool {
	want, err := strconv.ParseUint(strings.TrimPrefix(w.m.Table.DiskSignature, "0x"), 16, 32)
	if err != nil || want == 0 {
		return false
	}
	b := make([]byte, 512)
	if _, err := w.dev.ReadAt(b, 0); err != nil || b[510] != 0x55 || b[511] != 0xaa {
		return false
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
