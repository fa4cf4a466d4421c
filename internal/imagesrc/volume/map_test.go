package volume

import (
	"math/rand/v2"
	"slices"
	"testing"

	"swarmboot/imagefmt"
)

// TestMap adds random extents in any order to maps with much and with little room, and compares with a plain array.
func TestMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	const size = 1 << 16
	for _, limit := range []int{0, 64} {
		m := &Map{Max: limit}
		want := make([]bool, size)
		for range 2000 {
			off, n := rnd.Int64N(size), rnd.Int64N(9)
			m.Add(off, n)
			for i := off; i < min(off+n, size); i++ {
				want[i] = true
			}
		}
		got := make([]bool, size)
		end := int64(-1)
		list := m.Extents(size)
		for _, e := range list {
			if e.Off <= end || e.Len <= 0 || e.End() > size {
				t.Fatalf("limit %d: extent %+v after byte %d", limit, e, end)
			}
			end = e.End()
			for i := e.Off; i < e.End(); i++ {
				got[i] = true
			}
		}
		for i := range want {
			if want[i] && !got[i] {
				t.Fatalf("limit %d: byte %d was added and is missing", limit, i)
			}
		}
		if limit == 0 && !slices.Equal(got, want) {
			t.Error("bytes that nobody added are there, though there was room")
		}
		if limit > 0 && len(list) > limit {
			t.Errorf("%d extents, the limit is %d", len(list), limit)
		}
	}
}

func TestInvert(t *testing.T) {
	list := []imagefmt.Extent{{Off: 0, Len: 10}, {Off: 20, Len: 10}, {Off: 90, Len: 50}}
	want := []imagefmt.Extent{{Off: 10, Len: 10}, {Off: 30, Len: 60}}
	if got := Invert(list, 0, 100); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
