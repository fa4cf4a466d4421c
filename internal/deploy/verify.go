package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/pause"
)

// zeroChunk is how much of a zero extent is read at once.
const zeroChunk = 256 << 10

// every calls f once in an interval until the returned function is called.
func every(d time.Duration, f func()) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for pause.For(ctx, d) == nil {
			f()
		}
	})
	return func() { cancel(); wg.Wait() }
}

// verifyCode tells a disk that cannot be read from one that returns something else.
func verifyCode(err error) int {
	if c := code(err); c != cli.CodeOther {
		return c
	}
	return cli.CodeVerify
}

// eachPiece calls f for every data piece, on all cores, until one fails.
func eachPiece(ctx context.Context, ix *imagefmt.Index, f func(piece int) error) error {
	var next atomic.Int64
	next.Store(int64(ix.IndexPieces()))
	g, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			for {
				piece := int(next.Add(1)) - 1
				if piece >= ix.Pieces() {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := f(piece); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

func verifyZero(ctx context.Context, dev io.ReaderAt, extents []imagefmt.Extent, done *atomic.Int64) error {
	buf, zeros := make([]byte, zeroChunk), make([]byte, zeroChunk)
	for _, e := range extents {
		for off := e.Off; off < e.End(); {
			if err := ctx.Err(); err != nil {
				return err
			}
			b := buf[:min(zeroChunk, e.End()-off)]
			if n, err := dev.ReadAt(b, off); n < len(b) && err != nil && !errors.Is(err, io.EOF) {
				return err
			} else if n < len(b) {
				return io.ErrUnexpectedEOF
			}
			if !bytes.Equal(b, zeros[:len(b)]) {
				return cli.WithCode(cli.CodeVerify, fmt.Errorf("read back: bytes %d+%d must be zero and are not", off, len(b)))
			}
			off += int64(len(b))
			done.Add(int64(len(b)))
		}
	}
	return nil
}
