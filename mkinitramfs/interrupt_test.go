package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"swarmboot/internal/cli"
)

// stopAt puts a program of this name first in PATH that, when its first argument is arg, never ends by itself and is
// otherwise the real one, and returns a context that is cancelled once it has come so far.
func stopAt(t *testing.T, name, arg string) context.Context {
	t.Helper()
	real, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	fifo := filepath.Join(bin, "begun")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = %s ] || exec %s \"$@\"\nmktemp -d ${GOTMPDIR:-$TMPDIR}/go-buildXXXXXX\necho >%s\nexec sleep 10000\n", arg, real, fifo)
	if name != "go" { // which leaves that when it is interrupted
		script = strings.Replace(script, "mktemp", ": mktemp", 1)
	}
	if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		os.ReadFile(fifo) //nolint:errcheck // it ends when the script has written
		cancel()
	}()
	return ctx
}

// An interrupt says so and leaves nothing, wherever it comes: while the programs are compiled, a module or the archive is compressed.
func TestInterrupted(t *testing.T) {
	vmlinuz, modules := kernel(t, "generic")
	for _, tt := range []struct {
		name, program, arg string
		run                func(ctx context.Context, out string) error
	}{
		{"compile", "go", "build", func(ctx context.Context, out string) error {
			return run(ctx, []string{"--kernel", vmlinuz, "--modules", modules, "-o", out}, io.Discard, io.Discard)
		}},
		{"module", "zstd", zstdArgs[0], func(ctx context.Context, _ string) error {
			_, err := packModules(ctx, []picked{{image: make([]byte, 4<<20)}})
			return err
		}},
		{"archive", "zstd", zstdArgs[0], func(ctx context.Context, out string) error {
			im := newImage()
			im.file("large", make([]byte, 4<<20), 0o644) // more than a pipe holds
			_, err := im.write(ctx, out, "zstd")
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			temp, dir := t.TempDir(), t.TempDir()
			t.Setenv("TMPDIR", temp)
			ctx := stopAt(t, tt.program, tt.arg)
			err := tt.run(ctx, filepath.Join(dir, "archive"))
			if err == nil || ctx.Err() == nil || tt.name == "compile" && cli.Code(err) != cli.CodeInterrupted {
				t.Errorf("code %d: %v", cli.Code(err), err)
			}
			for _, d := range []string{temp, dir} {
				if left, err := os.ReadDir(d); err != nil || len(left) > 0 {
					t.Errorf("left: %v, %v", left, err)
				}
			}
		})
	}
}
