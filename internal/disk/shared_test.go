package disk

import (
	"errors"
	"os"
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
