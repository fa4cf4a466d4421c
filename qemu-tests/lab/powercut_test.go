package lab

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// written has QEMU's own driver write to a disk of 1 MiB, and returns the disk as it was, and the log.
func written(t *testing.T, commands ...string) (disk, log string) {
	t.Helper()
	dir := t.TempDir()
	disk, log = filepath.Join(dir, "disk"), filepath.Join(dir, "log")
	now := filepath.Join(dir, "now")
	for path, size := range map[string]int64{disk: 1 << 20, now: 1 << 20, log: 0} {
		if err := os.WriteFile(path, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"--image-opts", logOptions(now, log)}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	if out, err := exec.CommandContext(t.Context(), "qemu-io", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-io: %v\n%s", err, out)
	}
	return disk, log
}

// What was flushed is always there; of what was not, all, a part or nothing.
func TestCutPower(t *testing.T) {
	// qemu-io flushes when it ends: "abort" is the power cut.
	disk, log := written(t, "write -P 1 0 8k", "flush", "write -P 2 4k 8k", "write -P 3 64k 64k")
	if err := dropLastFlush(log); err != nil {
		t.Fatal(err)
	}
	whole, none, part := 0, 0, 0
	for seed := range uint64(64) {
		if err := os.WriteFile(disk, make([]byte, 1<<20), 0o644); err != nil {
			t.Fatal(err)
		}
		c, err := CutPower(disk, log, 512, rand.New(rand.NewPCG(seed, 0)))
		if err != nil {
			t.Fatal(err)
		}
		if c.Writes != 3 || c.Flushes != 1 || c.Open != 2 {
			t.Fatalf("%+v", c)
		}
		b, err := os.ReadFile(disk)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b[:4096], bytes.Repeat([]byte{1}, 4096)) {
			t.Fatalf("seed %d: what was flushed is not there", seed)
		}
		for _, c := range b[4096:8192] {
			if c != 1 && c != 2 {
				t.Fatalf("seed %d: byte %d where 1 was flushed and 2 written over it", seed, c)
			}
		}
		switch n := bytes.Count(b[64<<10:128<<10], []byte{3}); {
		case n == 0:
			none++
		case n == 64<<10:
			whole++
		case n%512 == 0:
			part++
		default:
			t.Fatalf("seed %d: %d bytes of a write", seed, n)
		}
	}
	if whole == 0 || none == 0 || part == 0 {
		t.Errorf("a write was there %d times, not there %d times, in part %d times", whole, none, part)
	}
}

// dropLastFlush takes away what qemu-io does when it ends: the header of its last flush, and that it is counted.
func dropLastFlush(log string) error {
	f, err := os.OpenFile(log, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	entries, err := readLog(f)
	if err != nil {
		return err
	}
	last := len(entries) - 1
	for last > 0 && entries[last].flags&logFlush != 0 {
		last--
	}
	if _, err := f.WriteAt([]byte{byte(last + 1)}, 16); err != nil {
		return err
	}
	e := entries[last]
	return f.Truncate(e.data + e.length)
}

// A log that is not whole is not believed; one of a machine that was cut off at once is empty.
func TestCutPowerBadLog(t *testing.T) {
	disk, log := written(t, "write -P 1 0 8k", "flush", "write -P 2 4k 8k", "flush")
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	hole := bytes.Clone(b)
	clear(hole[512:1024])
	for name, c := range map[string]struct {
		log  []byte
		want error
	}{"a hole": {hole, ErrLogHole}, "cut short": {b[:3*512], ErrLogHole}, "empty": {nil, nil}} {
		if err := os.WriteFile(log, c.log, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := CutPower(disk, log, 512, rng); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if now, err := os.ReadFile(disk); err != nil || !bytes.Equal(now, make([]byte, 1<<20)) {
			t.Errorf("%s: the disk has changed (%v)", name, err)
		}
	}
	if err := os.WriteFile(log, []byte("something else that is longer than a superblock"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := CutPower(disk, log, 512, rng); err == nil {
		t.Error("something else is taken for a log")
	}
}
