package deploy

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// A hook of after-write may install a boot loader on a disk without a table: its boot sector stays, and is what the disk reads as.
func TestBootSectorOfAHookStays(t *testing.T) {
	f := bareImage(t, true, 32*mib, "mkfs.ext4", "-q")
	source, err := os.ReadFile(filepath.Join(f.Dir, "source"))
	if err != nil {
		t.Fatal(err)
	}
	for _, before := range [][]byte{make([]byte, 512), bytes.Repeat([]byte("old"), 512)[:512]} {
		for _, hook := range [][]byte{nil, append(bytes.Repeat([]byte{0xeb}, 510), 0x55, 0xaa)} {
			path := sparseFile(t, 32*mib)
			d := openDisk(t, path)
			if _, err := d.WriteAt(before, 0); err != nil {
				t.Fatal(err)
			}
			h := &held{dev: d}
			if _, err := h.WriteAt(source, 0); err != nil {
				t.Fatal(err)
			}
			if err := h.release(false); err != nil {
				t.Fatal(err)
			}
			want := source[:512]
			if hook != nil {
				want = hook
				if _, err := d.WriteAt(hook, 0); err != nil {
					t.Fatal(err)
				}
			}
			if err := h.release(true); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 512)
			if err := readFull(h, got, 0); err != nil || !bytes.Equal(got, want) || !bytes.Equal(readFirst(t, path), want) {
				t.Errorf("the first sector reads %x..., is %x..., want %x... (%v)", got[:4], readFirst(t, path)[:4], want[:4], err)
			}
			now, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(now[512:], source[512:]) {
				t.Errorf("the rest is not the image's (%v)", err)
			}
		}
	}
}
