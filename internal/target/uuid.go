package target

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Identifier changes what tells the file system on a device from others of its kind.
type Identifier struct {
	Kind     string // ext4 (also ext2 and ext3), xfs, btrfs, swap or vfat
	Old, New string // as in fstab: a UUID, or XXXX-XXXX for vfat
}

// KeptError says why the identifier of a file system stays as it is.
type KeptError struct {
	Kind   string // of what is there; "" when that is not known
	Reason string
}

func (e *KeptError) Error() string { return e.Reason }

// DeriveUUID makes a UUID (version 8 of RFC 9562) from words: the same from the same words.
func DeriveUUID(words ...string) [16]byte {
	sum := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	var u [16]byte
	copy(u[:], sum[:])
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return u
}

// FormatUUID writes a UUID in lower case.
func FormatUUID(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// device is what the changes are made on.
type device interface {
	io.ReaderAt
	io.WriterAt
}

// ChangeIdentifier gives the file system on a block device or in a file a new identifier, of which vfat takes the first four
// bytes. It is not mounted for that and must not be. A *KeptError says that nothing was changed; a file system that
// already has the new identifier is one that an earlier run has changed: Old is then New.
func ChangeIdentifier(path string, id [16]byte) (ch Identifier, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		return ch, err
	}
	defer f.Close()
	if ch, err = changeIdentifier(f, id); err != nil {
		return ch, fmt.Errorf("UUID of the file system on %s: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		return ch, fmt.Errorf("sync: %w", err)
	}
	return ch, nil
}

func changeIdentifier(d device, id [16]byte) (Identifier, error) {
	head := make([]byte, 64<<10)
	if err := readFull(d, head, 0); err != nil {
		return Identifier{}, err
	}
	switch {
	case head[extOffset+56] == 0x53 && head[extOffset+57] == 0xef:
		return changeExt(d, head[extOffset:][:1024], id)
	case isSwap(head):
		ch := Identifier{"swap", formatUUID(head[swapIDOff:][:16]), FormatUUID(id)}
		_, err := d.WriteAt(id[:], swapIDOff)
		return ch, err
	case isFAT(head):
		return changeFAT(d, head[:512], id)
	case string(head[:8]) == "LABELONE" || string(head[512:520]) == "LABELONE":
		return Identifier{}, &KeptError{"LVM2_member", "LVM's groups and volumes keep their UUIDs, and so do the file systems in them"}
	case string(head[:4]) == "XFSB":
		return changeXFS(d, head, id)
	}
	b, err := readBtrfs(d)
	switch {
	case err != nil:
		return Identifier{}, err
	case b != nil:
		return changeBtrfs(d, id)
	}
	return Identifier{}, &KeptError{"", "no file system whose UUID can be changed (ext2, ext3, ext4, XFS, btrfs, swap, vfat)"}
}

const swapIDOff = 1024 + 12 // linux/swap.h, union swap_header

// isSwap looks for the signature at the end of a first page of any size.
func isSwap(head []byte) bool {
	for page := 4096; page <= 64<<10; page *= 2 {
		if string(head[page-10:page]) == "SWAPSPACE2" {
			return true
		}
	}
	return false
}

func isFAT(b []byte) bool {
	return b[510] == 0x55 && b[511] == 0xaa && (string(b[54:57]) == "FAT" && b[38] == 0x29 || string(b[82:87]) == "FAT32" && b[66] == 0x29)
}

// changeFAT writes the volume ID into the boot sector, and of FAT32 into its copy too.
func changeFAT(d device, boot []byte, id [16]byte) (Identifier, error) {
	le := binary.LittleEndian
	at, backup := int64(39), int64(0)
	if string(boot[82:87]) == "FAT32" {
		at, backup = 67, int64(le.Uint16(boot[50:]))*int64(le.Uint16(boot[11:]))
	}
	serial := func(b []byte) string { return fmt.Sprintf("%04X-%04X", le.Uint16(b[2:]), le.Uint16(b)) }
	ch := Identifier{"vfat", serial(boot[at:]), serial(id[:])}
	if backup > 0 {
		b := make([]byte, 512)
		if err := readFull(d, b, backup); err != nil {
			return ch, err
		}
		if isFAT(b) && string(b[82:87]) == "FAT32" {
			if _, err := d.WriteAt(id[:4], backup+at); err != nil {
				return ch, err
			}
		}
	}
	_, err := d.WriteAt(id[:4], at)
	return ch, err
}

// Of the ext4 superblock (kernel documentation, "The Super Block").
const (
	extRecover      = 0x4    // incompat: the journal is to be replayed
	extCsumSeed     = 0x2000 // incompat: the seed of checksums stands in the superblock
	extMetaCsum     = 0x400  // ro_compat
	extGDTCsum      = 0x10   // ro_compat
	extSparseSuper  = 0x1    // ro_compat
	extStableInodes = 0x800  // compat: the UUID is part of encryption keys
	extSeedOff      = 0x270
	extSumOff       = 0x3fc
	extUUIDOff      = 104
	extBackupGroups = 0x24c // sparse_super2
	maxExtGroups    = 1 << 32
	maxBackups      = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc32c is the kernel's: no inversion.
func crc32c(seed uint32, b []byte) uint32 { return ^crc32.Update(^seed, castagnoli, b) }

// changeExt writes the UUID into the superblock and its copies. Where checksums of metadata depend on the UUID, the feature
// metadata_csum_seed (Linux 4.4, e2fsprogs 1.43) keeps the seed that they were made with; what has only the older checksums of group
// descriptors keeps its UUID.
func changeExt(d device, sb []byte, id [16]byte) (Identifier, error) {
	le := binary.LittleEndian
	ch := Identifier{"ext4", formatUUID(sb[extUUIDOff:][:16]), FormatUUID(id)}
	s, err := extSuperblock(sb)
	compat, incompat, ro := le.Uint32(sb[92:]), le.Uint32(sb[96:]), le.Uint32(sb[100:])
	switch {
	case err != nil && compat&extCompatSparseSuper == 0:
		return ch, &KeptError{"ext4", err.Error()}
	case incompat&extRecover != 0:
		return ch, &KeptError{"ext4", "its journal is to be replayed first"}
	case compat&extStableInodes != 0:
		return ch, &KeptError{"ext4", "encryption depends on its UUID (stable_inodes)"}
	case ro&extGDTCsum != 0 && ro&extMetaCsum == 0:
		return ch, &KeptError{"ext4", "its group descriptors have checksums of the old kind, which depend on the UUID"}
	case ro&extMetaCsum != 0 && crc32c(^uint32(0), sb[:extSumOff]) != le.Uint32(sb[extSumOff:]):
		return ch, &KeptError{"ext4", "the checksum of its superblock is wrong"}
	}
	seed := le.Uint32(sb[extSeedOff:])
	if incompat&extCsumSeed == 0 {
		seed = crc32c(^uint32(0), sb[extUUIDOff:][:16])
	}
	if s.blockSize == 0 { // sparse_super2, which extSuperblock has refused for growth
		s.blockSize, s.blocks = 1024<<le.Uint32(sb[24:]), int64(le.Uint32(sb[4:]))
	}
	backups, ok := extBackups(sb, s)
	if !ok {
		return ch, &KeptError{"ext4", "it has more groups than can be"}
	}
	old := [16]byte(sb[extUUIDOff:])
	// The copies first: a power cut in between leaves a primary that fits the rest.
	for _, at := range backups {
		b := make([]byte, 1024)
		if err := readFull(d, b, at); err != nil {
			return ch, err
		}
		if b[56] != 0x53 || b[57] != 0xef || [16]byte(b[extUUIDOff:]) != old {
			continue // not one of this file system
		}
		if err := writeExt(d, b, at, id, seed); err != nil {
			return ch, err
		}
	}
	return ch, writeExt(d, sb, extOffset, id, seed)
}

func writeExt(d device, sb []byte, at int64, id [16]byte, seed uint32) error {
	le := binary.LittleEndian
	copy(sb[extUUIDOff:], id[:])
	if le.Uint32(sb[100:])&extMetaCsum != 0 {
		le.PutUint32(sb[96:], le.Uint32(sb[96:])|extCsumSeed)
		le.PutUint32(sb[extSeedOff:], seed)
		le.PutUint32(sb[extSumOff:], crc32c(^uint32(0), sb[:extSumOff]))
	}
	_, err := d.WriteAt(sb, at)
	return err
}

// extBackups are the bytes at which copies of the superblock stand.
func extBackups(sb []byte, s superblock) (at []int64, ok bool) {
	le := binary.LittleEndian
	perGroup, first := int64(le.Uint32(sb[32:])), int64(le.Uint32(sb[20:]))
	if perGroup == 0 || le.Uint32(sb[24:]) > 6 || first > 1 {
		return nil, false
	}
	groups := (s.blocks - first + perGroup - 1) / perGroup
	sparse := le.Uint32(sb[92:])&extCompatSparseSuper != 0 || le.Uint32(sb[100:])&extSparseSuper != 0
	if groups > maxExtGroups || !sparse && groups > maxBackups {
		return nil, false
	}
	add := func(g int64) {
		if g > 0 && g < groups {
			at = append(at, (first+g*perGroup)*s.blockSize)
		}
	}
	switch {
	case le.Uint32(sb[92:])&extCompatSparseSuper != 0:
		add(int64(le.Uint32(sb[extBackupGroups:])))
		add(int64(le.Uint32(sb[extBackupGroups+4:])))
	case le.Uint32(sb[100:])&extSparseSuper != 0:
		add(1)
		for _, base := range []int64{3, 5, 7} {
			for g := base; g < groups; g *= base {
				add(g)
			}
		}
	default:
		for g := int64(1); g < groups; g++ {
			add(g)
		}
	}
	return at, true
}

// Kept returns the *KeptError that err is, nil when it is none.
func Kept(err error) *KeptError {
	var k *KeptError
	if errors.As(err, &k) {
		return k
	}
	return nil
}
