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

// rootUUID is that of every file system that these tests load from.
const rootUUID = "6c4f5c6e-23d5-4b5e-9c67-0e3a5c3a0001"

// ext4 makes a loop device with an ext4 that holds files.
func ext4(t *testing.T, files map[string]string) string {
	t.Helper()
	return holding(t, "16M", files, "mkfs.ext4", "-q", "-U", rootUUID, "-d")
}

// holding makes a loop device with a file system that holds files; mkfs ends with the option that takes their directory.
func holding(t *testing.T, size string, files map[string]string, mkfs ...string) string {
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
	run(t, "truncate", "-s", size, img)
	run(t, mkfs[0], append(mkfs[1:], dir, img)...)
	return looptest.Attach(t, img)
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
			if tt.name == "bare" && e.Cmdline != "root=UUID="+rootUUID+" ro console=ttyS0" {
				t.Errorf("command line %q", e.Cmdline)
			}
			for _, dev := range devices {
				notMounted(t, dev)
			}
		})
	}
}

// An image knows of a btrfs only that it is something: what it is is seen on the disk, also where it got another UUID, and which of its
// subvolumes is the root stands in the command line.
func TestLoadFromBtrfs(t *testing.T) {
	table := imagefmt.Table{Kind: imagefmt.TableGPT, Partitions: []imagefmt.Partition{{Number: 2, UUID: "AA"}}}
	volume := &imagefmt.Volume{Name: "vg/root", Segments: []imagefmt.VolumeSegment{{Partition: 2, Len: 256 << 20}}}
	for _, tt := range []struct {
		name            string
		m               imagefmt.Manifest
		append          string
		kernel, cmdline string
	}{
		{"whole disk", imagefmt.Manifest{}, "", "/boot/vmlinuz-1", "root=UUID=%s ro"},
		{"partition", imagefmt.Manifest{Table: table, Boot: imagefmt.Boot{Root: 2}}, "", "/boot/vmlinuz-1", "root=PARTUUID=aa ro"},
		{"volume", imagefmt.Manifest{Table: table, Boot: imagefmt.Boot{Root: 2, Volume: volume}}, "", "/boot/vmlinuz-1", "root=/dev/mapper/vg-root ro"},
		{"subvolume", imagefmt.Manifest{Boot: imagefmt.Boot{Cmdline: "rootflags=subvol=gone,ro quiet"}}, "rootflags=noatime,subvol=@rootfs",
			"/boot/vmlinuz-2", "root=UUID=%s ro rootflags=subvol=gone,ro quiet rootflags=noatime,subvol=@rootfs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// Every one has a UUID of its own: the kernel would take two for one.
			dev := holding(t, "256M", map[string]string{"boot/vmlinuz-1": "no"}, "mkfs.btrfs", "-q", "--rootdir")
			err := ChangeRoot(t.Context(), dev, func(dir string) error {
				run(t, "btrfs", "subvolume", "create", filepath.Join(dir, "@rootfs"))
				run(t, "mkdir", filepath.Join(dir, "@rootfs/boot"))
				return os.WriteFile(filepath.Join(dir, "@rootfs/boot/vmlinuz-2"), []byte("no"), 0o600)
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ChangeIdentifier(dev, DeriveUUID(t.TempDir())); err != nil {
				t.Fatal(err)
			}
			e, err := Load(t.Context(), &tt.m, func(int) string { return dev }, CmdlineOptions{Append: tt.append})
			want := strings.Replace(tt.cmdline, "%s", blkid(t, dev), 1)
			if err == nil || !strings.Contains(err.Error(), tt.kernel) || e.Cmdline != want {
				t.Errorf("%+v, %v; want %s", e, err, want)
			}
			notMounted(t, dev)
		})
	}
}

// TestLoadFromOtherBoot: the image does not say of XFS and btrfs what they are. Swap and what is no file system are left alone.
func TestLoadFromOtherBoot(t *testing.T) {
	root := ext4(t, map[string]string{"etc/x": "x"})
	for _, mkfs := range []string{"mkfs.xfs", "mkfs.btrfs", "mkswap", "true"} {
		img := filepath.Join(t.TempDir(), "disk")
		run(t, "truncate", "-s", "320M", img)
		boot := looptest.Attach(t, img)
		run(t, mkfs, boot)
		want := "no kernel in /boot"
		if strings.HasPrefix(mkfs, "mkfs.") {
			want = "/vmlinuz-1"
			err := ChangeRoot(t.Context(), boot, func(dir string) error { return os.WriteFile(filepath.Join(dir, "vmlinuz-1"), []byte("no"), 0o600) })
			if err != nil {
				t.Fatal(err)
			}
		}
		parts := []imagefmt.Partition{{Number: 1}, {Number: 2}, {Number: 3, FileSystem: "ext4", UUID: "AA"}}
		m := &imagefmt.Manifest{Table: imagefmt.Table{Kind: imagefmt.TableGPT, Partitions: parts}, Boot: imagefmt.Boot{Root: 3}}
		_, err := Load(t.Context(), m, func(n int) string { return map[int]string{2: boot, 3: root}[n] }, CmdlineOptions{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", mkfs, err)
		}
		notMounted(t, boot)
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
		{"btrfs", []string{"mkfs.btrfs", "-q"}, "btrfs"}, {"vfat", []string{"mkfs.fat"}, "vfat"}, {"swap", []string{"mkswap"}, ""},
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
			if fsType != "vfat" && fsType != "" && uuid != want {
				t.Errorf("UUID %s, blkid says %s", uuid, want)
			}
		})
	}
}
