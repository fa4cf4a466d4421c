package imagesrc

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"swarmboot/internal/filetest"
)

func TestSwap(t *testing.T) {
	for _, page := range []int64{4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10} {
		t.Run(fmt.Sprint(page), func(t *testing.T) {
			path := blank(t, 16*mib)
			run(t, "mkswap", "-p", fmt.Sprint(page), "-L", "the swap", "-U", testUUID, path)
			filetest.Write(t, path, 5*mib, []byte("swapped out"))
			s := open(t, path, Options{})
			if used(s) != page || len(s.Notes()) > 0 {
				t.Errorf("extents %v, notes %q", s.Extents(), s.Notes())
			}
			target := restore(t, s)
			if out := run(t, "swaplabel", target); !strings.Contains(out, "the swap") || !strings.Contains(out, testUUID) {
				t.Errorf("swaplabel: %s", out)
			}
			in, _, err := (&disk{}).readVolume(s.f, 0, s.size)
			if err != nil || in.FileSystem != "swap" || in.Label != "the swap" || in.UUID != testUUID {
				t.Errorf("%+v, %v", in, err)
			}
		})
	}
}

func TestSwapDirty(t *testing.T) {
	for _, c := range []struct {
		reason string
		off    int64
		bytes  string
	}{
		{"hibernated", 4086, "S1SUSPEND\x00"},
		{"hibernated", 4086, "LINHIB0001"},
		{"bad pages", 1024 + 8, "\xff\xff\xff\xff"},
		{"pages of", 1024 + 4, "\xff\xff\xff\xff"},
	} {
		path := blank(t, 16*mib)
		run(t, "mkswap", path)
		filetest.Write(t, path, c.off, []byte(c.bytes))
		_, err := Open(t.Context(), path, Options{})
		var dirty *DirtyError
		if !errors.As(err, &dirty) || !strings.Contains(dirty.Reason, c.reason) {
			t.Errorf("got %v, want a DirtyError about %q", err, c.reason)
		}
	}
}
