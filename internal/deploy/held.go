package deploy

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
)

// heldBytes is how much of a disk without a table is held back at most: every superblock and label by which such a disk is known begins
// before (that of btrfs, the last, at 64 KiB).
const heldBytes = 128 << 10

// whole is what held needs of a *disk.Device.
type whole interface {
	space
	Path() string
	Size() int64
	DropCaches() error
}

// held is a disk or an array whose first bytes stay in memory until everything else is on it, verified: what is written to a disk without a
// partition table has no table that could be held back, and must not look whole when the power fails. Nor has an array: one of metadata 1.0
// begins with the first sector of its members, from which a firmware starts.
type held struct {
	dev whole

	mu    sync.Mutex
	b     []byte // the first bytes; nil until they are asked for
	ready int    // bytes of b that are still held back
	shown []byte // what the disk had in the place of the boot sector when the rest was released
}

// load reads what is on the disk now; bytes that the image does not have stay as they are.
func (h *held) load() error {
	if h.b != nil {
		return nil
	}
	b := make([]byte, min(heldBytes, h.dev.Size()))
	if err := readFull(h.dev, b, 0); err != nil {
		return err
	}
	h.b, h.ready = b, len(b)
	return nil
}

// both calls mem with the part of n bytes at off that is held back, and dev with the rest: lengths from the start of those bytes.
func (h *held) both(off, n int64, mem func(b []byte), dev func(from int64) error) error {
	h.mu.Lock()
	if err := h.load(); err != nil {
		h.mu.Unlock()
		return err
	}
	in := max(0, min(n, int64(h.ready)-off))
	if in > 0 {
		mem(h.b[off : off+in])
	}
	h.mu.Unlock()
	if in == n {
		return nil
	}
	return dev(in)
}

// ReadAt implements io.ReaderAt.
func (h *held) ReadAt(p []byte, off int64) (n int, err error) {
	err = h.both(off, int64(len(p)), func(b []byte) { n = copy(p, b) }, func(from int64) error {
		m, err := h.dev.ReadAt(p[from:], off+from)
		n += m
		return err
	})
	return n, err
}

// WriteAt implements io.WriterAt.
func (h *held) WriteAt(p []byte, off int64) (n int, err error) {
	err = h.both(off, int64(len(p)), func(b []byte) { n = copy(b, p) }, func(from int64) error {
		m, err := h.dev.WriteAt(p[from:], off+from)
		n += m
		return err
	})
	return n, err
}

// Zero makes n bytes read as zero.
func (h *held) Zero(ctx context.Context, off, n int64) error {
	return h.both(off, n, func(b []byte) { clear(b) }, func(from int64) error { return h.dev.Zero(ctx, off+from, n-from) })
}

// marks are the sectors by which disks without a table are known: boot sectors, and the superblocks of XFS and FAT; LVM's label; the superblock of
// ext2/3/4; the ends of swap headers; btrfs's superblock.
var marks = [][2]int{{0, 512}, {512, 1024}, {1024, 2048}, {3584, 4096}, {65024, 65536}, {65536, 69632}}

// release writes what is held back: the marks last, when all else is on the medium. With boot false the boot sector stays in memory, where it is one:
// what is on the disk can be mounted then, and no firmware starts from it. A boot sector that somebody (a hook with a boot loader's installer) has
// put there meanwhile stays. What this writes is read back.
func (h *held) release(boot bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.load(); err != nil {
		return err
	}
	until := 0
	if !boot {
		until = bootSector(h.b)
	}
	if until >= h.ready {
		return nil
	}
	if kept, err := h.keepForeign(); err != nil || kept {
		return err
	}
	got := make([]byte, h.ready-until)
	if err := h.writeWithoutMarks(got, until); err != nil {
		return err
	}
	if _, err := h.dev.WriteAt(h.b[until:h.ready], int64(until)); err != nil {
		return err
	}
	if err := h.dev.DropCaches(); err != nil {
		return err
	}
	if err := readFull(h.dev, got, int64(until)); err != nil {
		return err
	}
	if !bytes.Equal(got, h.b[until:h.ready]) {
		return cli.WithCode(cli.CodeVerify, fmt.Errorf("%s does not return the first %d bytes as they were written", h.dev.Path(), len(h.b)))
	}
	h.shown = make([]byte, until)
	h.ready = until
	return readFull(h.dev, h.shown, 0)
}

// keepForeign lets go of the image's boot sector where the disk has got another one.
func (h *held) keepForeign() (bool, error) {
	now := make([]byte, len(h.shown))
	if err := readFull(h.dev, now, 0); err != nil || bytes.Equal(now, h.shown) {
		return false, err
	}
	h.ready = 0
	return true, nil
}

// writeWithoutMarks writes what is held back but for the marks, which stay as they are on the disk, and returns when the medium has it. buf has
// room for the bytes from the given one on.
func (h *held) writeWithoutMarks(buf []byte, from int) error {
	if err := readFull(h.dev, buf, int64(from)); err != nil {
		return err
	}
	at := from
	for _, m := range append(slices.Clone(marks), [2]int{h.ready, h.ready}) {
		if end := min(max(m[0], from), h.ready); end > at {
			copy(buf[at-from:end-from], h.b[at:end])
		}
		at = max(at, m[1])
	}
	if _, err := h.dev.WriteAt(buf, int64(from)); err != nil {
		return err
	}
	return h.dev.DropCaches()
}

// bootSector is the length of what only firmware looks at in the first bytes of a disk without a table: 512 where an ext2/3/4, a btrfs or an LVM
// physical volume begins behind it, else 0.
func bootSector(b []byte) int {
	has := func(off int, magic string) bool {
		return off+len(magic) <= len(b) && string(b[off:off+len(magic)]) == magic
	}
	lvm := has(512, "LABELONE") || has(1024, "LABELONE") || has(1536, "LABELONE") // any of the first four sectors
	if lvm || has(1024+56, "\x53\xef") || has(64<<10+64, "_BHRfS_M") {
		return 512
	}
	return 0
}

// hold puts a held in front of every array, and of every disk without a table, that bytes of the image go to as a whole.
func (w *planned) hold() {
	for _, c := range w.plan.Contents {
		if c.Source.Len == 0 || c.On.Partition > 0 {
			continue
		}
		if c.On.Array >= 0 {
			a := w.arrays[c.On.Array]
			a.held = &held{dev: a.dev}
			continue
		}
		if d := w.disks[c.On.Disk]; d.Table.Kind == imagefmt.TableNone && d.held == nil {
			d.held = &held{dev: d.dev}
		}
	}
}

// front is the disk as it will be.
func (d *plannedDisk) front() space {
	if d.held != nil {
		return d.held
	}
	return d.dev
}
