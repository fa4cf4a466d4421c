// Package efiboot makes a deployed disk start by itself on UEFI firmware: it finds the boot loader on the EFI system
// partition (ESP), gives the disk the fallback path \EFI\BOOT that firmware takes when it has forgotten its entries, and keeps
// one boot entry for it in the firmware's variables.
//
// Formats: UEFI specification 2.10, sections 3.1.3 (load options), 3.3 (variables), 3.5.1.1 (removable media), 10.3
// (device paths), 5.3 (GPT). Variables are reached through efivarfs (Linux, Documentation/filesystems/efivarfs.rst).
package efiboot

import (
	"encoding/binary"
	"fmt"
)

// ID is how a boot entry names a partition's table entry: its unique GUID, or for an MBR the disk's signature.
type ID struct {
	Kind byte     // SignatureGUID or SignatureMBR
	Sig  [16]byte // the GUID as it is on the disk; an MBR's signature in the first four bytes
}

// Kinds of ID (UEFI 2.10, table 10.49, "Signature Type").
const (
	SignatureMBR  = 1
	SignatureGUID = 2
)

// String is a GUID in its usual form, or the eight digits of an MBR's signature.
func (id ID) String() string {
	le, b := binary.LittleEndian, id.Sig[:]
	if id.Kind == SignatureMBR {
		return fmt.Sprintf("%08x", le.Uint32(b))
	}
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:])
}

// Partition is an entry of a partition table as a boot entry has to describe it.
type Partition struct {
	ID
	Number  int
	Start   uint64 // LBA
	Sectors uint64 // logical ones
	ESP     bool   // by its type
}
