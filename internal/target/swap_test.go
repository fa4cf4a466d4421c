package target

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

// mkswap writes the same page for the same label and UUID, whatever the size.
func TestMakeSwapIsLikeMkswap(t *testing.T) {
	uuid := [16]byte{0x6c, 0x4f, 0x5c, 0x6e, 0x23, 0xd5, 0x4b, 0x5e, 0x9c, 0x67, 0x0e, 0x3a, 0x5c, 0x3a, 0, 1}
	for _, size := range []int64{10 * 4096, 64*mib + 4095, 1 << 30, 100 << 30, 3 << 40, 20 << 40} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			ours, theirs := sparseFile(t, size), sparseFile(t, size)
			run(t, "mkswap", "-q", "-p", "4096", "-U", formatUUID(uuid[:]), "-L", "scratch-swap-15", theirs)
			f, err := os.OpenFile(ours, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := MakeSwap(f, size, Swap{Label: "scratch-swap-15", UUID: uuid}); err != nil {
				t.Fatal(err)
			}
			a, b := firstPage(t, ours), firstPage(t, theirs)
			if !bytes.Equal(a, b) {
				t.Errorf("ours   % x\ntheirs % x", a[1024:1080], b[1024:1080])
			}
			out := run(t, "blkid", "-p", ours)
			if !strings.Contains(out, `LABEL="scratch-swap-15"`) || !strings.Contains(out, formatUUID(uuid[:])) || !strings.Contains(out, `TYPE="swap"`) {
				t.Error(out)
			}
		})
	}
}

func firstPage(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 2*4096)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMakeSwapRefuses(t *testing.T) {
	for _, tt := range []struct {
		size  int64
		label string
		want  string
	}{
		{9 * 4096, "", "too few"}, {-1, "", "too few"}, {mib, "sixteen bytes !!", "15 bytes"}, {mib, "a\x00b", "15 bytes"},
	} {
		path := sparseFile(t, mib)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := MakeSwap(f, tt.size, Swap{Label: tt.label}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%d bytes, label %q: %v", tt.size, tt.label, err)
		}
		f.Close()
		if len(bytes.Trim(firstPage(t, path), "\x00")) > 0 {
			t.Errorf("%d bytes, label %q: written to", tt.size, tt.label)
		}
	}
}

func TestSwapUUIDIsRandom(t *testing.T) {
	seen := map[string]bool{}
	for range 3 {
		path := sparseFile(t, mib)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := MakeSwap(f, mib, Swap{}); err != nil {
			t.Fatal(err)
		}
		f.Close()
		uuid := run(t, "blkid", "-p", "-o", "value", "-s", "UUID", path)
		if len(uuid) != 36 || uuid[14] != '4' || seen[uuid] {
			t.Errorf("UUID %q", uuid)
		}
		seen[uuid] = true
	}
}
