package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"sync"

	"swarmboot/internal/cli"
)

// The archive is compressed by the zstd program (Debian package zstd), whose level 19 makes it a tenth smaller
// than the best level of the Go library: 2.2 MB of the 20 that the archive may have. One thread, so that the same input
// gives the same bytes; the kernel unpacks a window of up to 128 MiB (lib/decompress_unzstd.c), level 19 has 8.
var zstdArgs = []string{"-19", "-T1", "-q", "-c"}

var errNoZstd = errors.New("the program zstd is missing (Debian package zstd)")

func zstdCommand(ctx context.Context, in io.Reader, out io.Writer) (*exec.Cmd, *bytes.Buffer, error) {
	path, err := exec.LookPath("zstd")
	if err != nil {
		return nil, nil, cli.WithCode(cli.CodeOther, errNoZstd)
	}
	var stderr bytes.Buffer
	cmd := command(ctx, path, zstdArgs...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, &stderr
	return cmd, &stderr, nil
}

// zstdWriter feeds a running zstd.
type zstdWriter struct {
	io.WriteCloser
	cmd    *exec.Cmd
	stderr *bytes.Buffer
}

func startZstd(ctx context.Context, w io.Writer) (io.WriteCloser, error) {
	cmd, stderr, err := zstdCommand(ctx, nil, w)
	if err != nil {
		return nil, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start zstd: %w", err)
	}
	return &zstdWriter{in, cmd, stderr}, nil
}

// Close waits until zstd has written everything.
func (z *zstdWriter) Close() error {
	err := z.WriteCloser.Close()
	if werr := z.cmd.Wait(); werr != nil {
		return fmt.Errorf("zstd: %w: %s", werr, strings.TrimSpace(z.stderr.String()))
	}
	return err
}

// packModule compresses one module as it lies in the archive.
func packModule(ctx context.Context, image []byte) ([]byte, error) {
	var out bytes.Buffer
	cmd, stderr, err := zstdCommand(ctx, bytes.NewReader(image), &out)
	if err != nil {
		return nil, err
	}
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("zstd: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return out.Bytes(), nil
}

// packModules compresses every module, as many at a time as there are processors, in the order of mods.
func packModules(ctx context.Context, mods []picked) ([][]byte, error) {
	packed := make([][]byte, len(mods))
	errs := make([]error, len(mods))
	slots := make(chan struct{}, runtime.NumCPU())
	var wg sync.WaitGroup
	for i, m := range mods {
		slots <- struct{}{}
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer func() { <-slots }()
			if packed[i], errs[i] = packModule(ctx, m.image); errs[i] != nil {
				errs[i] = fmt.Errorf("compress %s: %w", m.Path, errs[i])
			}
		}()
	}
	wg.Wait()
	return packed, errors.Join(errs...)
}
