package imagesrc

import (
	"encoding/binary"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/filetest"
)

var fatCases = []struct {
	name string
	size int64
	args string
}{
	{"FAT12", 6 * mib, "-F 12"},
	{"FAT12 floppy", 1440 << 10, "-F 12 -s 1"},
	{"FAT16", 32 * mib, "-F 16"},
	{"FAT16 one table", 32 * mib, "-F 16 -f 1"},
	{"FAT32", 64 * mib, "-F 32"},
	{"FAT32 4096 byte sectors", 300 * mib, "-F 32 -S 4096 -s 1"},
	{"FAT32 many reserved sectors", 64 * mib, "-F 32 -R 200"},
	{"FAT32 as a whole disk", 64 * mib, "-F 32 --mbr=yes"},
}

// makeFAT makes a file system with files in it, and with holes where some of them were removed.
func makeFAT(t *testing.T, size int64, args string) (path string, want map[string]string) {
	t.Helper()
	dir := tree(t, int(min(size/2, 4*mib)))
	want = sums(t, dir)
	path = blank(t, size)
	run(t, "mkfs.fat", append(strings.Fields("-n THELABEL -i 1a2b3c4d "+args), path)...)
	dirs, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	run(t, "mcopy", append([]string{"-s", "-i", path}, append(dirs, "::")...)...)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if strings.HasSuffix(name, "4") || strings.HasSuffix(name, "7") {
			run(t, "mdel", "-i", path, "::"+name)
			delete(want, name)
		}
	}
	run(t, "fsck.fat", "-n", path)
	return path, want
}

func TestFAT(t *testing.T) {
	for _, c := range fatCases {
		t.Run(c.name, func(t *testing.T) {
			path, want := makeFAT(t, c.size, c.args)
			s := open(t, path, Options{})
			if len(s.Notes()) > 0 || s.Table().Kind != imagefmt.TableNone {
				t.Errorf("notes %q, table %+v", s.Notes(), s.Table())
			}
			in, whole, err := (&disk{path: path}).readVolume(s.f, 0, s.size)
			if err != nil || whole != "" || in.FileSystem != "vfat" || in.Label != "THELABEL" || in.UUID != "1A2B-3C4D" {
				t.Errorf("read %+v, %q, %v", in, whole, err)
			}
			if used(s) > min(c.size*9/10, 8*mib) {
				t.Errorf("%d of %d bytes are used", used(s), c.size)
			}
			target := restore(t, s)
			run(t, "fsck.fat", "-n", target)
			out := scratch(t)
			run(t, "mcopy", "-s", "-i", target, "::*", out)
			sameTree(t, want, out)
		})
	}
}

func TestFATDirty(t *testing.T) {
	le32 := func(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }
	fatAt := func(t *testing.T, p string) int64 { // byte offset of the first table
		return int64(binary.LittleEndian.Uint16(filetest.Read(t, p, 14, 2))) * 512
	}
	for _, c := range []struct {
		name, args, reason string
		damage             func(t *testing.T, p string)
	}{
		{"FAT16 state in boot sector", "-F 16", "not unmounted", func(t *testing.T, p string) { filetest.Write(t, p, 37, []byte{1}) }},
		{"FAT32 state in boot sector", "-F 32", "not unmounted", func(t *testing.T, p string) { filetest.Write(t, p, 65, []byte{1}) }},
		{"FAT16 shutdown bit", "-F 16", "not unmounted", func(t *testing.T, p string) { filetest.Write(t, p, fatAt(t, p)+2, []byte{0xFF, 0x7F}) }},
		{"FAT32 shutdown bit", "-F 32", "not unmounted", func(t *testing.T, p string) { filetest.Write(t, p, fatAt(t, p)+4, le32(0x07FFFFFF)) }},
		{"FAT32 error bit", "-F 32", "disk errors", func(t *testing.T, p string) { filetest.Write(t, p, fatAt(t, p)+4, le32(0x0BFFFFFF)) }},
		{"copies differ", "-F 32", "copies of the table differ", func(t *testing.T, p string) { filetest.Write(t, p, fatAt(t, p)+4000, le32(99)) }},
		{"cut short", "-F 32", "cut short", func(t *testing.T, p string) { run(t, "truncate", "-s", "20M", p) }},
		{"tables too long", "-F 32", "no room for data", func(t *testing.T, p string) { filetest.Write(t, p, 36, le32(0xFFFFFFFF)) }},
		{"tables too short", "-F 32", "need a table", func(t *testing.T, p string) { filetest.Write(t, p, 36, le32(1)) }},
		{"active table", "-F 32", "active one", func(t *testing.T, p string) { filetest.Write(t, p, 40, []byte{0x87}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			path, _ := makeFAT(t, 64*mib, c.args)
			c.damage(t, path)
			_, err := Open(t.Context(), path, Options{})
			var dirty *DirtyError
			if !errors.As(err, &dirty) || !strings.Contains(dirty.Reason, c.reason) {
				t.Fatalf("got %v, want a DirtyError about %q", err, c.reason)
			}
			if s := open(t, path, Options{Force: true}); used(s) != s.Size() {
				t.Errorf("with Force %d of %d bytes are used, want all", used(s), s.Size())
			}
		})
	}
}

// TestFATBad marks a cluster bad: nobody can read it, so it is not used.
func TestFATBad(t *testing.T) {
	path, _ := makeFAT(t, 64*mib, "-F 32 -s 1")
	before := used(open(t, path, Options{}))
	reserved := int64(binary.LittleEndian.Uint16(filetest.Read(t, path, 14, 2))) * 512
	length := int64(binary.LittleEndian.Uint32(filetest.Read(t, path, 36, 4))) * 512
	for _, table := range []int64{reserved, reserved + length} {
		filetest.Write(t, path, table+4*100_000, []byte{0xF7, 0xFF, 0xFF, 0x0F})
	}
	if after := used(open(t, path, Options{})); after != before {
		t.Errorf("%d bytes used, %d before a cluster was marked bad", after, before)
	}
}
