package disk

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"swarmboot/imagefmt"
)

// A shared disk lets somebody else have a partition for himself that no table on the disk lists, and can still be written to.
func TestShare(t *testing.T) {
	dev := loop(t, sparse(t, 64*mib))
	d := open(t, dev)
	table := imagefmt.Table{Kind: imagefmt.TableGPT, GUID: diskGUID, Partitions: gptPartitions(mib, 16*mib)}
	none := table
	none.Partitions = nil
	if err := WriteTable(d, none); err != nil {
		t.Fatal(err)
	}
	exclusive := func() error {
		f, err := os.OpenFile(PartitionPath(dev, 5), os.O_RDWR|unix.O_EXCL, 0)
		if err == nil {
			t.Cleanup(func() { f.Close() })
		}
		return err
	}
	if err := d.ShowPartitions(table); err != nil {
		t.Fatal(err)
	}
	if err := exclusive(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a partition of a disk that is held: %v", err)
	}
	if err := d.Share(); err != nil {
		t.Fatal(err)
	}
	if err := exclusive(); err != nil {
		t.Errorf("a partition of a shared disk: %v", err)
	}
	checkSfdisk(t, dev, none, 512)
	udev, err := os.Open(dev)
	if err != nil {
		t.Fatal(err)
	}
	defer udev.Close()
	if err := unix.Flock(int(udev.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("udev may have the kernel read a table that lists nothing: %v", err)
	}
	if err := WriteTable(d, table); err != nil {
		t.Fatal(err)
	}
	if err := d.RereadTable(); err != nil {
		t.Errorf("reread while a partition is in use: %v", err)
	}
	checkSfdisk(t, dev, table, 512)
	if err := d.ShowPartitions(none); err == nil {
		t.Error("a partition in use was taken away")
	}
}

// What the kernel has read of an old table gives way to the partitions of an MBR: else a node with an old disk fails after all of the image was
// fetched. A partition that lies in another, and is in nobody's way, stays.
func TestShowPartitionsOfAnOldDisk(t *testing.T) {
	one := []imagefmt.Partition{{Number: 1, Start: mib, Length: 62 * mib, Type: "0x83"}}
	logical := []imagefmt.Partition{{Number: 1, Start: mib, Length: 8 * mib, Type: "0x83"}, {Number: 2, Start: 10 * mib, Length: 40 * mib, Type: "0x05"},
		{Number: 5, Start: 11 * mib, Length: 20 * mib, Type: "0x83"}}
	for name, c := range map[string]struct {
		old  [][3]int // number, start and length in sectors
		now  []imagefmt.Partition
		want [][3]int
	}{
		"three":            {[][3]int{{1, 2048, 2048}, {2, 4096, 8192}, {3, 16384, 8192}}, one, [][3]int{{1, 2048, 62 * 2048}}},
		"a logical one":    {[][3]int{{1, 2048, 2048}, {2, 8192, 2}, {5, 10240, 8192}}, one, [][3]int{{1, 2048, 62 * 2048}}},
		"behind it":        {[][3]int{{1, 2048, 2048}, {2, 126976 + 2048, 1024}}, one, [][3]int{{1, 2048, 62 * 2048}, {2, 126976 + 2048, 1024}}},
		"to a logical one": {[][3]int{{1, 2048, 2048}, {2, 4096, 8192}, {3, 16384, 32768}}, logical, [][3]int{{1, 2048, 8 * 2048}, {5, 11 * 2048, 20 * 2048}}},
		"the container":    {[][3]int{{1, 2048, 8 * 2048}, {2, 10 * 2048, 2}, {5, 11 * 2048, 2048}}, logical, [][3]int{{1, 2048, 8 * 2048}, {2, 10 * 2048, 2}, {5, 11 * 2048, 20 * 2048}}},
	} {
		t.Run(name, func(t *testing.T) {
			dev := loop(t, sparse(t, 64*mib))
			for _, p := range c.old {
				run(t, "addpart", dev, strconv.Itoa(p[0]), strconv.Itoa(p[1]), strconv.Itoa(p[2]))
			}
			d := open(t, dev)
			table := imagefmt.Table{Kind: imagefmt.TableMBR, DiskSignature: "5a3b0001"}
			if _, err := WipeKeeping(t.Context(), d, nil); err != nil {
				t.Fatal(err)
			}
			if err := WriteTable(d, table); err != nil {
				t.Fatal(err)
			}
			if err := d.Share(); err != nil {
				t.Fatal(err)
			}
			table.Partitions = c.now
			if err := d.ShowPartitions(table); err != nil {
				t.Fatal(err)
			}
			var shown [][3]int
			for _, p := range shownPartitions(filepath.Join("/sys/block", filepath.Base(dev))) {
				shown = append(shown, [3]int{p.Number, int(p.Start / 512), int(p.Length / 512)})
			}
			if !slices.Equal(shown, c.want) {
				t.Errorf("the kernel shows %v, want %v", shown, c.want)
			}
		})
	}
}

func TestCheckTable(t *testing.T) {
	table := imagefmt.Table{Kind: imagefmt.TableGPT, GUID: diskGUID, Partitions: gptPartitions(mib, 16*mib)}
	d := open(t, sparse(t, 64*mib))
	if err := d.CheckTable(table, 4096, false); err != nil || d.SectorSize() != 4096 {
		t.Errorf("a file takes any sector size: %v, %d", err, d.SectorSize())
	}
	if err := d.CheckTable(table, 512, true); err == nil {
		t.Error("a blank disk has no table to be replaced")
	}
	if err := d.CheckTable(table, 520, false); err == nil {
		t.Error("sectors of 520 bytes")
	}
	var small *TooSmallError
	if err := open(t, sparse(t, 16*mib)).CheckTable(table, 512, false); !errors.As(err, &small) {
		t.Errorf("a small disk: %v", err)
	}
	if err := open(t, sparse(t, 64*mib)).CheckTable(table, 512, false); err != nil {
		t.Error(err)
	}
	var sector *SectorSizeError
	if err := open(t, loop(t, sparse(t, 64*mib))).CheckTable(table, 4096, false); !errors.As(err, &sector) {
		t.Errorf("another sector size: %v", err)
	}
	if err := open(t, loop(t, sparse(t, 64*mib), "-b", "4096")).CheckTable(table, 512, false); !errors.As(err, &sector) || sector.Disk != 4096 || sector.Image != 512 {
		t.Errorf("another sector size: %v", err)
	}
	small = nil
	table.Partitions[1].Length = 1 << 40
	if err := d.CheckTable(table, 4096, false); !errors.As(err, &small) || small.Size != 64*mib || small.Need <= 1<<40 {
		t.Errorf("a table that does not fit: %v", err)
	}
}
