package target

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"swarmboot/imagefmt"
)

func TestCompareVersions(t *testing.T) {
	ascending := []string{
		"4.19.0-27-amd64", "5.4.0-rc1", "5.4.0", "5.10.0-9-amd64", "5.10.0-10-amd64", "5.10.0-10-cloud-amd64",
		"6.1.0-rc7-amd64", "6.1.0-0.deb11.5-amd64", "6.1.0-9-amd64", "6.1.0-37-amd64", "6.1.55-1.el9.x86_64", "6.1.55-1.el9_1.x86_64",
		"6.10.3-200.fc40.x86_64", "6.10.11-200.fc40.x86_64",
	}
	for i, a := range ascending {
		for j, b := range ascending {
			got, want := compareVersions(a, b), i-j
			if (got < 0) != (want < 0) || (got > 0) != (want > 0) {
				t.Errorf("compareVersions(%s, %s) = %d, want the sign of %d", a, b, got, want)
			}
		}
	}
	if compareVersions("6.01", "6.1") != 0 {
		t.Error("leading zeros count")
	}
}

// tree makes files ("path": content) and symlinks ("path": "-> target") in a new directory.
func tree(t *testing.T, number int, entries map[string]string) Tree {
	t.Helper()
	dir := t.TempDir()
	for name, content := range entries {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if to, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(to, p)
		} else {
			err = os.WriteFile(p, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return Tree{number, dir}
}

func TestFindBoot(t *testing.T) {
	tests := []struct {
		name           string
		root, other    map[string]string
		boot           imagefmt.Boot
		kernel, initrd File
	}{
		{name: "debian, newest by number", root: map[string]string{
			"boot/vmlinuz-6.1.0-9-amd64": "k", "boot/initrd.img-6.1.0-9-amd64": "i",
			"boot/vmlinuz-6.1.0-37-amd64": "k", "boot/initrd.img-6.1.0-37-amd64": "i", "boot/config-6.1.0-99": "c"},
			kernel: File{2, "/boot/vmlinuz-6.1.0-37-amd64"}, initrd: File{2, "/boot/initrd.img-6.1.0-37-amd64"}},
		{name: "newest without initrd is half installed", root: map[string]string{
			"boot/vmlinuz-6.1.0-9-amd64": "k", "boot/initrd.img-6.1.0-9-amd64": "i", "boot/vmlinuz-6.1.0-37-amd64": "k"},
			kernel: File{2, "/boot/vmlinuz-6.1.0-9-amd64"}, initrd: File{2, "/boot/initrd.img-6.1.0-9-amd64"}},
		{name: "no initrd at all", root: map[string]string{"boot/vmlinuz-6.1.0": "k", "boot/vmlinuz-6.2.0": "k"},
			kernel: File{2, "/boot/vmlinuz-6.2.0"}},
		{name: "fedora, rescue kernel and empty file left out", root: map[string]string{
			"boot/vmlinuz-0-rescue-abc": "k", "boot/initramfs-0-rescue-abc.img": "i", "boot/vmlinuz-9.9": "", "boot/initramfs-9.9.img": "i",
			"boot/vmlinuz-6.10.3-200.fc40.x86_64": "k", "boot/initramfs-6.10.3-200.fc40.x86_64.img": "i", "boot/vmlinuz-7.0.old": "k"},
			kernel: File{2, "/boot/vmlinuz-6.10.3-200.fc40.x86_64"}, initrd: File{2, "/boot/initramfs-6.10.3-200.fc40.x86_64.img"}},
		{name: "suse", root: map[string]string{"boot/vmlinuz-6.4.0-default": "k", "boot/initrd-6.4.0-default": "i"},
			kernel: File{2, "/boot/vmlinuz-6.4.0-default"}, initrd: File{2, "/boot/initrd-6.4.0-default"}},
		{name: "separate /boot", root: map[string]string{"boot/.keep": "x"},
			other:  map[string]string{"vmlinuz-6.1.0": "k", "initrd.img-6.1.0": "i"},
			kernel: File{1, "/vmlinuz-6.1.0"}, initrd: File{1, "/initrd.img-6.1.0"}},
		{name: "root before other partitions", root: map[string]string{"boot/vmlinuz-6.1.0": "k", "boot/initrd.img-6.1.0": "i"},
			other:  map[string]string{"vmlinuz-9.1.0": "k", "initrd.img-9.1.0": "i"},
			kernel: File{2, "/boot/vmlinuz-6.1.0"}, initrd: File{2, "/boot/initrd.img-6.1.0"}},
		{name: "named", root: map[string]string{"boot/vmlinuz-6.1.0": "k", "boot/initrd.img-6.1.0": "i", "boot/vmlinuz-6.2.0": "k", "boot/initrd.img-6.2.0": "i"},
			boot: imagefmt.Boot{Kernel: "/boot/vmlinuz-6.1.0"}, kernel: File{2, "/boot/vmlinuz-6.1.0"}, initrd: File{2, "/boot/initrd.img-6.1.0"}},
		{name: "both named, absolute link inside", root: map[string]string{"vmlinuz": "-> /boot/k", "boot/k": "k", "i": "i"},
			boot: imagefmt.Boot{Kernel: "/vmlinuz", Initrd: "/i"}, kernel: File{2, "/vmlinuz"}, initrd: File{2, "/i"}},
		{name: "named in a separate /boot", root: map[string]string{"etc/x": "x"}, other: map[string]string{"k": "k"},
			boot: imagefmt.Boot{Kernel: "/boot/k"}, kernel: File{1, "/k"}},
		{name: "initrd named, kernel newest", root: map[string]string{"boot/vmlinuz-6.1.0": "k", "boot/x": "i"},
			boot: imagefmt.Boot{Initrd: "/boot/x"}, kernel: File{2, "/boot/vmlinuz-6.1.0"}, initrd: File{2, "/boot/x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			kernel, initrd, err := FindBoot([]Tree{tree(t, 2, tt.root), tree(t, 1, tt.other)}, tt.boot)
			if err != nil {
				t.Fatal(err)
			}
			if kernel != tt.kernel || initrd != tt.initrd {
				t.Errorf("got %v, %v; want %v, %v", kernel, initrd, tt.kernel, tt.initrd)
			}
		})
	}
}

func TestFindBootHasNoKernel(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "vmlinuz-1")
	if err := os.WriteFile(secret, []byte("of the node"), 0o600); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Dir(secret)
	tests := []struct {
		name string
		root map[string]string
		boot imagefmt.Boot
	}{
		{"empty", nil, imagefmt.Boot{}},
		{"absolute link out", map[string]string{"boot/vmlinuz-1": "-> " + secret}, imagefmt.Boot{}},
		{"relative link out", map[string]string{"boot/vmlinuz-1": "-> ../../../../../../../../.." + secret}, imagefmt.Boot{}},
		{"directory link out", map[string]string{"boot": "-> " + outside}, imagefmt.Boot{}},
		{"named through a link out", map[string]string{"k": "-> " + secret}, imagefmt.Boot{Kernel: "/k"}},
		{"named with dots", nil, imagefmt.Boot{Kernel: "/../../../../../../../.." + secret}},
		{"ring of links", map[string]string{"boot/vmlinuz-1": "-> vmlinuz-1"}, imagefmt.Boot{}},
		{"magic link", map[string]string{"boot/vmlinuz-1": "-> /proc/self/exe"}, imagefmt.Boot{}},
		{"named initrd missing", map[string]string{"boot/vmlinuz-1": "k"}, imagefmt.Boot{Initrd: "/boot/i"}},
		{"kernel is a directory", map[string]string{"boot/vmlinuz-1/x": "k"}, imagefmt.Boot{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k, i, err := FindBoot([]Tree{tree(t, 2, tt.root)}, tt.boot)
			var missing *NoKernelError
			if !errors.As(err, &missing) {
				t.Fatalf("got %v, %v, error %v; want *NoKernelError", k, i, err)
			}
		})
	}
}

func TestTreeOpensRegularFilesOnly(t *testing.T) {
	tr := tree(t, 1, map[string]string{"boot/k": "kernel", "link": "-> /boot/k"})
	if err := unix.Mkfifo(filepath.Join(tr.Dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := tr.open("/link")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); err != nil || string(b) != "kernel" {
		t.Errorf("read %q, %v", b, err)
	}
	if f, err := tr.open("/fifo"); err == nil {
		f.Close()
		t.Error("a fifo was opened as a kernel")
	}
}

func TestCmdline(t *testing.T) {
	gpt := imagefmt.Table{Kind: imagefmt.TableGPT, Partitions: []imagefmt.Partition{{Number: 2, UUID: "AABBCCDD-0000-4000-8000-000000000002"}}}
	mbr := imagefmt.Table{Kind: imagefmt.TableMBR, DiskSignature: "0badcafe", Partitions: []imagefmt.Partition{{Number: 1}}}
	bare := imagefmt.Table{Kind: imagefmt.TableNone}
	tests := []struct {
		name  string
		table imagefmt.Table
		boot  imagefmt.Boot
		uuid  string
		o     CmdlineOptions
		want  string
	}{
		{"gpt", gpt, imagefmt.Boot{Root: 2}, "", CmdlineOptions{}, "root=PARTUUID=aabbccdd-0000-4000-8000-000000000002 ro"},
		{"mbr", mbr, imagefmt.Boot{Root: 1}, "", CmdlineOptions{}, "root=PARTUUID=0badcafe-01 ro"},
		{"bare", bare, imagefmt.Boot{}, "1-2-3", CmdlineOptions{}, "root=UUID=1-2-3 ro"},
		{"image's own", gpt, imagefmt.Boot{Root: 2, Cmdline: "root=LABEL=x  rw quiet"}, "", CmdlineOptions{Append: "single"}, "root=LABEL=x rw quiet single"},
		{"image's own without root", gpt, imagefmt.Boot{Root: 2, Cmdline: "rw quiet"}, "", CmdlineOptions{},
			"root=PARTUUID=aabbccdd-0000-4000-8000-000000000002 rw quiet"},
		{"consoles", bare, imagefmt.Boot{Cmdline: "root=/dev/x ro console=tty0"}, "", CmdlineOptions{Console: []string{"tty0", "ttyS0,115200"}},
			"root=/dev/x ro console=tty0 console=ttyS0,115200"},
		{"append names the root", bare, imagefmt.Boot{}, "", CmdlineOptions{Append: "root=/dev/vda"}, "root=/dev/vda"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Cmdline(&imagefmt.Manifest{Table: tt.table, Boot: tt.boot}, tt.uuid, tt.o)
			if err != nil || got != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
	for name, m := range map[string]*imagefmt.Manifest{
		"no such partition": {Table: gpt, Boot: imagefmt.Boot{Root: 7}},
		"no UUID":           {Table: bare},
		"too long":          {Table: gpt, Boot: imagefmt.Boot{Root: 2, Cmdline: strings.Repeat("x", 2048)}},
		"control character": {Table: gpt, Boot: imagefmt.Boot{Root: 2, Cmdline: "a\x01b"}},
	} {
		if line, err := Cmdline(m, "", CmdlineOptions{}); err == nil {
			t.Errorf("%s: accepted as %q", name, line)
		}
	}
}

func TestLoadError(t *testing.T) {
	var lockdown *LockdownError
	if err := loadError(Entry{}, unix.EPERM); !errors.As(err, &lockdown) || !errors.Is(err, unix.EPERM) {
		t.Errorf("EPERM gives %v, want *LockdownError", err)
	}
	if err := loadError(Entry{Kernel: File{1, "/k"}}, unix.ENOEXEC); errors.As(err, &lockdown) || !strings.Contains(err.Error(), "/k") {
		t.Errorf("ENOEXEC gives %v, want an error that names the kernel", err)
	}
	if err := loadError(Entry{}, nil); err != nil {
		t.Error(err)
	}
}
