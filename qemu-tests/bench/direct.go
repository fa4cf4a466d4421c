package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"swarmboot/qemu-tests/lab"
)

// writers is how many goroutines write at once, as many as deploy has for what it receives.
const writers = 2

// direct measures whether a disk is written faster past the page cache (O_DIRECT): size bytes in runs of a piece, then fsync, to a
// file in dir and to a loop device over it, which goes past the cache of the file in any case. Its blocks have been
// written before, as a disk's are there before. The ways take turns; the median of each counts.
func (b *bench) direct(ctx context.Context, dir string, size int64, runs int) (err error) {
	own, err := lab.TempDir(dir, "swarmboot-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(own)
	path := filepath.Join(own, "disk")
	if _, err := writeOnce(path, os.O_CREATE, size); err != nil {
		return err
	}
	loop, err := lab.AttachLoop(ctx, path, "--direct-io=on")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.DetachLoop(loop)) }()
	ways := []struct {
		name, path string
		flags      int
	}{
		{"file, page cache", path, 0},
		{"file, O_DIRECT", path, syscall.O_DIRECT},
		{"loop device, page cache", loop, 0},
		{"loop device, O_DIRECT", loop, syscall.O_DIRECT},
	}
	took := make([][]written, len(ways))
	for range runs {
		for i, w := range ways {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			r, err := writeOnce(w.path, w.flags, size)
			if err != nil {
				return err
			}
			took[i] = append(took[i], r)
		}
	}
	for i, w := range ways {
		slices.SortFunc(took[i], func(x, y written) int { return int((x.seconds - y.seconds) * 1e6) })
		name := "write and fsync, " + w.name + ": "
		b.add(name+"slowest", float64(size)/1e6/took[i][runs-1].seconds, "MB/s")
		b.add(name+"median", float64(size)/1e6/took[i][runs/2].seconds, "MB/s")
		b.add(name+"fastest", float64(size)/1e6/took[i][0].seconds, "MB/s")
		b.add(name+"CPU of the machine", took[i][runs/2].cpu, "s")
	}
	return nil
}

type written struct{ seconds, cpu float64 }

func writeOnce(path string, flags int, size int64) (written, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|flags, 0o600)
	if err != nil {
		return written{}, err
	}
	defer f.Close()
	cpu, start := lab.ReadCPU().Used, time.Now()
	var next atomic.Int64
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			buf := aligned(plainPiece)
			rng := rand.NewChaCha8([32]byte{byte(i)})
			_, _ = rng.Read(buf) // never fails
			for errs[i] == nil {
				off := next.Add(int64(len(buf))) - int64(len(buf))
				if off+int64(len(buf)) > size {
					return
				}
				_, errs[i] = f.WriteAt(buf, off)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(append(errs, f.Sync())...); err != nil {
		return written{}, err
	}
	return written{time.Since(start).Seconds(), lab.ReadCPU().Used - cpu}, nil
}

// aligned returns n bytes that begin where O_DIRECT lets them begin (open(2)): at a page.
func aligned(n int) []byte {
	page := os.Getpagesize()
	b := make([]byte, n+page)
	skip := (page - int(uintptr(unsafe.Pointer(&b[0]))%uintptr(page))) % page
	return b[skip:][:n]
}
