package target

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Scratch describes an empty file system or swap area.
type Scratch struct {
	Kind   string // ext4, xfs, vfat or swap
	Size   int64  // bytes
	Sector int    // logical sector of the device, 512 or 4096 bytes
	Label  string
	UUID   string // "": a random one; of vfat "ABCD-1234"
}

// MakeScratch makes the first s.Size bytes of d an empty file system: in seconds for any size, see MakeExt4, MakeXFS, MakeFAT and MakeSwap. What
// CheckScratch refuses it refuses before it writes.
func MakeScratch(ctx context.Context, d Blank, s Scratch) error {
	if err := CheckScratch(s); err != nil {
		return err
	}
	uuid, id, err := s.ids()
	if err != nil {
		return err
	}
	switch s.Kind {
	case "ext4":
		return MakeExt4(ctx, d, s.Size, Ext4{Label: s.Label, UUID: uuid})
	case "xfs":
		return MakeXFS(ctx, d, s.Size, XFS{Label: s.Label, UUID: uuid, Sector: s.Sector})
	case "vfat":
		return MakeFAT(ctx, d, s.Size, FAT{Label: strings.ToUpper(s.Label), VolumeID: id, Sector: s.Sector})
	}
	if err := zeroEdges(ctx, d, s.Size); err != nil {
		return fmt.Errorf("make swap: %w", err)
	}
	return MakeSwap(d, s.Size, Swap{Label: s.Label, UUID: uuid})
}

// CheckScratch says why a file system cannot be made: kind, size, sector size, label or UUID.
func CheckScratch(s Scratch) error {
	_, _, err := s.ids()
	if err == nil {
		switch s.Kind {
		case "ext4":
			_, err = Ext4{Label: s.Label}.plan(s.Size)
		case "xfs":
			_, err = XFS{Label: s.Label, Sector: s.Sector}.plan(s.Size)
		case "vfat":
			_, err = FAT{Label: strings.ToUpper(s.Label), Sector: s.Sector}.plan(s.Size)
		case "swap":
			err = Swap{Label: s.Label}.check(s.Size)
		default:
			return fmt.Errorf("make %.20q: want ext4, swap, vfat or xfs", s.Kind)
		}
	}
	if err != nil {
		return fmt.Errorf("make %.20s: %w", s.Kind, err)
	}
	return nil
}

// ids reads the UUID, of vfat the volume ID.
func (s Scratch) ids() (uuid [16]byte, id uint32, err error) {
	if s.Kind == "vfat" {
		id, err = parseVolumeID(s.UUID)
		return uuid, id, err
	}
	uuid, err = parseScratchUUID(s.UUID)
	return uuid, 0, err
}

func parseVolumeID(s string) (uint32, error) {
	if s == "" {
		return 0, nil
	}
	id, err := strconv.ParseUint(strings.Replace(s, "-", "", 1), 16, 32)
	if err != nil || len(s) != 9 || s[4] != '-' {
		return 0, fmt.Errorf("volume ID %.40q: want XXXX-XXXX", s)
	}
	return uint32(id), nil
}

func parseScratchUUID(s string) (u [16]byte, err error) {
	if s == "" {
		return u, nil
	}
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 || len(s) != 36 {
		return u, fmt.Errorf("UUID %.60q: want 32 hex digits with dashes", s)
	}
	return [16]byte(b), nil
}
