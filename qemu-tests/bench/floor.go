package main

import (
	"cmp"
	"context"
	"crypto/sha1" //nolint:gosec // BEP 3
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
)

// plainPiece is what is hashed and written at once: a piece as images have it by default.
const plainPiece = 256 << 10

// plainCopy is one way of the payload without a swarm.
type plainCopy struct {
	bytes        int64
	seconds, cpu float64 // CPU of both ends
}

// floor adds what this machine does with a payload when nothing is done but what no swarm can leave out: it goes from a file over
// one TCP connection to another file, and everything gets its SHA-1 and its SHA-256 on the way. The copies and the deployments took
// turns; the median of each counts. all is sorted.
func (b *bench) floor(name string, plain []plainCopy, all []deployment) {
	slices.SortFunc(plain, func(x, y plainCopy) int { return cmp.Compare(x.seconds, y.seconds) })
	p, d := plain[len(plain)/2], all[len(all)/2]
	b.add(name+"plain TCP with SHA-1, SHA-256 and write", float64(p.bytes)/1e6/p.seconds, "MB/s")
	b.add(name+"its CPU", p.cpu, "s")
	b.add(name+"fetch / plain TCP", 100*float64(d.bytes)/d.fetch/(float64(p.bytes)/p.seconds), "%")
}

func (b *bench) plainCopy(ctx context.Context, payload string) (plainCopy, error) {
	before := ownCPU()
	n, took, err := copyOverTCP(ctx, payload, filepath.Join(b.dir, "plain.raw"))
	if err != nil {
		return plainCopy{}, fmt.Errorf("plain TCP: %w", err)
	}
	return plainCopy{n, took.Seconds(), ownCPU() - before}, nil
}

func copyOverTCP(ctx context.Context, from, to string) (n int64, took time.Duration, err error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, 0, err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return 0, 0, err
	}
	out, err := os.Create(to)
	if err != nil {
		return 0, 0, err
	}
	defer os.Remove(to)
	defer out.Close()
	if err := out.Truncate(st.Size()); err != nil {
		return 0, 0, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, err
	}
	defer l.Close()
	start := time.Now()
	sent := make(chan error, 1)
	go func() { sent <- sendFile(l, in) }()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	err = receive(c, out, st.Size())
	took = time.Since(start)
	c.Close()
	return st.Size(), took, errors.Join(err, <-sent)
}

// sendFile sends a file to the first who connects, by sendfile(2).
func sendFile(l net.Listener, in *os.File) error {
	c, err := l.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.Copy(c, in)
	return err
}

// receive takes pieces from one connection; as many goroutines as there are processors hash and write them.
func receive(c io.Reader, out *os.File, size int64) error {
	type piece struct {
		off int64
		b   []byte
	}
	workers := runtime.NumCPU()
	work, free := make(chan piece), make(chan []byte, workers+2)
	for range cap(free) {
		free <- make([]byte, plainPiece)
	}
	var wg sync.WaitGroup
	errs := make([]error, workers)
	sums := make([][2]byte, workers) // keeps the hashes from being left out
	for i := range workers {
		wg.Go(func() {
			for p := range work {
				a, b := sha1.Sum(p.b), sha256.Sum256(p.b)
				sums[i][0] ^= a[0]
				sums[i][1] ^= b[0]
				if _, err := out.WriteAt(p.b, p.off); err != nil {
					errs[i] = err
				}
				free <- p.b[:plainPiece]
			}
		})
	}
	var err error
	for off := int64(0); off < size && err == nil; {
		b := (<-free)[:min(plainPiece, size-off)]
		if _, err = io.ReadFull(c, b); err == nil {
			work <- piece{off, b}
			off += int64(len(b))
		}
	}
	close(work)
	wg.Wait()
	return errors.Join(append(errs, err)...)
}

// ownCPU is what this process has used, seconds.
func ownCPU() float64 {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return float64(ru.Utime.Nano()+ru.Stime.Nano()) / 1e9
}
