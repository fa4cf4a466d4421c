package imagefmt

import "testing"

// TestMinDiskSize: a target needs the last used byte, the last partition, and room for a backup GPT behind them (UEFI
// 2.10, 5.3.1: 128 entries of 128 bytes and a header, in whole sectors). A manifest that asks for more than the source had is refused.
func TestMinDiskSize(t *testing.T) {
	part := []Partition{{Number: 1, Start: 1 << 20, Length: 8 << 20}}
	for name, c := range map[string]struct {
		end   int64
		table Table
		size  int64
		want  int64
		m     Manifest
	}{
		"gpt":               {end: 5 << 20, table: Table{Kind: TableGPT, Partitions: part}, size: 1 << 30, want: 9<<20 + 33*512},
		"gpt, 4096 sectors": {end: 5 << 20, table: Table{Kind: TableGPT, Partitions: part}, size: 1 << 30, want: 9<<20 + 5*4096, m: Manifest{SectorSize: 4096}},
		"data behind it":    {end: 10<<20 + 1, table: Table{Kind: TableGPT, Partitions: part}, size: 1 << 30, want: 10<<20 + 34*512},
		"mbr":               {end: 5 << 20, table: Table{Kind: TableMBR, Partitions: part}, size: 1 << 30, want: 9 << 20},
		"no table":          {end: 5<<20 + 1, table: Table{Kind: TableNone}, size: 1 << 30, want: 5<<20 + 512},
		"source no larger":  {end: 5 << 20, table: Table{Kind: TableGPT, Partitions: part}, size: 9<<20 + 512, want: 9<<20 + 33*512},
		"half a sector":     {end: 5<<20 + 100, table: Table{Kind: TableNone}, size: 5<<20 + 100, want: 5<<20 + 100},
		"given":             {end: 5 << 20, table: Table{Kind: TableNone}, size: 1 << 30, want: 1 << 30, m: Manifest{MinDiskSize: 1 << 30}},
	} {
		if c.m.SectorSize == 0 {
			c.m.SectorSize = 512
		}
		c.m.Table = c.table
		(&Result{DiskSize: c.size, End: c.end}).Fill(&c.m)
		if c.m.MinDiskSize != c.want {
			t.Errorf("%s: %d, want %d", name, c.m.MinDiskSize, c.want)
		}
	}
}
