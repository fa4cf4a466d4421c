package target

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
)

// blankFile is a file full of old data.
type blankFile struct{ *os.File }

func (b blankFile) Zero(_ context.Context, off, n int64) error {
	_, err := b.WriteAt(make([]byte, n), off)
	return err
}

func openBlank(t *testing.T, size int64) blankFile {
	t.Helper()
	f, err := os.OpenFile(sparseFile(t, size), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return blankFile{f}
}

func TestMakeExt4(t *testing.T) {
	uuid := [16]byte{0x6c, 0x4f, 0x5c, 0x6e, 0x23, 0xd5, 0x4b, 0x5e, 0x9c, 0x67, 0x0e, 0x3a, 0x5c, 0x3a, 0, 2}
	for _, e := range []Ext4{{}, {Label: "scratch-16-bytes", UUID: uuid}} {
		d := openBlank(t, 256*mib)
		old := make([]byte, 140*mib)
		for i := range old {
			old[i] = 0xa5
		}
		if _, err := d.WriteAt(old, 0); err != nil {
			t.Fatal(err)
		}
		if err := MakeExt4(t.Context(), d, e); err != nil {
			t.Fatal(err)
		}
		run(t, "e2fsck", "-fn", d.Name())
		if got := run(t, "blkid", "-p", "-o", "value", "-s", "LABEL", d.Name()); got != e.Label {
			t.Errorf("label %q, want %q", got, e.Label)
		}
		got := run(t, "blkid", "-p", "-o", "value", "-s", "UUID", d.Name())
		if e.UUID != [16]byte{} && got != formatUUID(uuid[:]) || len(got) != 36 || strings.HasPrefix(got, "5a3b0000") {
			t.Errorf("UUID %s", got)
		}
		s, err := readSuperblock(d)
		if err != nil || s.size() != TemplateSize || s.maxBlocks != 0 {
			t.Errorf("%+v, %v", s, err)
		}
		dev := attach(t, d.Name())
		sum := fill(t, dev, "ext4")
		withMounted(t, dev, "ext4", func(dir string) {
			if readSum(t, dir) != sum {
				t.Error("content changed")
			}
		})
		check(t, "ext4", dev)
	}
}

func TestMakeExt4Refuses(t *testing.T) {
	d := openBlank(t, 128*mib)
	if err := MakeExt4(t.Context(), d, Ext4{Label: "seventeen bytes !"}); err == nil || !strings.Contains(err.Error(), "16 bytes") {
		t.Errorf("a long label: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := MakeExt4(ctx, d, Ext4{}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if s, err := readSuperblock(d); err == nil {
		t.Errorf("what was interrupted is a file system: %+v", s)
	}
}
