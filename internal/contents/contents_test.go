package contents

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func unpacked(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	list := List{}
	for _, f := range []struct{ path, data string }{{"bin/tool", "program"}, {"lib/module.ko", "driver"}} {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(f.path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, f.path), []byte(f.data), 0o644); err != nil {
			t.Fatal(err)
		}
		list = append(list, Entry{Path: f.path, Size: int64(len(f.data)), SHA256: sha256.Sum256([]byte(f.data))})
	}
	if err := os.Symlink("tool", filepath.Join(root, "bin/link")); err != nil {
		t.Fatal(err)
	}
	list = append(list, Entry{Path: "bin/link", Size: 4, Link: true})
	if err := os.WriteFile(filepath.Join(root, Name), list.Marshal(), 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestCheck(t *testing.T) {
	root := unpacked(t)
	if id, err := Check(root); err != nil || len(id) != 12 {
		t.Errorf("whole: %q, %v", id, err)
	}
	for name, tt := range map[string]struct {
		spoil func(root string) error
		want  string
	}{
		"missing file": {func(r string) error { return os.Remove(filepath.Join(r, "lib/module.ko")) }, "/lib/module.ko is missing"},
		"short file":   {func(r string) error { return os.Truncate(filepath.Join(r, "bin/tool"), 3) }, "/bin/tool has 3 bytes, want 7"},
		"missing link": {func(r string) error { return os.Remove(filepath.Join(r, "bin/link")) }, "/bin/link is missing"},
		"no list":      {func(r string) error { return os.Remove(filepath.Join(r, Name)) }, "no such file"},
		"short list":   {func(r string) error { return os.Truncate(filepath.Join(r, Name), 100) }, "cut short"},
	} {
		root := unpacked(t)
		if err := tt.spoil(root); err != nil {
			t.Fatal(err)
		}
		_, err := Check(root)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "initramfs incomplete") {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestParseRefusesPathsOutside(t *testing.T) {
	for _, path := range []string{"../etc/passwd", "/etc/passwd"} {
		if _, err := Parse(List{{Path: path, Size: 1}}.Marshal()); err == nil {
			t.Errorf("%s was accepted", path)
		}
	}
}
