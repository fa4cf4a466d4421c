package durable

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"swarmboot/internal/tooltest"
)

// A test cannot cut the power. What it can see is that every folder whose entries have changed is synced, and after the change.
func TestFoldersAreSynced(t *testing.T) {
	if dir := tooltest.Inside(); dir != "" {
		path := filepath.Join(dir, "a", "b", "state")
		if err := MkdirAll(filepath.Dir(path)); err != nil {
			t.Fatal(err)
		}
		if err := WriteFile(path, []byte("new\n")); err != nil {
			t.Fatal(err)
		}
		return
	}
	got := tooltest.Folders(t, "TestFoldersAreSynced", t.TempDir())
	for i := range got {
		if strings.HasPrefix(got[i], "sync a/b/.state") {
			got[i] = "sync the file"
		}
	}
	want := []string{"mkdir a", "sync .", "mkdir a/b", "sync a", "sync the file", "rename a/b/state", "sync a/b"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestWriteFileReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	for _, want := range []string{"a long first content", "second"} {
		if err := WriteFile(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%q, %v", got, err)
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestWhatCannotBeWrittenIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"folder in a file": MkdirAll(filepath.Join(file, "a")), "folder in place of a file": MkdirAll(file),
		"file in a file": WriteFile(filepath.Join(file, "a"), nil), "no folder": SyncDir(filepath.Join(file, "a")),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

// procfs is a file system whose folders have no fsync.
func TestFoldersWithoutFsync(t *testing.T) {
	if err := SyncDir("/proc"); err != nil {
		t.Error(err)
	}
}
