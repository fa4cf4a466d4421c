package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"swarmboot/imagefmt"
)

// Inventory is a disk and what is on it, as facts that can be kept as JSON.
type Inventory struct {
	Disk
	// Table is the partition table that the kernel would use, of kind none when there is none; without boot code. Numbers,
	// places, types, UUIDs and labels are filled in, and of every partition the file system that is recognised in it.
	Table imagefmt.Table `json:"table"`
	// TableSector is the sector size that the table was made for, in bytes; 0 without a table.
	TableSector int `json:"tableSector,omitempty"`
	// TableError says why nobody can tell what is on the disk: a table that is damaged, or a disk that cannot be read. "" = all is
	// well. Table is of kind none then.
	TableError string `json:"tableError,omitempty"`
	// Found are the signatures on the disk and in its partitions, as WipeKeeping names them: "partition 1: XFS superblock".
	Found []string `json:"found,omitempty"`
	// Members are the superblocks of md arrays on the disk and in its partitions.
	Members []Member `json:"members,omitempty"`
	// Arrays are the md arrays that are assembled from the disk, by kernel name, when they are idle and the only
	// reason why the disk is in use. See Disk.InUse.
	Arrays []string `json:"arrays,omitempty"`
}

// Member says that a disk or partition belongs to an md array.
type Member struct {
	Partition int    `json:"partition"`      // 0 = the disk as a whole
	Array     string `json:"array"`          // UUID of the array, as mdadm writes it: "01234567:89abcdef:01234567:89abcdef"
	Name      string `json:"name,omitempty"` // with the host in front of it, as it stands in the superblock
	Level     int    `json:"level"`
	Metadata  string `json:"metadata"` // "0.90", "1.0", "1.1", "1.2"
}

// Check says whether an inventory that was read from a file can be one: what a plan relies on.
func (inv *Inventory) Check() error {
	switch {
	case inv.Path == "":
		return fmt.Errorf("it has no path")
	case inv.Size <= 0 || inv.Size > imagefmt.MaxDiskSize:
		return fmt.Errorf("%s: size %d", inv.Path, inv.Size)
	case inv.LogicalSector != 512 && inv.LogicalSector != 4096:
		return fmt.Errorf("%s: logicalSector %d: want 512 or 4096", inv.Path, inv.LogicalSector)
	case inv.OptimalIO < 0 || inv.OptimalIO > maxOptimalIO || inv.OptimalIO&(inv.OptimalIO-1) != 0:
		return fmt.Errorf("%s: optimalIO %d: want a power of two up to %d", inv.Path, inv.OptimalIO, maxOptimalIO)
	case len(inv.Table.Partitions) > maxGPTEntries:
		return fmt.Errorf("%s: %d partitions", inv.Path, len(inv.Table.Partitions))
	}
	for _, p := range inv.Table.Partitions {
		if p.Start < 0 || p.Length < 0 || p.Start > inv.Size || p.Length > inv.Size-p.Start {
			return fmt.Errorf("%s: partition %d: bytes %d+%d of %d", inv.Path, p.Number, p.Start, p.Length, inv.Size)
		}
	}
	return nil
}

// ReadInventory lists the disks of this machine with what is on them, and beside them those of the paths that are regular
// files standing for disks. It only reads. A disk that cannot be read is listed with TableError.
func ReadInventory(paths []string) ([]Inventory, error) {
	list, err := readInventory("/")
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		fi, err := os.Stat(path)
		if err != nil || !fi.Mode().IsRegular() {
			continue // a device is in the list, and what is not there matches nothing
		}
		d, err := Find(path)
		if err != nil {
			return nil, err
		}
		list = append(list, InventoryOf(d))
	}
	return list, nil
}

func readInventory(root string) ([]Inventory, error) {
	disks, err := listIn(root)
	if err != nil {
		return nil, err
	}
	uses, err := readUses(root)
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	var list []Inventory
	for _, d := range disks {
		inv := InventoryOf(d)
		if d.InUse != "" {
			inv.Arrays = uses.idleArrays(root, d.Name)
		}
		list = append(list, inv)
	}
	return list, nil
}

// idleArrays returns the md arrays over a disk and its partitions, nil when anything else uses the disk or something uses
// one of them.
func (u *uses) idleArrays(root, name string) []string {
	sys := filepath.Join(root, "sys/block", name)
	var arrays []string
	for _, node := range append([]string{""}, partitions(sys)...) {
		dev, kernel := attr(sys, node, "dev"), filepath.Base(filepath.Join(name, node))
		if u.byNumber[dev] != "" || u.byPath["/dev/"+strings.ReplaceAll(kernel, "!", "/")] != "" {
			return nil
		}
		holders, err := os.ReadDir(filepath.Join(sys, node, "holders"))
		if err != nil {
			continue
		}
		for _, h := range holders {
			if !strings.HasPrefix(h.Name(), "md") || u.of(root, h.Name()) != "" {
				return nil
			}
			if !slices.Contains(arrays, h.Name()) {
				arrays = append(arrays, h.Name())
			}
		}
	}
	return arrays
}

// InventoryOf reads what is on a disk, and nothing of others: which arrays use it is not known. A disk that cannot be read has a TableError.
func InventoryOf(d Disk) Inventory {
	inv := Inventory{Disk: d, Table: imagefmt.Table{Kind: imagefmt.TableNone}}
	f, err := os.Open(d.Path)
	if err != nil {
		inv.TableError = "it cannot be read: " + bare(err).Error()
		return inv
	}
	defer f.Close()
	// Opened for reading and not exclusively: nothing here writes, and disks in use are looked at too.
	dev := &Device{f: f, path: d.Path, size: d.Size, sector: d.LogicalSector}
	if err := inv.read(dev); err != nil {
		inv.Table, inv.TableSector = imagefmt.Table{Kind: imagefmt.TableNone}, 0
		inv.TableError = err.Error()
	}
	return inv
}

func (inv *Inventory) read(d *Device) error {
	t, sector, err := readTable(d)
	if err != nil {
		return err
	}
	w := &wiper{d: d, seen: map[int64]bool{}}
	for i := range t.Partitions {
		p := &t.Partitions[i]
		before := len(w.spots)
		if err := w.scan(region{fmt.Sprintf("partition %d", p.Number), p.Start, p.Length}); err != nil {
			return fmt.Errorf("it cannot be read: %w", err)
		}
		p.FileSystem = fileSystem(w.spots[before:])
		if err := inv.readMembers(w, p.Number, p.Start, p.Length); err != nil {
			return fmt.Errorf("it cannot be read: %w", err)
		}
	}
	if err := w.scan(region{"disk", 0, d.size}); err != nil {
		return fmt.Errorf("it cannot be read: %w", err)
	}
	if err := inv.readMembers(w, 0, 0, d.size); err != nil {
		return fmt.Errorf("it cannot be read: %w", err)
	}
	for _, s := range w.spots {
		inv.Found = append(inv.Found, s.name)
	}
	inv.Table, inv.TableSector = t, sector
	return nil
}

// fileSystem names the file system whose signatures were found, "" for none or several.
func fileSystem(spots []spot) string {
	name := ""
	for _, s := range spots {
		_, what, _ := strings.Cut(s.name, ": ")
		kind, ok := map[string]string{
			"ext2/3/4 superblock": "ext4", "XFS superblock": "xfs", "btrfs superblock": "btrfs", "FAT boot sector": "vfat", "swap header": "swap",
			"F2FS superblock": "f2fs", "NTFS boot sector": "ntfs", "exFAT boot sector": "exfat",
		}[what]
		if !ok || name == kind {
			continue
		}
		if name != "" {
			return ""
		}
		name = kind
	}
	return name
}
