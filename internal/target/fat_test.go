package target

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// checkFAT has fsck.fat judge: it says nothing but the summary.
func checkFAT(t *testing.T, path string) string {
	t.Helper()
	out := run(t, "fsck.fat", "-n", "-v", path)
	for _, bad := range []string{"differences", "wrong", "rong checksum", "Warning", "Dirty", "dirty", "not cleanly", "Reclaim"} {
		if strings.Contains(out, bad) {
			t.Errorf("fsck.fat says:\n%s", out)
		}
	}
	return out
}

func TestMakeFAT(t *testing.T) {
	at := time.Date(2026, 11, 21, 12, 30, 14, 0, time.UTC)
	for _, tt := range []struct {
		size   int64
		sector int
		bits   int64
	}{
		{mib, 512, 12}, {16 * mib, 512, 16}, {32 * mib, 512, 16}, {33*mib + 512, 512, 32}, {100 * mib, 512, 32}, {512 * mib, 512, 32}, {64 * gib, 512, 32},
		{mib, 4096, 12}, {100 * mib, 4096, 16}, {256 * mib, 4096, 16}, {512 * mib, 4096, 32}, {64 * gib, 4096, 32},
	} {
		t.Run(fmt.Sprintf("%d-%d", tt.size, tt.sector), func(t *testing.T) {
			p := sparseFile(t, tt.size)
			d := openHollow(t, p)
			dirtyEdges(t, d, tt.size)
			if err := MakeFAT(t.Context(), d, tt.size, FAT{Label: "ESP", VolumeID: 0xABCD1234, Sector: tt.sector, Time: at}); err != nil {
				t.Fatal(err)
			}
			out := checkFAT(t, p)
			if got := number(t, out, `(\d+) bytes per logical sector`); got != int64(tt.sector) {
				t.Errorf("sectors of %d bytes", got)
			}
			if !strings.Contains(run(t, "file", "-bs", p), fmt.Sprintf("FAT (%d bit)", tt.bits)) {
				t.Error(run(t, "file", "-bs", p))
			}
			checkIdentity(t, p, "vfat", "ESP", "ABCD-1234")
			src := filepath.Join(t.TempDir(), "x")
			text := strings.Repeat("Boot Loader. ", 9999)
			if err := os.WriteFile(src, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			run(t, "mmd", "-i", p, "::EFI", "::EFI/A directory with a long name")
			run(t, "mcopy", "-i", p, src, "::EFI/A directory with a long name/grubx64.efi")
			if got := run(t, "mtype", "-i", p, "::EFI/A directory with a long name/grubx64.efi"); got != strings.TrimSpace(text) {
				t.Error("mtype reads something else")
			}
			checkFAT(t, p)
		})
	}
}

// fill the FAT with what mtools can make: long names, times, attributes, fragments, holes in directories.
func fillFAT(t *testing.T, p string) {
	t.Helper()
	src := t.TempDir()
	run(t, "mmd", "-i", p, "::EFI", "::EFI/debian", "::EFI/BOOT", "::loader", "::empty directory")
	for i := range 40 {
		name := filepath.Join(src, fmt.Sprintf("entry number %02d, with a long näme.conf", i))
		if err := os.WriteFile(name, bytes.Repeat([]byte{byte(i), 0x55, 0xaa}, i*977), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Date(2001, 2, 3, 4, i, 6, 0, time.UTC)
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
		run(t, "mcopy", "-m", "-i", p, name, "::EFI/debian/")
	}
	run(t, "sh", "-c", `for i in 1 3 5 7 30; do mdel -i "$0" "::EFI/debian/entry number $(printf %02d $i)*"; done`, p)
	big := filepath.Join(src, "SHIMX64.EFI") // in the gaps that were left
	if err := os.WriteFile(big, bytes.Repeat([]byte("0123456789abcdef"), 50000), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "mcopy", "-i", p, big, "::EFI/BOOT/BOOTX64.EFI")
	run(t, "mattrib", "-i", p, "+r", "+h", "::EFI/BOOT/BOOTX64.EFI")
}

// listing is everything that mtools says of the files, but for what has to change.
func listing(t *testing.T, p string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	if err := os.Mkdir(out, 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, "mcopy", "-s", "-m", "-n", "-i", p, "::*", out)
	sums := run(t, "sh", "-c", `cd "$0" && find . -type f -printf "%p %s %t " -exec sha256sum {} \; ; find . -type d | sort`, out)
	dir := run(t, "sh", "-c", `mdir -/ -a -i "$0" :: | grep -v "bytes free"`, p)
	return sums + dir + run(t, "mattrib", "-i", p, "::EFI/BOOT/BOOTX64.EFI") + run(t, "mlabel", "-s", "-i", p, "::")
}

// Between all kinds of FAT and both sector sizes, everything that can be seen stays.
func TestConvertFAT(t *testing.T) {
	for _, tt := range []struct {
		name string
		size int64
		from int
		mkfs string
	}{
		{"fat32 small clusters", 124 * mib, 512, "-F 32"},
		{"fat32", 512 * mib, 512, "-F 32"},
		{"fat16", 100 * mib, 512, "-F 16"},
		{"fat16 one table", 100 * mib, 512, "-F 16 -f 1"},
		{"fat12", 8 * mib, 512, "-F 12 -s 16"},
		{"fat32 4Kn", 300 * mib, 4096, "-F 32 -S 4096"},
		{"fat16 4Kn", 100 * mib, 4096, "-F 16 -S 4096"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := sparseFile(t, tt.size)
			run(t, "mkfs.fat", append(strings.Fields(tt.mkfs), "-n", "MY ESP", "-i", "1234ABCD", p)...)
			fillFAT(t, p)
			before := listing(t, p)
			d := openHollow(t, p)
			if err := ConvertFAT(t.Context(), d, tt.size, tt.from); err != nil || listing(t, p) != before {
				t.Fatalf("to what it is: %v", err)
			}
			to := 512 + 4096 - tt.from
			if err := CheckFAT(d, tt.size, to); err != nil {
				t.Fatal(err)
			}
			if err := ConvertFAT(t.Context(), d, tt.size, to); err != nil {
				t.Fatal(err)
			}
			if got := number(t, checkFAT(t, p), `(\d+) bytes per logical sector`); got != int64(to) {
				t.Errorf("sectors of %d bytes, want %d", got, to)
			}
			if after := listing(t, p); after != before {
				t.Errorf("before\n%s\nafter\n%s", before, after)
			}
			checkIdentity(t, p, "vfat", "MY ESP", "1234-ABCD")
		})
	}
}

// What cannot be converted is refused with the reason, and stays as it was.
func TestConvertFATRefuses(t *testing.T) {
	le := binary.LittleEndian
	for _, tt := range []struct {
		name, want string
		change     func(t *testing.T, p string, b []byte)
	}{
		{"nothing", "no FAT file system", func(_ *testing.T, _ string, b []byte) { clear(b) }},
		{"NTFS", "no FAT file system", func(_ *testing.T, _ string, b []byte) { copy(b[3:], "NTFS    ") }},
		{"exFAT", "no FAT file system", func(_ *testing.T, _ string, b []byte) { copy(b[3:], "EXFAT   ") }},
		{"sector size", "sectors of 1000 bytes", func(_ *testing.T, _ string, b []byte) { le.PutUint16(b[11:], 1000) }},
		{"beyond its partition", "bytes", func(_ *testing.T, _ string, b []byte) { le.PutUint32(b[32:], 1<<20) }},
		{"table too short", "a table of 1 sectors", func(_ *testing.T, _ string, b []byte) { le.PutUint32(b[36:], 1) }},
		{"root out of range", "root directory: cluster", func(_ *testing.T, _ string, b []byte) { le.PutUint32(b[44:], 1<<27) }},
		{"loop", "belongs to something else", func(_ *testing.T, _ string, b []byte) {
			table := b[32*512:]
			le.PutUint32(table[8:], 2)
		}},
		{"no room in larger clusters", "clusters of 4096 bytes", func(t *testing.T, p string, b []byte) {
			run(t, "sh", "-c", `d=$(mktemp -d); for i in $(seq 9000); do echo x > $d/$i; done; mcopy -i "$0" $d/* ::; rm -r $d`, p)
			c, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			copy(b, c)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := sparseFile(t, 34*mib)
			run(t, "mkfs.fat", "-F", "32", p)
			b, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			tt.change(t, p, b)
			if err := os.WriteFile(p, b, 0o600); err != nil {
				t.Fatal(err)
			}
			before := hash(t, p)
			err = ConvertFAT(t.Context(), openHollow(t, p), 34*mib, 4096)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want %q", err, tt.want)
			}
			if strings.Contains(tt.want, "no FAT") != errors.Is(err, ErrNotFAT) {
				t.Errorf("ErrNotFAT: %v", err)
			}
			if hash(t, p) != before {
				t.Error("it was written to")
			}
		})
	}
	p := sparseFile(t, 34*mib)
	run(t, "mkfs.fat", "-F", "32", p)
	before := hash(t, p)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ConvertFAT(ctx, openHollow(t, p), 34*mib, 4096); !errors.Is(err, context.Canceled) || hash(t, p) != before {
		t.Errorf("interrupted: %v", err)
	}
}

func TestMakeFATRefuses(t *testing.T) {
	for _, tt := range []struct {
		size int64
		f    FAT
		want string
	}{
		{100 * mib, FAT{Label: "TWELVE BYTES"}, "11 characters"}, {100 * mib, FAT{Label: "esp"}, "upper case"}, {100 * mib, FAT{Label: "A/B"}, "none of"},
		{100 * mib, FAT{Sector: 1024}, "want 512 or 4096"}, {1000, FAT{}, "1000 bytes"}, {3 * tib, FAT{}, "bytes: want"},
	} {
		p := sparseFile(t, 100*mib)
		if err := MakeFAT(t.Context(), openHollow(t, p), tt.size, tt.f); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v", tt, err)
		}
		if len(content(t, p)) > 0 {
			t.Errorf("%+v: written to", tt)
		}
	}
}

// ramDisk is a small disk in memory.
type ramDisk []byte

func (m ramDisk) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(m).ReadAt(p, off) }
func (m ramDisk) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(m)) {
		return 0, fmt.Errorf("write of %d bytes at %d", len(p), off)
	}
	return copy(m[off:], p), nil
}

func (m ramDisk) Zero(_ context.Context, off, n int64) error {
	if off < 0 || n < 0 || off+n > int64(len(m)) {
		return fmt.Errorf("zero of %d bytes at %d", n, off)
	}
	clear(m[off:][:n])
	return nil
}

// Whatever is there: a conversion ends, stays within the device, and what it makes it can read again.
func FuzzConvertFAT(f *testing.F) {
	for bits, cluster := range map[string]string{"12": "8", "16": "1", "32": "1"} {
		p := filepath.Join(f.TempDir(), "disk")
		if err := os.WriteFile(p, make([]byte, 4*mib), 0o600); err != nil {
			f.Fatal(err)
		}
		cmds := [][]string{{"mkfs.fat", "-s", cluster, "-F", bits, p}, {"mmd", "-i", p, "::EFI", "::EFI/a long name"}, {"mcopy", "-i", p, "/etc/passwd", "::EFI/a long name/x"}}
		if bits == "32" {
			cmds = cmds[:1] // mtools takes a FAT32 so small for a FAT16
		}
		for _, args := range cmds {
			if out, err := cmdOutput(args...); err != nil {
				f.Fatalf("%q: %v\n%s", args, err, out)
			}
		}
		b, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:96<<10])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 256<<10 {
			return
		}
		d := make(ramDisk, 4*mib)
		copy(d, b)
		before := bytes.Clone(d)
		if err := CheckFAT(d, 4*mib, 4096); err != nil {
			if err := ConvertFAT(t.Context(), d, 4*mib, 4096); err == nil || !bytes.Equal(before, d) {
				t.Fatalf("converted, or changed: %v", err)
			}
			return
		}
		if err := ConvertFAT(t.Context(), d, 4*mib, 4096); err != nil {
			t.Fatal(err)
		}
		if err := CheckFAT(d, 4*mib, 512); err != nil && !strings.Contains(err.Error(), "clusters") {
			t.Fatal(err)
		}
	})
}
