package md

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

const (
	sector = 512
	magic  = 0xa92b4efc

	headSize = 256  // struct mdp_superblock_1 without the roles
	maxSuper = 4096 // what md reserves for a superblock
	maxRoles = (maxSuper - headSize) / 2
	nameSize = 32
)

// Features of a superblock (MD_FEATURE_*).
const (
	featureBitmap  = 1 << 0
	featureReshape = 1 << 2
	featurePPL     = 1 << 10
	featurePPLs    = 1 << 11
)

// Roles of members (MD_DISK_ROLE_*).
const (
	RoleSpare   = 0xffff
	RoleFaulty  = 0xfffe
	RoleJournal = 0xfffd
)

// inSync is the resync_offset of an array whose members agree.
const inSync = 1<<64 - 1

// Superblock is what a member says of its array: a superblock of version 1.x. Sizes and offsets are bytes.
type Superblock struct {
	Minor    int // 0, 1 or 2: where it lies
	Features uint32
	UUID     UUID
	Name     string // "HOMEHOST:NAME"
	Created  time.Time
	Level    int // negative: linear (-1), multipath (-4)
	Layout   uint32
	Used     int64 // used of each member; 0 for level 0
	Chunk    int64
	Disks    int // members of the array when it is complete, without spares

	BitmapOffset int64 // from the superblock; 0: none

	DataOffset   int64
	DataSize     int64 // what of this member can be used
	SuperOffset  int64
	Device       int // this member's place in Roles
	DeviceUUID   UUID
	BadLogSize   int64 // room for a list of bad blocks; 0: none
	BadLogOffset int64 // from the superblock

	Updated time.Time
	Events  uint64
	Resync  uint64 // sectors before this one are in sync; all ones: all are
	Roles   []uint16
}

// Metadata is the version as mdadm names it.
func (sb *Superblock) Metadata() string { return fmt.Sprintf("1.%d", sb.Minor) }

// Role is what this member does: a number from 0 on, RoleSpare, RoleFaulty or RoleJournal.
func (sb *Superblock) Role() int {
	if sb.Device < len(sb.Roles) {
		return int(sb.Roles[sb.Device])
	}
	return RoleSpare
}

// InSync says whether the members agreed when the superblock was written.
func (sb *Superblock) InSync() bool { return sb.Resync == inSync }

// String describes the array for an inventory.
func (sb *Superblock) String() string {
	state := "clean"
	switch {
	case sb.Features&featureReshape != 0:
		state = "reshaping"
	case !sb.InSync():
		state = "not in sync"
	}
	role := fmt.Sprintf("member %d of %d", sb.Role(), sb.Disks)
	switch sb.Role() {
	case RoleSpare:
		role = fmt.Sprintf("spare of %d", sb.Disks)
	case RoleFaulty:
		role = fmt.Sprintf("failed of %d", sb.Disks)
	case RoleJournal:
		role = fmt.Sprintf("journal of %d", sb.Disks)
	}
	return fmt.Sprintf("md array %q, level %d, metadata %s, UUID %s, %s, %s", sb.Name, sb.Level, sb.Metadata(), sb.UUID, role, state)
}

// le reads and writes little-endian fields by their offset in the structure.
var le = binary.LittleEndian

// marshal returns the superblock with its checksum, padded to whole sectors.
func (sb *Superblock) marshal() []byte {
	b := make([]byte, roundUp(int64(headSize+2*len(sb.Roles)), sector))
	le.PutUint32(b[0:], magic)
	le.PutUint32(b[4:], 1)
	le.PutUint32(b[8:], sb.Features)
	copy(b[16:], sb.UUID[:])
	copy(b[32:32+nameSize], sb.Name) // of 32 bytes there is none that ends it
	le.PutUint64(b[64:], packTime(sb.Created))
	le.PutUint32(b[72:], uint32(int32(sb.Level)))
	le.PutUint32(b[76:], sb.Layout)
	le.PutUint64(b[80:], uint64(sb.Used/sector))
	le.PutUint32(b[88:], uint32(sb.Chunk/sector))
	le.PutUint32(b[92:], uint32(sb.Disks))
	le.PutUint32(b[96:], uint32(int32(sb.BitmapOffset/sector)))
	le.PutUint64(b[128:], uint64(sb.DataOffset/sector))
	le.PutUint64(b[136:], uint64(sb.DataSize/sector))
	le.PutUint64(b[144:], uint64(sb.SuperOffset/sector))
	le.PutUint32(b[160:], uint32(sb.Device))
	copy(b[168:], sb.DeviceUUID[:])
	le.PutUint16(b[186:], uint16(sb.BadLogSize/sector))
	le.PutUint32(b[188:], uint32(int32(sb.BadLogOffset/sector)))
	le.PutUint64(b[192:], packTime(sb.Updated))
	le.PutUint64(b[200:], sb.Events)
	le.PutUint64(b[208:], sb.Resync)
	le.PutUint32(b[220:], uint32(len(sb.Roles)))
	for i, r := range sb.Roles {
		le.PutUint16(b[headSize+2*i:], r)
	}
	le.PutUint32(b[216:], checksum(b, len(sb.Roles)))
	return b
}

// parse reads a superblock that lies at off. It checks all that the rest of the package relies on.
func parse(b []byte, off int64) (*Superblock, error) {
	if len(b) < headSize || le.Uint32(b) != magic {
		return nil, ErrNoSuperblock
	}
	if v := le.Uint32(b[4:]); v != 1 {
		return nil, fmt.Errorf("major version %d", v)
	}
	roles := le.Uint32(b[220:])
	if roles > maxRoles || headSize+2*int(roles) > len(b) {
		return nil, fmt.Errorf("%d members, more than %d", roles, maxRoles)
	}
	if want, got := checksum(b, int(roles)), le.Uint32(b[216:]); want != got {
		return nil, fmt.Errorf("checksum is %08x, its content has %08x", got, want)
	}
	sb := &Superblock{
		Features: le.Uint32(b[8:]), UUID: UUID(b[16:32]), Name: text(b[32 : 32+nameSize]), Created: unpackTime(le.Uint64(b[64:])),
		Level: int(int32(le.Uint32(b[72:]))), Layout: le.Uint32(b[76:]), Chunk: int64(le.Uint32(b[88:])) * sector, Disks: int(le.Uint32(b[92:])),
		Device: int(le.Uint32(b[160:])), DeviceUUID: UUID(b[168:184]),
		BadLogSize: int64(le.Uint16(b[186:])) * sector, BadLogOffset: int64(int32(le.Uint32(b[188:]))) * sector,
		Updated: unpackTime(le.Uint64(b[192:])), Events: le.Uint64(b[200:]), Resync: le.Uint64(b[208:]),
	}
	for i := range int(roles) {
		sb.Roles = append(sb.Roles, le.Uint16(b[headSize+2*i:]))
	}
	// The same place holds the journal of partial parity in arrays that have one.
	if sb.Features&featureBitmap != 0 && sb.Features&(featurePPL|featurePPLs) == 0 {
		sb.BitmapOffset = int64(int32(le.Uint32(b[96:]))) * sector
	}
	for _, f := range []struct {
		to   *int64
		at   int
		name string
	}{{&sb.Used, 80, "size"}, {&sb.DataOffset, 128, "data offset"}, {&sb.DataSize, 136, "data size"}, {&sb.SuperOffset, 144, "superblock offset"}} {
		n := le.Uint64(b[f.at:])
		if n > 1<<53 {
			return nil, fmt.Errorf("%s of %d sectors", f.name, n)
		}
		*f.to = int64(n) * sector
	}
	if sb.SuperOffset != off {
		return nil, fmt.Errorf("it says that it lies at %d", sb.SuperOffset)
	}
	return sb, sb.check()
}

func (sb *Superblock) check() error {
	if sb.Disks < 1 || sb.Disks > maxRoles {
		return fmt.Errorf("an array of %d members", sb.Disks)
	}
	if sb.Device > 1<<20 || sb.Device < 0 {
		return fmt.Errorf("member number %d", sb.Device)
	}
	if bytes.ContainsFunc([]byte(sb.Name), func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("control characters in the name")
	}
	return nil
}

func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(bytes.ToValidUTF8(b, []byte("?")))
}

// Times are seconds in the low 40 bits and microseconds in the high 24.
const timeBits = 40

func packTime(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.Unix())&(1<<timeBits-1) | uint64(t.Nanosecond()/1000)<<timeBits
}

func unpackTime(v uint64) time.Time {
	if v == 0 {
		return time.Time{}
	}
	return time.Unix(int64(v&(1<<timeBits-1)), int64(v>>timeBits)*1000).UTC()
}

// checksum is the sum of the structure's 32-bit words, without the checksum's own, folded to 32 bits
// (drivers/md/md.c, calc_sb_1_csum).
func checksum(b []byte, roles int) uint32 {
	end := headSize + 2*roles
	var sum uint64
	i := 0
	for ; i+4 <= end; i += 4 {
		if i != 216 {
			sum += uint64(le.Uint32(b[i:]))
		}
	}
	if i+2 <= end {
		sum += uint64(le.Uint16(b[i:]))
	}
	return uint32(sum) + uint32(sum>>32)
}

func roundUp(n, to int64) int64   { return (n + to - 1) / to * to }
func roundDown(n, to int64) int64 { return n / to * to }
