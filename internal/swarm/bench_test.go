package swarm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"swarmboot/imagefmt"
)

// fileTarget is a sparse file on tmpfs.
type fileTarget struct{ *os.File }

func (f fileTarget) Zero(_ context.Context, off, n int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// BenchmarkFetchLoopback fetches an image of 256 MiB from a seeder in the same process, tmpfs to
// tmpfs, raw SHA-256 checked. MB/s are of raw bytes.
func BenchmarkFetchLoopback(b *testing.B) {
	for _, layout := range layouts {
		for _, kib := range []int64{256, 512, 1024, 2048, 4096} {
			b.Run(fmt.Sprintf("%s/%dKiB", layout, kib), func(b *testing.B) { benchFetch(b, layout, kib<<10) })
		}
	}
}

func benchFetch(b *testing.B, layout imagefmt.Layout, pieceLength int64) {
	im := makeImage(b, 256<<20, pieceLength, layout)
	dir, err := os.MkdirTemp("/dev/shm", "swarm-bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	payload := filepath.Join(dir, "payload")
	if err := os.WriteFile(payload, im.payload.b, 0o600); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(payload)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	r := newRig(b, im, SeederOptions{})
	r.seeder.Remove(im.meta.InfoHash)
	if err := r.seeder.Add(im.meta.Marshal(""), f); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(im.manifest.UsedBytes)
	before := cpuSeconds()
	for n := 0; b.Loop(); n++ {
		t, err := os.Create(filepath.Join(dir, "target"))
		if err != nil {
			b.Fatal(err)
		}
		if err := t.Truncate(im.manifest.DiskSize); err != nil {
			b.Fatal(err)
		}
		s := r.join(1, fileTarget{t}, nil)
		mustWait(b, s)
		s.Close()
		t.Close()
	}
	used := float64(im.manifest.UsedBytes) * float64(b.N)
	b.ReportMetric(used/1e6/(cpuSeconds()-before), "MB/cpu-s")
}

// cpuSeconds is what this process, seeder and node, has used.
func cpuSeconds() float64 {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		panic(err)
	}
	return float64(ru.Utime.Nano()+ru.Stime.Nano()) / 1e9
}
