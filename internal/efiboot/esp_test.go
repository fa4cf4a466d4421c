package efiboot

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var x64 = Arch{"x64", 0x8664}

// pe is a program for a machine, as far as anybody looks.
func pe(machine uint16, text string) []byte {
	b := make([]byte, 128)
	copy(b, "MZ")
	binary.LittleEndian.PutUint32(b[60:], 64)
	copy(b[64:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(b[68:], machine)
	return append(b, text...)
}

// espWith makes a directory with programs; a name that ends in "!" is one for another machine, one in "?" is no program.
func espWith(t *testing.T, names ...string) *os.Root {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		b := pe(x64.machine, name)
		if n, ok := strings.CutSuffix(name, "!"); ok {
			name, b = n, pe(0xaa64, name)
		} else if n, ok := strings.CutSuffix(name, "?"); ok {
			name, b = n, []byte("MZ text")
		}
		p := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		if err == nil {
			err = os.WriteFile(p, b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func TestFindLoader(t *testing.T) {
	for _, tt := range []struct{ want, files string }{
		{`\EFI\debian\shimx64.efi`, "EFI/debian/grubx64.efi EFI/debian/shimx64.efi EFI/BOOT/BOOTX64.EFI"},
		{`\efi\Debian\GRUBX64.EFI`, "efi/Debian/GRUBX64.EFI efi/boot/bootx64.efi"},
		{`\EFI\debian\grubx64.efi`, "EFI/debian/grubx64.efi EFI/debian/shimx64.efi! EFI/debian/shim.efi?"},
		{`\EFI\opensuse\shim.efi`, "EFI/opensuse/grubx64.efi EFI/opensuse/grub.efi EFI/opensuse/shim.efi"},
		{`\EFI\systemd\systemd-bootx64.efi`, "EFI/systemd/systemd-bootx64.efi EFI/BOOT/BOOTX64.EFI EFI/Linux/x.efi"},
		{`\EFI\ubuntu\shimx64.efi`, "EFI/Microsoft/Boot/bootmgfw.efi EFI/ubuntu/shimx64.efi"},
		{`\EFI\Microsoft\Boot\bootmgfw.efi`, "EFI/Microsoft/Boot/bootmgfw.efi EFI/BOOT/BOOTX64.EFI"},
		{`\EFI\BOOT\BOOTX64.EFI`, "EFI/BOOT/BOOTX64.EFI EFI/BOOT/grubx64.efi"},
		{"no boot loader for x64 on the EFI system partition (in \\EFI: debian)", "EFI/debian/readme.txt"},
		{"no boot loader for x64 on the EFI system partition (in \\EFI: BOOT)", "EFI/BOOT/BOOTAA64.EFI!"},
		{"no boot loader for x64 on the EFI system partition (in \\EFI: no directory)", "readme.txt"},
	} {
		got, err := FindLoader(espWith(t, strings.Fields(tt.files)...), x64)
		if err != nil {
			var none *NoLoaderError
			if !errors.As(err, &none) {
				t.Errorf("%s: %v", tt.files, err)
			}
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.files, got, tt.want)
		}
	}
}

func TestAddFallback(t *testing.T) {
	for _, tt := range []struct {
		loader, files string
		want          string // what is written
	}{
		{`\EFI\debian\shimx64.efi`, "EFI/debian/shimx64.efi EFI/debian/grubx64.efi EFI/debian/mmx64.efi EFI/debian/fbx64.efi", "grubx64.efi mmx64.efi BOOTX64.EFI"},
		{`\EFI\debian\shimx64.efi`, "EFI/debian/shimx64.efi EFI/debian/grubx64.efi EFI/Boot/GRUBX64.EFI", "BOOTX64.EFI"},
		{`\EFI\opensuse\shim.efi`, "EFI/opensuse/shim.efi EFI/opensuse/grub.efi EFI/opensuse/MokManager.efi EFI/opensuse/grub.cfg", "grub.efi MokManager.efi BOOTX64.EFI"},
		{`\efi\systemd\systemd-bootx64.efi`, "efi/systemd/systemd-bootx64.efi efi/boot/readme.txt", "BOOTX64.EFI"},
	} {
		root := espWith(t, strings.Fields(tt.files)...)
		if ok, err := HasFallback(root, x64); ok || err != nil {
			t.Fatalf("%s: there is one (%v)", tt.files, err)
		}
		wrote, err := AddFallback(root, x64, tt.loader)
		if got := strings.Join(wrote, " "); err != nil || got != tt.want {
			t.Errorf("%s: %s, %v; want %s", tt.files, got, err, tt.want)
		}
		if ok, err := HasFallback(root, x64); !ok || err != nil {
			t.Errorf("%s: there is none (%v)", tt.files, err)
		}
		dir, err := find(root, ".", "EFI/BOOT")
		if err != nil {
			t.Fatal(err)
		}
		b, err := root.ReadFile(dir + "/BOOTX64.EFI")
		source := strings.ReplaceAll(tt.loader[1:], `\`, "/")
		if err != nil || !slices.Equal(b, pe(x64.machine, source)) {
			t.Errorf("%s: content %q, %v", tt.files, b, err)
		}
		names, err := list(root, dir)
		if err != nil || slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, ".TMP") }) {
			t.Errorf("left: %q, %v", names, err)
		}
	}
}

// Shim alone would start nothing, and keep firmware from what does.
func TestNoFallbackOfShimAlone(t *testing.T) {
	root := espWith(t, "EFI/debian/shimx64.efi", "EFI/debian/mmx64.efi", "EFI/debian/grubx64.efi!")
	wrote, err := AddFallback(root, x64, `\EFI\debian\shimx64.efi`)
	if err == nil || !strings.Contains(err.Error(), "has none of grubx64.efi, grub.efi beside it") || len(wrote) > 0 {
		t.Errorf("wrote %q, %v", wrote, err)
	}
	if ok, err := HasFallback(root, x64); ok || err != nil {
		t.Errorf("there is one (%v)", err)
	}
}

func TestFirmwareArch(t *testing.T) {
	for _, tt := range []struct {
		goarch string
		bits   int
		want   string
	}{{"amd64", 64, "BOOTX64.EFI"}, {"amd64", 32, "BOOTIA32.EFI"}, {"arm64", 64, "BOOTAA64.EFI"}, {"riscv64", 64, ""}} {
		a, err := FirmwareArch(tt.goarch, tt.bits)
		if (err != nil) != (tt.want == "") || err == nil && a.fallback() != tt.want {
			t.Errorf("%s %d: %v, %v", tt.goarch, tt.bits, a, err)
		}
	}
}

// An ESP full of strange files is no reason to fail.
func FuzzPE(f *testing.F) {
	f.Add(pe(0x8664, ""))
	f.Add([]byte("MZ"))
	f.Fuzz(func(t *testing.T, b []byte) {
		peMachine(strings.NewReader(string(b)), int64(len(b)))
	})
}
