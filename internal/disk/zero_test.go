package disk

import (
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"swarmboot/imagefmt"
)

// What lies between borders inside blocks of the cache is zeroed past it, the rest of those blocks in it: others write to them at the same time.
func TestZeroBorders(t *testing.T) {
	const first, last = 3, 300 // blocks of 4 KiB
	hole := imagefmt.Extent{Off: first*4096 + 512, Len: (last-first)*4096 + 1024}
	for _, sector := range []string{"512", "4096"} {
		t.Run(sector, func(t *testing.T) {
			p := dirty(t, 2*mib)
			d := open(t, loop(t, p, "-b", sector))
			if err := d.DropCaches(); err != nil {
				t.Fatal(err)
			}
			if err := d.Zero(t.Context(), hole.Off, hole.Len); err != nil {
				t.Fatal(err)
			}
			cached := func(from, to int) int { return pagesInMemory(t, d, to*4096) - pagesInMemory(t, d, from*4096) }
			if cached(first, first+1) != 1 || cached(last, last+1) != 1 {
				t.Error("a block with other bytes was changed past the cache")
			}
			if n := cached(first+1, last); n != 0 {
				t.Errorf("%d of %d blocks were zeroed by writing", n, last-first-1)
			}
			if err := d.DropCaches(); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(p)
			if got := zeroRuns(b); err != nil || !slices.Equal(got, []imagefmt.Extent{hole}) {
				t.Errorf("zero: %v, want %v (%v)", got, hole, err)
			}
		})
	}
}

// On a disk that is shared, a partition of which somebody has for himself, the kernel refuses to go past what its cache is still to write.
func TestZeroShared(t *testing.T) {
	const border = mib + 512
	for name, hole := range map[string]imagefmt.Extent{
		"from the border on": {Off: border, Len: mib}, "up to the border": {Off: border - mib, Len: mib}, "over it": {Off: border - mib, Len: 2 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			p := dirty(t, 64*mib)
			dev := loop(t, p)
			d := open(t, dev)
			table := imagefmt.Table{Kind: imagefmt.TableGPT, GUID: diskGUID, Partitions: gptPartitions(8*mib, 16*mib)}
			if err := d.ShowPartitions(table); err != nil {
				t.Fatal(err)
			}
			if err := d.Share(); err != nil {
				t.Fatal(err)
			}
			member, err := os.OpenFile(PartitionPath(dev, table.Partitions[0].Number), os.O_RDWR|unix.O_EXCL, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer member.Close()
			for _, at := range []int64{border - 512, border} { // both in one block
				if _, err := d.WriteAt(make([]byte, 512), at); err != nil {
					t.Fatal(err)
				}
			}
			if err := d.Zero(t.Context(), hole.Off, hole.Len); err != nil {
				t.Fatal(err)
			}
			if err := d.DropCaches(); err != nil {
				t.Fatal(err)
			}
			want := imagefmt.Extent{Off: min(hole.Off, border-512)}
			want.Len = max(hole.End(), border+512) - want.Off
			b, err := os.ReadFile(p)
			if got := zeroRuns(b); err != nil || !slices.Equal(got, []imagefmt.Extent{want}) {
				t.Errorf("zero: %v, want %v (%v)", got, want, err)
			}
		})
	}
}
