package imagesrc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// ContainerError says that a file is no raw disk: it holds one in a format of a hypervisor, compressed, or as another imaging
// program's. Its bytes are not the disk's.
type ContainerError struct {
	Path   string
	Format string // as people call it: "qcow2"
	Hint   string // how to get at the disk
}

func (e *ContainerError) Error() string {
	return fmt.Sprintf("%s is a file of the format %s, not a raw disk", e.Path, e.Format)
}

// container is a format and where its mark stands.
type container struct {
	format string
	off    int64 // from the start; negative: from the end
	magic  string
	hint   string
}

const (
	hintConvert = "convert it: qemu-img convert -O raw %[1]s %[1]s.raw; or attach it: qemu-nbd --read-only --connect=/dev/nbd0 %[1]s, and image /dev/nbd0"
	hintUnpack  = "unpack it first"
	hintRestore = "restore it to a disk or file first"
)

// containers are the formats that people have disks in. Sources: QEMU's docs/interop (qcow2, qed, parallels), VMware's "Virtual
// Disk Format 5.0" (VMDK), Microsoft's MS-VHDX and "Virtual Hard Disk Image Format Specification" (VHD), VirtualBox's VDICore.h, the
// RFCs of gzip (1952) and Zstandard (8878), the file formats of xz, lz4 (frames), ZIP (APPNOTE.TXT), 7z and Microsoft's WIM, Android's
// libsparse, libewf's EWF, partclone's FORMAT.
var containers = []container{
	{"qcow2", 0, "QFI\xfb\x00\x00\x00\x02", hintConvert},
	{"qcow2", 0, "QFI\xfb\x00\x00\x00\x03", hintConvert},
	{"qcow", 0, "QFI\xfb\x00\x00\x00\x01", hintConvert},
	{"VMDK", 0, "KDMV", hintConvert},
	{"VMDK", 0, "COWD", hintConvert},
	{"VMDK (a descriptor of other files)", 0, "# Disk DescriptorFile", hintConvert},
	{"VHDX", 0, "vhdxfile", hintConvert},
	{"VHD", 0, "conectix", hintConvert},
	{"VHD of fixed size", -512, "conectix", hintConvert},
	{"VDI", 64, "\x7f\x10\xda\xbe", hintConvert},
	{"QED", 0, "QED\x00", hintConvert},
	{"Parallels", 0, "WithoutFreeSpace", hintConvert},
	{"Parallels", 0, "WithouFreSpacExt", hintConvert},
	{"Apple disk image", -512, "koly", hintConvert},
	{"gzip", 0, "\x1f\x8b\x08", hintUnpack},
	{"xz", 0, "\xfd7zXZ\x00", hintUnpack},
	{"zstd", 0, "\x28\xb5\x2f\xfd", hintUnpack},
	{"bzip2", 0, "BZh", hintUnpack},
	{"lz4", 0, "\x04\x22\x4d\x18", hintUnpack},
	{"zip", 0, "PK\x03\x04", hintUnpack},
	{"7z", 0, "7z\xbc\xaf\x27\x1c", hintUnpack},
	{"Android sparse image", 0, "\x3a\xff\x26\xed", "convert it: simg2img"},
	{"WIM", 0, "MSWIM\x00\x00\x00", hintRestore},
	{"EWF (E01)", 0, "EVF\x09\x0d\x0a\xff\x00", "convert it: ewfexport -f raw"},
	{"partclone", 0, "partclone-image", hintRestore},
}

// checkRaw refuses a file that is the container of a disk.
func checkRaw(path string, f *os.File) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("size of %s: %w", path, err)
	}
	for _, c := range containers {
		off := c.off
		if off < 0 {
			off += size
		}
		if off < 0 {
			continue
		}
		b := make([]byte, len(c.magic))
		if _, err := f.ReadAt(b, off); errors.Is(err, io.EOF) {
			continue
		} else if err != nil {
			return err
		}
		if bytes.Equal(b, []byte(c.magic)) {
			hint := c.hint
			if hint == hintConvert {
				hint = fmt.Sprintf(hint, path)
			}
			return &ContainerError{Path: path, Format: c.format, Hint: hint}
		}
	}
	return nil
}
