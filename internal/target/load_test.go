package target

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/looptest"
	"swarmboot/internal/tooltest"
)

var run = tooltest.Run

// ext4 makes a loop device with an ext4 that holds files.
func ext4(t *testing.T, files map[string]string) string {
	t.Helper()
	dir, img := t.TempDir(), filepath.Join(t.TempDir(), "disk")
	for name, content := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "truncate", "-s", "16M", img)
	run(t, "mkfs.ext4", "-q", "-U", "6c4f5c6e-23d5-4b5e-9c67-0e3a5c3a0001", "-d", dir, img)
	dev := looptest.Attach(t, img)
	return dev
}

// Load on real file systems, up to a kernel that is none: the right entry reaches the system call, the
// error says what is wrong with it, and nothing stays mounted.
func TestLoad(t *testing.T) {
	files := map[string]string{"boot/vmlinuz-6.1.0": "not a kernel", "boot/initrd.img-6.1.0": "i"}
	tests := []struct {
		name    string
		root    map[string]string
		other   map[string]string
		wantErr string
	}{
		{"bare", files, nil, "/boot/vmlinuz-6.1.0"},
		{"separate boot", map[string]string{"etc/x": "x"}, map[string]string{"vmlinuz-6.1.0": "no"}, "/vmlinuz-6.1.0"},
		{"none", map[string]string{"etc/x": "x"}, nil, "no kernel in /boot"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, devices := imageOf(t, tt.root, tt.other)
			e, err := Load(context.Background(), m, func(n int) string { return devices[n] }, CmdlineOptions{Console: []string{"ttyS0"}})
			var missing *NoKernelError
			if err == nil || !strings.Contains(err.Error(), tt.wantErr) || errors.As(err, &missing) != (tt.name == "none") {
				t.Fatalf("got %v", err)
			}
			if tt.name == "bare" && e.Cmdline != "root=UUID=6c4f5c6e-23d5-4b5e-9c67-0e3a5c3a0001 ro console=ttyS0" {
				t.Errorf("command line %q", e.Cmdline)
			}
			mounts, err := os.ReadFile("/proc/self/mounts")
			if err != nil {
				t.Fatal(err)
			}
			for _, dev := range devices {
				if strings.Contains(string(mounts), dev+" ") {
					t.Errorf("%s is still mounted", dev)
				}
			}
		})
	}
}

func imageOf(t *testing.T, root, other map[string]string) (*imagefmt.Manifest, map[int]string) {
	if other == nil {
		return &imagefmt.Manifest{Table: imagefmt.Table{Kind: imagefmt.TableNone}}, map[int]string{0: ext4(t, root)}
	}
	parts := []imagefmt.Partition{{Number: 1, FileSystem: "ext2"}, {Number: 3, FileSystem: "ext4", UUID: "AA"}}
	return &imagefmt.Manifest{Table: imagefmt.Table{Kind: imagefmt.TableGPT, Partitions: parts}, Boot: imagefmt.Boot{Root: 3}},
		map[int]string{1: ext4(t, other), 3: ext4(t, root)}
}

func TestProbe(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"ext2", []string{"mkfs.ext2", "-q"}, "ext4"}, {"xfs", []string{"mkfs.xfs", "-q"}, "xfs"},
		{"vfat", []string{"mkfs.fat"}, "vfat"}, {"swap", []string{"mkswap"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			img := filepath.Join(t.TempDir(), "disk")
			run(t, "truncate", "-s", "320M", img)
			run(t, tt.args[0], append(tt.args[1:], img)...)
			fsType, uuid, err := probe(img)
			if err != nil || fsType != tt.want {
				t.Errorf("got %q, %v; want %q", fsType, err, tt.want)
			}
			want := run(t, "blkid", "-p", "-s", "UUID", "-o", "value", img)
			if (fsType == "ext4" || fsType == "xfs") && uuid != want {
				t.Errorf("UUID %s, blkid says %s", uuid, want)
			}
		})
	}
}
