package imagesrc

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestContainers: the files of hypervisors and packers are refused by name, unless they are forced.
func TestContainers(t *testing.T) {
	dir := t.TempDir()
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
	}
	run("truncate", "-s", "16M", "raw")
	run("dd", "if=/dev/urandom", "of=raw", "bs=1k", "count=8", "seek=9k", "conv=notrunc", "status=none")
	run("sh", "-c", "printf 'label: gpt\nsize=4MiB\n' | sfdisk -q raw")
	for file, c := range map[string]struct {
		args   []string
		format string
		hint   string
	}{
		"a.qcow2":     {[]string{"qcow2"}, "qcow2", "qemu-img convert -O raw "},
		"old.qcow2":   {[]string{"qcow2", "-o", "compat=0.10"}, "qcow2", "qemu-nbd"},
		"a.qcow":      {[]string{"qcow"}, "qcow", "qemu-img convert"},
		"a.vmdk":      {[]string{"vmdk"}, "VMDK", "qemu-img convert"},
		"stream.vmdk": {[]string{"vmdk", "-o", "subformat=streamOptimized"}, "VMDK", "qemu-img convert"},
		"flat.vmdk":   {[]string{"vmdk", "-o", "subformat=monolithicFlat"}, "VMDK (a descriptor of other files)", "qemu-img convert"},
		"a.vhdx":      {[]string{"vhdx"}, "VHDX", "qemu-img convert"},
		"a.vhd":       {[]string{"vpc"}, "VHD", "qemu-img convert"},
		"fixed.vhd":   {[]string{"vpc", "-o", "subformat=fixed"}, "VHD of fixed size", "qemu-img convert"},
		"a.vdi":       {[]string{"vdi"}, "VDI", "qemu-img convert"},
		"a.qed":       {[]string{"qed"}, "QED", "qemu-img convert"},
		"a.parallels": {[]string{"parallels"}, "Parallels", "qemu-img convert"},
		"raw.gz":      {nil, "gzip", "unpack"},
		"raw.xz":      {nil, "xz", "unpack"},
		"raw.zst":     {nil, "zstd", "unpack"},
		"raw.bz2":     {nil, "bzip2", "unpack"},
		"raw.lz4":     {nil, "lz4", "unpack"},
		"raw.zip":     {nil, "zip", "unpack"},
	} {
		switch tool := map[string]string{".gz": "gzip", ".xz": "xz", ".zst": "zstd", ".bz2": "bzip2", ".lz4": "lz4", ".zip": "zip"}[filepath.Ext(file)]; {
		case tool == "zstd":
			run(tool, "-q", "-k", "raw")
		case tool == "lz4":
			run(tool, "-q", "-k", "raw", file)
		case tool == "zip":
			run("python3", "-m", "zipfile", "-c", file, "raw")
		case tool != "":
			run(tool, "-k", "raw")
		default:
			run("qemu-img", append(append([]string{"convert", "-f", "raw", "-O"}, c.args...), "raw", file)...)
		}
		path := filepath.Join(dir, file)
		src, err := Open(t.Context(), path, Options{})
		var ce *ContainerError
		if !errors.As(err, &ce) || ce.Format != c.format || !strings.Contains(ce.Hint, c.hint) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), c.format) {
			t.Errorf("%s: %v, want %s", file, err, c.format)
		}
		if src != nil {
			src.Close()
		}
		forced, err := Open(t.Context(), path, Options{Force: true})
		if err != nil {
			t.Errorf("%s, forced: %v", file, err)
			continue
		}
		if fi, err := os.Stat(path); err != nil || forced.Size() != fi.Size() {
			t.Errorf("%s, forced: %d bytes, %v", file, forced.Size(), err)
		}
		forced.Close()
	}
	src, err := Open(t.Context(), filepath.Join(dir, "raw"), Options{})
	if err != nil || len(src.Table().Partitions) != 1 {
		t.Fatalf("the raw disk: %v", err)
	}
	src.Close()
}
