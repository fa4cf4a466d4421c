package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"swarmboot/internal/looptest"
)

// blankFile is a file full of old data.
type blankFile struct{ *os.File }

func (b blankFile) Zero(_ context.Context, off, n int64) error {
	_, err := b.WriteAt(make([]byte, n), off)
	return err
}

func openBlank(t *testing.T, size int64) blankFile {
	t.Helper()
	return blankFile{openHollow(t, sparseFile(t, size)).File}
}

// checkExt4 has e2fsck and dumpe2fs judge.
func checkExt4(t *testing.T, path string, size, unused int64) {
	t.Helper()
	run(t, "timeout", "600", "e2fsck", "-fn", path)
	s := run(t, "dumpe2fs", "-h", path)
	if got := number(t, s, `Block count:\s+(\d+)`) * 4096; got > size || size-got > unused {
		t.Errorf("%d bytes of %d", got, size)
	}
	if strings.Contains(s, "has errors") {
		t.Error(s)
	}
}

func TestMakeExt4(t *testing.T) {
	for _, size := range []int64{64 * mib, 200*mib + 13*512, gib, 10 * gib, 130*gib + 4096, 3 * tib, 17*tib + 4096, 100 * tib} {
		t.Run(fmt.Sprintf("%dMiB", size/mib), func(t *testing.T) {
			p := sparseFile(t, size)
			d := openHollow(t, p)
			dirtyEdges(t, d, size)
			began := time.Now()
			if err := MakeExt4(t.Context(), d, size, Ext4{Label: "scratch-16-bytes", UUID: testUUID}); err != nil {
				t.Fatal(err)
			}
			took(t, "made", began)
			if size < 10*tib { // e2fsck takes its time, and there is another one below
				checkExt4(t, p, size, 4096)
			}
			checkIdentity(t, p, "ext4", "scratch-16-bytes", formatUUID(testUUID[:]))
			use(t, p, "ext4", size*97/100-40*mib)
			checkExt4(t, p, size, 4096)
			took(t, "judged and used", began)
		})
	}
}

// A last group that is too short for anything stays unused; one block more than that is used.
func TestExt4Ends(t *testing.T) {
	for _, blocks := range []int64{32768 + 1, 32768 + 565, 32768 + 566, 4 * 32768, 16*32768 + 600, 17*32768 - 1, 25*32768 + 570, 27*32768 + 700, 65 * 32768, 81*32768 + 620} {
		p := sparseFile(t, blocks*4096)
		if err := MakeExt4(t.Context(), openHollow(t, p), blocks*4096, Ext4{}); err != nil {
			t.Fatal(err)
		}
		checkExt4(t, p, blocks*4096, 620*4096)
		use(t, p, "ext4", blocks*4096*9/10-40*mib)
		run(t, "e2fsck", "-fn", p)
	}
}

// What was there before does not matter: with old data everywhere e2fsck finds nothing to say.
func TestMakeExt4OverOldData(t *testing.T) {
	d := openBlank(t, 600*mib)
	for off := int64(0); off < 600*mib; off += mib {
		if _, err := d.WriteAt(bytes.Repeat([]byte{0xa5}, mib), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := MakeExt4(t.Context(), d, 600*mib, Ext4{}); err != nil {
		t.Fatal(err)
	}
	checkExt4(t, d.Name(), 600*mib, 0)
	use(t, d.Name(), "ext4", 500*mib)
	checkExt4(t, d.Name(), 600*mib, 0)
	if uuid := run(t, "blkid", "-p", "-o", "value", "-s", "UUID", d.Name()); len(uuid) != 36 || uuid[14] != '4' {
		t.Errorf("UUID %q", uuid)
	}
}

// The copies of the superblock and of the descriptors say the same, and dumpe2fs can read them. (With e2fsck -b there is
// something to repair, as on file systems of mke2fs: it reads bitmaps that were never written.)
func TestExt4Copies(t *testing.T) {
	p := sparseFile(t, 20*gib)
	d := openHollow(t, p)
	if err := MakeExt4(t.Context(), d, 20*gib, Ext4{Label: "x"}); err != nil {
		t.Fatal(err)
	}
	const descriptors = 3 * 4096 // 160 groups
	at := func(off int64, n int) []byte {
		b := make([]byte, n)
		if _, err := d.ReadAt(b, off); err != nil {
			t.Fatal(err)
		}
		return b
	}
	header := func(args ...string) string {
		s := run(t, "dumpe2fs", append([]string{"-h"}, append(args, p)...)...)
		return regexp.MustCompile(`(?m)^Checksum:.*$`).ReplaceAllString(s, "")
	}
	first, super := header(), at(1024, 1020)
	for _, group := range []int64{1, 3, 25, 49, 125} {
		off := group * 32768 * 4096
		if !bytes.Equal(at(off+4096, descriptors), at(4096, descriptors)) {
			t.Errorf("the descriptors in group %d differ", group)
		}
		b := at(off, 1020)
		if b[90] != byte(group) {
			t.Errorf("the superblock in group %d says group %d", group, b[90])
		}
		b[90] = 0
		if !bytes.Equal(b, super) {
			t.Errorf("the superblock in group %d differs", group)
		}
		if s := header("-o", fmt.Sprintf("superblock=%d", group*32768), "-o", "blocksize=4096"); s != first {
			t.Errorf("dumpe2fs of group %d says\n%s\nof the first one\n%s", group, s, first)
		}
	}
}

func TestMakeExt4Refuses(t *testing.T) {
	for _, tt := range []struct {
		size int64
		e    Ext4
		want string
	}{
		{128 * mib, Ext4{Label: "seventeen bytes !"}, "16 bytes"}, {128 * mib, Ext4{Label: "a\x00"}, "16 bytes"},
		{64*mib - 1, Ext4{}, "want 67108864 to"}, {-1, Ext4{}, "want 67108864 to"}, {201 * tib, Ext4{}, "XFS can be larger"},
	} {
		p := sparseFile(t, 128*mib)
		if err := MakeExt4(t.Context(), openHollow(t, p), tt.size, tt.e); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%d, %+v: %v", tt.size, tt.e, err)
		}
		if len(content(t, p)) > 0 {
			t.Errorf("%d, %+v: written to", tt.size, tt.e)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := openHollow(t, sparseFile(t, 128*mib))
	if err := MakeExt4(ctx, d, 128*mib, Ext4{}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if s, err := readSuperblock(d); err == nil {
		t.Errorf("what was interrupted is a file system: %+v", s)
	}
}

// A file system that we make can be grown by the kernel like any other.
func TestGrowOurExt4(t *testing.T) {
	if !mayResizeExt4(t) {
		t.Skip("the kernel refuses this process every ext4; qemu-tests/grow does it")
	}
	p := sparseFile(t, 2*gib)
	if err := MakeExt4(t.Context(), openHollow(t, p), gib, Ext4{}); err != nil {
		t.Fatal(err)
	}
	dev := looptest.Attach(t, p)
	if g, err := GrowFileSystem(t.Context(), dev); err != nil || g.Before != gib || g.After != 2*gib {
		t.Errorf("%+v, %v", g, err)
	}
	run(t, "e2fsck", "-fn", dev)
}
