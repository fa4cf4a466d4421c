package target

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/looptest"
)

func TestVolumePath(t *testing.T) {
	for name, want := range map[string]string{"vg0/root": "/dev/mapper/vg0-root", "my-vg/lv-a": "/dev/mapper/my--vg-lv--a"} {
		if got := VolumePath(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

// Load finds the kernel in a volume at an offset of its partition, and gives the loop device back.
func TestLoadVolume(t *testing.T) {
	fs := ext4(t, map[string]string{"boot/vmlinuz-6.1.0": "not a kernel"})
	const off, size = 3 << 20, 16 << 20
	disk := filepath.Join(t.TempDir(), "pv")
	run(t, "truncate", "-s", "32M", disk)
	run(t, "dd", "if="+fs, "of="+disk, "bs=1M", "seek=3", "conv=notrunc", "status=none")
	pv := looptest.Attach(t, disk)
	m := &imagefmt.Manifest{Table: imagefmt.Table{Kind: imagefmt.TableNone}}
	m.Boot.Volume = &imagefmt.Volume{Name: "vg-0/root", Segments: []imagefmt.VolumeSegment{{Partition: 0, Off: off, Len: size}}}
	device := func(int) string { return pv }
	e, err := Load(t.Context(), m, device, CmdlineOptions{})
	if err == nil || !strings.Contains(err.Error(), "/boot/vmlinuz-6.1.0") || e.Cmdline != "root=/dev/mapper/vg--0-root ro" {
		t.Errorf("%v, %q", err, e.Cmdline)
	}
	if used := run(t, "losetup", "-j", pv); used != "" {
		t.Errorf("left over: %s", used)
	}
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(b), "/target") {
		t.Errorf("left mounted, %v:\n%s", err, b)
	}
	m.Boot.Volume.Segments = append(m.Boot.Volume.Segments, imagefmt.VolumeSegment{Off: 20 << 20, Len: 1 << 20})
	var scattered *ScatteredError
	// qemu-tests/disks has one on a node, whose kernel has a device mapper.
	if _, err := Load(t.Context(), m, device, CmdlineOptions{}); checkMapper(t.Context()) != nil && (!errors.As(err, &scattered) || scattered.Pieces != 2) {
		t.Errorf("a volume in two pieces: %v", err)
	}
}
