package imagesrc

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestFileSystemLength: how far a file system reaches is known of one that is shorter than its partition, wherever on the disk that
// begins, and is not claimed where something lies behind it.
func TestFileSystemLength(t *testing.T) {
	dir := t.TempDir()
	disk, fs := filepath.Join(dir, "disk"), filepath.Join(dir, "fs")
	for _, line := range []string{
		"truncate -s 64M " + disk, "truncate -s 16M " + fs, "mkfs.ext4 -q " + fs,
		"printf 'label: gpt\nstart=9MiB, size=40MiB, type=L\n' | sfdisk -q " + disk,
		"dd if=" + fs + " of=" + disk + " bs=1M seek=9 conv=notrunc status=none",
	} {
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", line).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
	length := func() int64 {
		t.Helper()
		src, err := Open(t.Context(), disk, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		return src.Table().Partitions[0].FSLength
	}
	if n := length(); n != 16<<20 {
		t.Errorf("%d bytes, want 16 MiB", n)
	}
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("below"), 48<<20); err != nil {
		t.Fatal(err)
	}
	if n := length(); n != 0 {
		t.Errorf("%d bytes, though something lies behind", n)
	}
}
