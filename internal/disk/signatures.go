package disk

// signature is a magic string by which a system recognizes content. Offsets are bytes from the start of
// the region.
type signature struct {
	name     string
	at       func(size int64) []int64 // where the structure may begin, in a region of size bytes
	magicOff int64                    // of the magic string, from there
	magic    string
	clear    int64 // how many bytes to zero from there
}

func at(offs ...int64) func(int64) []int64 {
	return func(int64) []int64 { return offs }
}

// fromEnd finds a place that depends on the size of the region.
func fromEnd(f func(size int64) int64) func(int64) []int64 {
	return func(size int64) []int64 { return []int64{f(size)} }
}

const (
	mdMagic    = "\xfc\x4e\x2b\xa9"
	mdMagicBig = "\xa9\x2b\x4e\xfc" // 0.90 is in the byte order of the machine
	bcache     = "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"
	bcachefs   = "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"
)

// md090 and md10 are where md keeps superblocks at the end: linux/raid/md_p.h, MD_NEW_SIZE_SECTORS; md.c, super_1_load.
func md090(size int64) int64 { return size&^0xffff - 64<<10 }
func md10(size int64) int64  { return (size/512 - 16) &^ 7 * 512 }

// luks2Second lists where the second header of LUKS2 may be (specification, 2.2): it depends on the size of the first.
var luks2Second = at(16<<10, 32<<10, 64<<10, 128<<10, 256<<10, 512<<10, 1<<20, 2<<20, 4<<20)

// signatures is the registration list; the offsets are those of libblkid.
var signatures = []signature{
	{"md 0.90 superblock", fromEnd(md090), 0, mdMagic, 4096},
	{"md 0.90 superblock", fromEnd(md090), 0, mdMagicBig, 4096},
	{"md 1.0 superblock", fromEnd(md10), 0, mdMagic, 512},
	{"md 1.1 superblock", at(0), 0, mdMagic, 512},
	{"md 1.2 superblock", at(4096), 0, mdMagic, 512},
	{"Intel firmware RAID", fromEnd(func(size int64) int64 { return size - 1024 }), 0, "Intel Raid ISM Cfg Sig. ", 512},
	{"Intel firmware RAID", fromEnd(func(size int64) int64 { return size - 8192 }), 0, "Intel Raid ISM Cfg Sig. ", 512},
	{"DDF firmware RAID", fromEnd(func(size int64) int64 { return size - 512 }), 0, "\xde\x11\xde\x11", 512},
	{"DDF firmware RAID", fromEnd(func(size int64) int64 { return size - 4096 }), 0, "\xde\x11\xde\x11", 512},
	{"LVM physical volume", at(0, 512, 1024, 1536), 24, "LVM2 001", 512},
	{"LUKS header", at(0), 0, "LUKS\xba\xbe", 512},
	{"second LUKS header", luks2Second, 0, "SKUL\xba\xbe", 512},
	{"bcache", at(4096), 24, bcache, 512},
	{"bcachefs", at(4096), 24, bcachefs, 512},
	{"ext2/3/4 superblock", at(1024), 56, "\x53\xef", 1024},
	{"XFS superblock", at(0), 0, "XFSB", 512},
	{"btrfs superblock", at(64<<10, 64<<20, 256<<30), 64, "_BHRfS_M", 512},
	{"F2FS superblock", at(1024, 5120), 0, "\x10\x20\xf5\xf2", 512},
	{"EROFS superblock", at(1024), 0, "\xe2\xe1\xf5\xe0", 512},
	{"squashfs superblock", at(0), 0, "hsqs", 512},
	{"ISO 9660 descriptor", at(32 << 10), 1, "CD001", 512},
	{"FAT boot sector", at(0), 54, "FAT12   ", 512},
	{"FAT boot sector", at(0), 54, "FAT16   ", 512},
	{"FAT boot sector", at(0), 82, "FAT32   ", 512},
	{"exFAT boot sector", at(0), 3, "EXFAT   ", 512},
	{"NTFS boot sector", at(0), 3, "NTFS    ", 512},
	{"BitLocker boot sector", at(0), 3, "-FVE-FS-", 512},
	{"ReFS boot sector", at(0), 3, "ReFS\x00\x00\x00\x00", 512},
	{"exFAT backup boot sector", at(12*512, 12*4096), 3, "EXFAT   ", 512},
	{"reiserfs superblock", at(64<<10, 8<<10), 52, "ReIsErFs", 512},
	{"reiserfs superblock", at(64<<10, 8<<10), 52, "ReIsEr2Fs", 512},
	{"reiserfs superblock", at(64<<10, 8<<10), 52, "ReIsEr3Fs", 512},
	{"reiser4 superblock", at(64 << 10), 0, "ReIsEr4", 512},
	{"JFS superblock", at(32<<10, 60<<10), 0, "JFS1", 512},
	{"NILFS2 superblock", at(1024), 6, "\x34\x34", 512},
	{"NILFS2 superblock", fromEnd(func(size int64) int64 { return (size/4096 - 1) * 4096 }), 6, "\x34\x34", 512},
	{"NILFS2 superblock", fromEnd(func(size int64) int64 { return size/512*512 - 4096 }), 6, "\x34\x34", 512},
	{"GFS2 superblock", at(64 << 10), 0, "\x01\x16\x19\x70", 512},
	{"OCFS2 superblock", at(1024, 2048, 4096, 8192), 0, "OCFSV2", 512},
	{"UDF descriptor", udfDescriptors, 1, "BEA01", 512},
	{"UDF descriptor", udfDescriptors, 1, "NSR02", 512},
	{"UDF descriptor", udfDescriptors, 1, "NSR03", 512},
	{"UDF descriptor", udfDescriptors, 1, "TEA01", 512},
	{"HFS superblock", at(1024), 0, "BD", 512},
	{"HFS+ superblock", at(1024), 0, "H+", 512},
	{"HFSX superblock", at(1024), 0, "HX", 512},
	{"HFS+ second superblock", fromEnd(func(size int64) int64 { return size - 1024 }), 0, "H+", 512},
	{"APFS superblock", at(0), 32, "NXSB", 512},
	{"zonefs superblock", at(0), 0, "SFOZ", 512},
	{"cramfs superblock", at(0), 0, "\x45\x3d\xcd\x28", 512},
	{"VMFS volume", at(1 << 20), 0, "\x0d\xd0\x01\xc0", 512},
	{"VMFS superblock", at(2 << 20), 0, "\x5e\xf1\xab\x2f", 512},
	{"Ceph BlueStore", at(0), 0, "bluestore block device", 512},
	{"device-mapper snapshot", at(0), 0, "SnAp", 512},
	{"dm-verity superblock", at(0), 0, "verity\x00\x00", 512},
	{"dm-integrity superblock", at(0), 0, "integrt\x00", 512},
	{"Stratis superblock", at(512, 9*512), 4, "!Stra0tis\x86\xff\x02^\x41rh", 512},
	{"LVM1 physical volume", at(0), 0, "HM\x01\x00", 512},
	{"LVM1 physical volume", at(0), 0, "HM\x02\x00", 512},
	{"LSI firmware RAID", fromEnd(func(size int64) int64 { return size/512*512 - 512 }), 0, "$XIDE$", 512},
	{"NVIDIA firmware RAID", fromEnd(func(size int64) int64 { return size/512*512 - 1024 }), 0, "NVIDIA", 512},
	{"BSD disk label", at(512, 0), 0, "\x57\x45\x56\x82", 512},
	{"BSD disk label", at(0), 64, "\x57\x45\x56\x82", 512},
	{"Sun disk label", at(0), 508, "\xda\xbe", 512},
	{"SGI disk label", at(0), 0, "\x0b\xe5\xa9\x41", 512},
	{"Apple driver descriptor", at(0), 0, "ER", 512},
	{"Apple partition map", at(512, 2048, 4096), 0, "PM", 512},
	{"swap header", swapEnds, 502, "SWAPSPACE2", 512},
	{"swap header", swapEnds, 502, "SWAP-SPACE", 512},
	{"hibernated system", swapEnds, 502, "S1SUSPEND", 512},
	{"hibernated system", swapEnds, 502, "ULSUSPEND", 512},
}

// udfDescriptors are the first sectors of the volume recognition sequence, which are as large as the disk's but 2048 bytes at least.
var udfDescriptors = at(32<<10, 34<<10, 36<<10, 38<<10, 40<<10, 44<<10)

// swapEnds is the last 512 bytes of the first page, for every page size.
var swapEnds = at(4096-512, 8192-512, 16384-512, 32768-512, 65536-512)
