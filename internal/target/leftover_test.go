package target

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Mounts of processes that run, and of others, are left alone.
func TestLeftMounts(t *testing.T) {
	const info = `22 1 0:20 / / rw - ext4 /dev/vda rw
30 22 7:1 / /tmp/swarmboot-mount-17-123 rw,nosuid - ext4 /dev/loop1p2 rw
31 30 0:40 / /tmp/swarmboot-mount-17-123/root rw - tmpfs none rw
32 22 7:2 / /tmp/swarmboot-mount-18-5 rw - ext4 /dev/loop2 rw
33 22 7:3 / /tmp/swarmboot-mount-x-5 rw - ext4 /dev/loop3 rw
34 22 7:4 / /tmp/swarmboot-mount--17 rw - ext4 /dev/loop4 rw
35 22 7:5 / /mnt/tmp/swarmboot-mount-17-1 rw - ext4 /dev/loop5 rw
36 22 7:6 / /tmp/swarmboot-mount-17-9/2 rw - vfat /dev/loop6 rw
short
`
	got := leftMounts(info, "/tmp", func(pid int) bool { return pid == 18 })
	want := []string{"/tmp/swarmboot-mount-17-9/2", "/tmp/swarmboot-mount-17-123/root", "/tmp/swarmboot-mount-17-123"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// So are devices that they have mapped.
func TestLeftMaps(t *testing.T) {
	root := t.TempDir()
	for device, name := range map[string]string{
		"dm-0": "vg0-root", "dm-1": "swarmboot-root-17", "dm-2": "swarmboot-root-18", "dm-3": "swarmboot-root-x", "dm-4": "swarmboot-root-", "dm-5": "my-swarmboot-root-17",
		"dm-6": "swarmboot-root-17-1", "dm-7": "swarmboot-root--17", "dm-8": "swarmboot-root-0", "dm-9": "swarmboot-root-19",
	} {
		path := filepath.Join(root, "sys/block", device, "dm/name")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got := leftMaps(root, func(pid int) bool { return pid == 18 })
	if want := []string{"swarmboot-root-17", "swarmboot-root-19"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLeftDirectories(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	const nobody = 4194304 // PIDs are below it
	left := filepath.Join(tmp, fmt.Sprintf("%s%d-1", mountPrefix, nobody))
	own, err := mountDir()
	if err != nil {
		t.Fatal(err)
	}
	full := left + "2"
	for _, dir := range []string{left, filepath.Join(full, "something")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := UnmountLeft(); err != nil {
		t.Error(err)
	}
	got, err := filepath.Glob(filepath.Join(tmp, "*"))
	if want := []string{full, own}; err != nil || !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}
