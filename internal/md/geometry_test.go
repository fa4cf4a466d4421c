package md

import (
	"context"
	"os"
	"strings"
	"testing"
)

func TestGeometry(t *testing.T) {
	for _, tt := range []struct {
		name             string
		shape            Shape
		members, spares  []int64
		size, data, used int64
	}{
		// Sizes that mdadm --create gives for the same disks (see qemu-tests/raid for more, compared there).
		{"mirror of 10 TiB", Shape{Level: 1}, repeat(10*tib, 2), nil, 10*tib - 129*mib, 129 * mib, 10*tib - 129*mib},
		{"mirror at the end", Shape{Level: 1, Metadata: "1.0"}, repeat(512*mib, 2), nil, 512*mib - 64*kib, 0, 512*mib - 64*kib},
		{"unequal stripe", Shape{Level: 0}, []int64{64 * mib, 2 * tib}, nil, 2 * 62 * mib, 2 * mib, 62 * mib},
		{"unequal parity", Shape{Level: 5}, []int64{3 * tib, 64 * mib, 2 * tib}, nil, 2 * 62 * mib, 2 * mib, 62 * mib},
		{"small spare", Shape{Level: 5}, repeat(1*tib, 3), []int64{64 * mib}, 2 * 62 * mib, 2 * mib, 62 * mib},
		{"two parities", Shape{Level: 6}, repeat(64*mib, 5), nil, 3 * 62 * mib, 2 * mib, 62 * mib},
		{"odd copies", Shape{Level: 10}, repeat(64*mib+512*kib, 3), nil, 187 * 512 * kib, 2 * mib, 62*mib + 512*kib},
	} {
		g, err := tt.shape.Geometry(tt.members, tt.spares)
		if err != nil || g.Size != tt.size || g.DataOffset != tt.data || g.Used != tt.used {
			t.Errorf("%s: size %d, data at %d, used %d, %v; want %d, %d, %d", tt.name, g.Size, g.DataOffset, g.Used, err, tt.size, tt.data, tt.used)
		}
	}
}

// TestRefused names what is wrong, and leaves the disks as they were.
func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		spec       Spec
		sizes      []int64
		sector     int
	}{
		{"level", "level 7", Spec{Name: "x", Shape: Shape{Level: 7}}, repeat(gib, 3), 512},
		{"metadata", `"1.1"`, Spec{Name: "x", Shape: Shape{Metadata: "1.1"}}, repeat(gib, 3), 512},
		{"old metadata", `"0.90"`, Spec{Name: "x", Shape: Shape{Metadata: "0.90"}}, repeat(gib, 3), 512},
		{"few", "1 members", Spec{Name: "x", Shape: Shape{Level: 1}}, repeat(gib, 1), 512},
		{"few for 5", "at least 3", Spec{Name: "x", Shape: Shape{Level: 5}}, repeat(gib, 2), 512},
		{"few for 6", "at least 4", Spec{Name: "x", Shape: Shape{Level: 6}}, repeat(gib, 3), 512},
		{"chunk", "power of two", Spec{Name: "x", Shape: Shape{Level: 5, Chunk: 96 << 10}}, repeat(gib, 3), 512},
		{"small chunk", "power of two", Spec{Name: "x", Shape: Shape{Level: 5, Chunk: 2048}}, repeat(gib, 3), 512},
		{"chunk of a mirror", "no chunks", Spec{Name: "x", Shape: Shape{Level: 1, Chunk: 4096}}, repeat(gib, 2), 512},
		{"bitmap", "bitmap", Spec{Name: "x", Shape: Shape{Level: 0, Bitmap: true}}, repeat(gib, 2), 512},
		{"small", "too small", Spec{Name: "x", Shape: Shape{Level: 5}}, []int64{gib, gib, 2 * mib}, 512},
		{"tiny", "64 KiB", Spec{Name: "x", Shape: Shape{Level: 5}}, []int64{gib, gib, 4096}, 512},
		{"no name", "name", Spec{Shape: Shape{Level: 1}}, repeat(gib, 2), 512},
		{"name with a slash", "name", Spec{Name: "../x", Shape: Shape{Level: 1}}, repeat(gib, 2), 512},
		{"host", "home host", Spec{Name: "x", Homehost: "a:b", Shape: Shape{Level: 1}}, repeat(gib, 2), 512},
		{"sectors", "sectors of 8192", Spec{Name: "x", Shape: Shape{Level: 1}}, repeat(gib, 2), 8192},
	} {
		devices, paths := disks(t, tt.sector, tt.sizes...)
		tt.spec.Members = paths
		_, err := Format(context.Background(), tt.spec, devices)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		for _, p := range paths {
			if fi, err := os.Stat(p); err != nil || allocated(fi) != 0 {
				t.Errorf("%s: %d bytes were written, %v", tt.name, allocated(fi), err)
			}
		}
	}
}

func TestLongHostName(t *testing.T) {
	s := Spec{Name: "root", Homehost: strings.Repeat("h", 27)}
	if got := s.fullName(); got != "root" {
		t.Errorf("%q: mdadm leaves the host out when both do not fit", got)
	}
	if s.Homehost = s.Homehost[1:]; s.fullName() != s.Homehost+":root" {
		t.Errorf("%q", s.fullName())
	}
}

// TestBitmapOfALargeArray keeps every bitmap within its room.
func TestBitmapOfALargeArray(t *testing.T) {
	for _, size := range []int64{64 * mib, 1 * gib, 8*gib - 4096, 9 * gib, 250 * gib, 100 * tib} {
		for _, n := range []int{2, 24, 384} {
			g, err := Shape{Level: 10, Bitmap: true}.Geometry(repeat(size, n), nil)
			if err != nil {
				if !strings.Contains(err.Error(), "bitmap") || n < 384 {
					t.Errorf("%d of %d bytes: %v", n, size, err)
				}
				continue
			}
			if room := bitmapRoom(g.Used); g.bitmap.size() > room || pastSuper+pastSuper+g.bitmap.size()+pastSuper > g.DataOffset {
				t.Errorf("%d of %d bytes: a bitmap of %d in a room of %d before %d", n, size, g.bitmap.size(), room, g.DataOffset)
			}
		}
	}
}
