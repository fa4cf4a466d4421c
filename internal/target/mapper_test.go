package target

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"swarmboot/imagefmt"
)

// The table is what linux/dm-ioctl.h says: each target's sectors follow those of the one before it, and it says where the next one is.
func TestLinearTable(t *testing.T) {
	runs := []Run{{"/dev/vda2", 1 << 20, 4 << 20}, {"/dev/nvme0n1p3", 512, 512}, {"/dev/vda2", 9 << 20, 3 << 40}}
	table, err := linearTable(runs)
	if err != nil {
		t.Fatal(err)
	}
	le, at := binary.LittleEndian, uint64(0)
	for i, want := range []string{"/dev/vda2 2048", "/dev/nvme0n1p3 1", "/dev/vda2 18432"} {
		next := int(le.Uint32(table[20:]))
		if next%8 != 0 || next > len(table) {
			t.Fatalf("run %d: the next is at %d of %d", i, next, len(table))
		}
		kind, _, _ := strings.Cut(string(table[24:40]), "\x00")
		params, _, _ := strings.Cut(string(table[40:next]), "\x00")
		if le.Uint64(table) != at || le.Uint64(table[8:]) != uint64(runs[i].Len/512) || kind != "linear" || params != want {
			t.Errorf("run %d: %d+%d %s %q, want %d %q", i, le.Uint64(table), le.Uint64(table[8:]), kind, params, at, want)
		}
		at, table = at+le.Uint64(table[8:]), table[next:]
	}
	if len(table) > 0 {
		t.Errorf("%d bytes more", len(table))
	}
	for _, bad := range []Run{{"/dev/a", 100, 512}, {"/dev/a", 0, 100}, {"/dev/a", 0, 0}, {"/dev/a", -512, 512}} {
		if _, err := linearTable([]Run{bad}); err == nil || !strings.Contains(err.Error(), "/dev/a") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestRootPartitions(t *testing.T) {
	m := &imagefmt.Manifest{Boot: imagefmt.Boot{Root: 2}}
	if got := RootPartitions(m); !slices.Equal(got, []int{2}) {
		t.Errorf("%v", got)
	}
	m.Boot.Volume = &imagefmt.Volume{Segments: []imagefmt.VolumeSegment{{Partition: 2}, {Partition: 3}, {Partition: 2}, {Partition: 5}}}
	if got := RootPartitions(m); !slices.Equal(got, []int{2, 3, 5}) {
		t.Errorf("%v", got)
	}
}
