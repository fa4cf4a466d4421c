package target

import (
	"fmt"
	"os"
	"strings"
)

// probe reads the type and UUID of the file system on a device: what a bare image's manifest does not say.
// Unknown content gives empty strings. Offsets: ext4 documentation, "The Super Block"; XFS, xfs_dsb; struct btrfs_super_block.
func probe(device string) (fsType, uuid string, err error) {
	f, err := os.Open(device)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	b := make([]byte, 2048)
	if err := readFull(f, b, 0); err != nil {
		return "", "", fmt.Errorf("read superblock: %w", err)
	}
	switch {
	case string(b[1024+56:1024+58]) == "\x53\xef":
		return "ext4", formatUUID(b[1024+104:][:16]), nil // the ext4 driver mounts ext2 and ext3 too
	case string(b[:4]) == "XFSB":
		return "xfs", formatUUID(b[32:48]), nil
	case b[510] == 0x55 && b[511] == 0xaa && (string(b[54:57]) == "FAT" || string(b[82:85]) == "FAT"):
		return "vfat", "", nil
	}
	if b, err = readBtrfs(f); err != nil {
		return "", "", fmt.Errorf("read superblock: %w", err)
	}
	if b != nil {
		return "btrfs", formatUUID(b[btrfsFSIDOff:][:16]), nil // also where metadata bear another one: it is by fsid that it is mounted
	}
	return "", "", nil
}

func formatUUID(b []byte) string {
	if strings.Trim(string(b), "\x00") == "" {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
