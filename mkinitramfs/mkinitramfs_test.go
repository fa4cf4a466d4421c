package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"swarmboot/internal/cli"
	"swarmboot/internal/drivers"
)

func TestParseModinfo(t *testing.T) {
	m := parseModinfo([]byte("license=GPL\x00alias=pci:v1*\x00depends=crc-a,b\x00softdep=pre: x y post: z\x00firmware=a/b.bin\x00alias=fs-q\x00\x00"))
	for _, c := range []struct{ name, got, want string }{
		{"depends", strings.Join(m.Depends, " "), "crc_a b"},
		{"pre", strings.Join(m.Pre, " "), "x y"},
		{"post", strings.Join(m.Post, " "), "z"},
		{"firmware", strings.Join(m.firmware, " "), "a/b.bin"},
		{"aliases", strings.Join(m.Aliases, " "), "fs-q pci:v1*"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", c.name, c.got, c.want)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--kernel", "k", "--modules", "m"}, "-o is missing"},
		{[]string{"--kernel", "k", "--modules", "m", "-o", "o", "--compress", "lzma"}, "--compress lzma"},
		{[]string{"--kernel", "k", "--modules", "m", "-o", "o", "--files", "src:"}, `--files "src:"`},
		{[]string{"--kernel", "k", "--modules", "m", "-o", "o", "--files", "src"}, `--files "src"`},
		{[]string{"x"}, `argument "x"`},
		{[]string{"--nonsense"}, "nonsense"},
	} {
		err := run(context.Background(), tt.args, io.Discard, io.Discard)
		if err == nil || cli.Code(err) != cli.CodeUsage || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v (code %d), want %q", tt.args, err, cli.Code(err), tt.want)
		}
	}
	var out, errOut bytes.Buffer
	if err := run(context.Background(), []string{"--help"}, &out, &errOut); err != nil || errOut.Len() > 0 || !strings.HasPrefix(out.String(), usage) || !strings.HasSuffix(out.String(), cli.ExitCodes) {
		t.Errorf("--help: %v\n%s%s", err, out.String(), errOut.String())
	}
}

// kernel returns vmlinuz and the modules' folder of the unpacked Debian kernel package that make put there.
func kernel(t *testing.T, flavour string) (vmlinuz, modules string) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a kernel package")
	}
	root := filepath.Join("../build/kernel", flavour)
	k, _ := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	m, _ := filepath.Glob(filepath.Join(root, "lib/modules/*"))
	if len(k) != 1 || len(m) != 1 {
		t.Fatalf("no kernel under %s: make unpacks it there", root)
	}
	return k[0], m[0]
}

// depmod and modprobe of kmod judge the index: the same modules in an order that respects the same dependencies for the devices
// of common machines.
func TestIndexAgreesWithKmod(t *testing.T) {
	vmlinuz, modules := kernel(t, "generic")
	o := &options{kernel: vmlinuz, modules: modules}
	mods, tree, err := o.pickModules(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	dir := filepath.Join(root, "lib/modules", tree.version)
	ix := &drivers.Index{Builtin: tree.builtinOnly(mods)}
	for _, m := range mods {
		ix.Modules = append(ix.Modules, m.Module)
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(m.Path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, m.Path), m.image, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"modules.builtin", "modules.order", "modules.builtin.modinfo"} {
		data, err := os.ReadFile(filepath.Join(modules, f))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, f), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("depmod", "-b", root, tree.version).CombinedOutput(); err != nil {
		t.Fatalf("depmod: %v: %s", err, out)
	}
	if err := ix.Build(); err != nil {
		t.Fatal(err)
	}
	for _, alias := range []string{
		"pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00", // e1000
		"pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", // AHCI by class
		"pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00", // virtio
		"pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02", // NVMe by class
		"pci:v00001000d00000097sv00001000sd00003090bc01sc07i00", // mpt3sas
		"pci:v000014E4d00001657sv0000103Csd000022BEbc02sc00i00", // tg3
		"pci:v000015B3d00001017sv000015B3sd00000006bc02sc00i00", // mlx5
		"virtio:d00000001v00001AF4", "virtio:d00000002v00001AF4", "fs-ext4", "fs-xfs", "fs-btrfs", "fs-vfat", "fs-iso9660",
		"crypto-crc32c", "net-pf-17", "md-level-10", "md-level-6", "block-major-9-0", "vmbus:0000000000000000", "usb:v0781p5567d0100dc00dsc00dp00ic08isc06ip50in00",
	} {
		out, _ := exec.Command("modprobe", "-d", root, "-S", tree.version, "-C", "/dev/null", "-R", alias).Output() // 1: none matches
		want := slices.DeleteFunc(strings.Fields(string(out)), ix.IsBuiltin)                                        // what is built in needs no loading
		got := ix.Match(alias)
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, slices.Compact(want)) {
			t.Errorf("%s: %v, modprobe finds %v", alias, got, want)
		}
	}
	compareDependencies(t, ix, filepath.Join(dir, "modules.dep"))
}

// compareDependencies checks that every module comes after all that modules.dep says it needs.
func compareDependencies(t *testing.T, ix *drivers.Index, dep string) {
	t.Helper()
	data, err := os.ReadFile(dep)
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		file, needs, _ := strings.Cut(line, ":")
		order, err := ix.Order(moduleName(file))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		lines++
		place := map[string]int{}
		for i, m := range order {
			place[m.Name] = i + 1
		}
		for _, n := range strings.Fields(needs) {
			if p := place[moduleName(n)]; p == 0 || p > place[moduleName(file)] {
				t.Errorf("%s: needs %s, which is at place %d of %d", file, n, p, len(order))
			}
		}
	}
	if lines < 200 {
		t.Errorf("only %d modules compared", lines)
	}
}

// The whole archive, twice, byte for byte; then a machine boots it, finds no server, and switches off as it was told. The second build is not
// compressed as a whole, which takes longest: each module in it is, by the same program.
func TestArchive(t *testing.T) {
	vmlinuz, modules := kernel(t, "generic")
	build := func(args ...string) (out string) {
		out = filepath.Join(t.TempDir(), "initramfs")
		var text bytes.Buffer
		if err := run(context.Background(), append(args, "--kernel", vmlinuz, "--modules", modules, "-o", out), &text, os.Stderr); err != nil {
			t.Fatal(err)
		}
		t.Log(text.String())
		return out
	}
	out, plain := build(), build("--compress", "none")
	unpacked, err := exec.Command("zstd", "-dcq", out).Output()
	if err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(unpacked, again) {
		t.Error("two builds differ")
	}
	if st, err := os.Stat(out); err != nil || st.Size() > 20e6 {
		t.Errorf("%d bytes, more than 20 MB (%v)", st.Size(), err)
	}
	console := bootArchive(t, vmlinuz, out)
	for _, want := range []string{"build ", "modules loaded", "network up: ", "error: deploy ended with code", "switching off in 10s", "reboot: Power down",
		"e1000 0000:", "ahci 0000:", "nvme nvme0", "virtio_blk virtio"} {
		if !strings.Contains(console, want) {
			t.Errorf("no %q on the console:\n%s", want, console)
		}
	}
	if strings.Contains(console, "panic") {
		t.Errorf("panic:\n%s", console)
	}
}

func bootArchive(t *testing.T, vmlinuz, archive string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "512", "-display", "none", "-serial", "stdio",
		"-no-reboot", "-kernel", vmlinuz, "-initrd", archive,
		"-append", "console=ttyS0 swarmboot.image=x swarmboot.server=http://10.0.2.2:9 swarmboot.onerror=poweroff",
		"-device", "e1000,netdev=n0", "-netdev", "user,id=n0,restrict=on", "-device", "ahci,id=a",
		"-device", "nvme,serial=x,drive=d1", "-drive", "if=none,id=d1,file=null-co://,format=raw",
		"-device", "virtio-blk-pci,drive=d2", "-drive", "if=none,id=d2,file=null-co://,format=raw",
		"-device", "ide-hd,bus=a.0,drive=d3", "-drive", "if=none,id=d3,file=null-co://,format=raw").CombinedOutput()
	if err != nil {
		t.Errorf("qemu: %v", err)
	}
	return string(out)
}
