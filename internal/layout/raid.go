package layout

import "slices"

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30

	defaultChunk = 512 * kib
	// bitmapFrom is the size of a member from which on an array has a bitmap unless the layout says otherwise, as mdadm does it.
	bitmapFrom = 100 * gib
	// maxMembers is how many devices an array can have: more would not fit into superblocks of 1 KiB.
	maxMembers = 384
)

// level is what a RAID level asks for.
type level struct{ members int } // at least

var levels = map[int]level{0: {2}, 1: {2}, 4: {3}, 5: {3}, 6: {4}, 10: {2}}

// arrayRoom returns how many bytes an array has on members of these sizes, and how many it uses of each. It is the arithmetic
// of package md, which writes superblocks (a test compares the two); size is 0 where members are too small.
func arrayRoom(a *ArrayPlan, sizes []int64, members int) (size, used int64) {
	small := slices.Min(sizes) / 512 * 512
	overhead, unit := int64(0), max(a.Chunk, kib)
	switch a.Metadata {
	case "1.0":
		overhead = 8*kib + 4*kib + bitmapRoom(small)
		if small = small / (4 * kib) * (4 * kib); a.Level == 0 {
			overhead = 8*kib + 4*kib
		}
	default:
		overhead = dataOffset(small, a.Chunk)
	}
	if used = (small - overhead) / unit * unit; used <= 0 || small < 64*kib {
		return 0, 0
	}
	n := int64(members)
	switch a.Level {
	case 1:
		return used, used
	case 4, 5:
		return used * (n - 1), used
	case 6:
		return used * (n - 2), used
	case 10:
		return used / a.Chunk * n / 2 * a.Chunk, used
	}
	return used * n, used
}

// dataOffset is where the data begins on a member with metadata 1.2: room for superblock and bitmap, and about a
// thousandth for reshaping.
func dataOffset(size, chunk int64) int64 {
	headroom := int64(128 * mib)
	for headroom<<10 > size && (chunk == 0 || headroom/2 >= 2*chunk) {
		headroom >>= 1
	}
	return alignUp(12*kib+bitmapRoom(size)+headroom/512*512, mib)
}

func bitmapRoom(size int64) int64 {
	switch {
	case size < 64*kib:
		return 0
	case size-64*kib >= 200*gib:
		return 128 * kib
	case size-4*kib > 8*gib:
		return 64 * kib
	}
	return 4 * kib
}

func alignUp(n, unit int64) int64   { return (n + unit - 1) / unit * unit }
func alignDown(n, unit int64) int64 { return n / unit * unit }
