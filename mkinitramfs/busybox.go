package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/u-root/gobusybox/src/pkg/bb"
	"github.com/u-root/gobusybox/src/pkg/golang"
	"github.com/u-root/uio/llog"
)

const modulePath = "swarmboot"

// buildTag makes u-root's shell a plain one: its line editor writes escape codes, which garble serial consoles, and is 2 MB large.
const buildTag = "goshsmall"

// ownCommands are our programs on the node, the first is PID 1.
var ownCommands = []string{"swarmboot/uinit", "swarmboot/cmds/deploy"}

// rescueCommands are the tools of the rescue shell. They are tool directives in go.mod, so that go.sum has what they need.
var rescueCommands = []string{
	"blkid", "cat", "chmod", "cp", "date", "dd", "df", "dmesg", "du", "echo", "find", "free", "gosh", "grep", "head",
	"hexdump", "hostname", "insmod", "ip", "kexec", "kill", "ln", "losetup", "ls", "lsmod", "md5sum", "mkdir", "mount",
	"mv", "ping", "poweroff", "ps", "rm", "rmmod", "shasum", "shutdown", "sleep", "sync", "tail", "timeout", "umount",
	"uname", "wc", "wget",
}

func commandPaths() []string {
	paths := append([]string{}, ownCommands...)
	for _, c := range rescueCommands {
		paths = append(paths, "github.com/u-root/u-root/cmds/core/"+c)
	}
	return paths
}

// buildBusybox compiles every command into one program with u-root's gobusybox and returns it. source
// is the root of this module. Neither paths of this machine nor times get into the program.
func buildBusybox(ctx context.Context, source string, commands []string, verbose io.Writer) ([]byte, error) {
	temp, err := os.MkdirTemp("", "swarmboot-bb-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	goroot, err := goRoot(ctx)
	if err != nil {
		return nil, err
	}
	env := golang.Default(golang.DisableCGO(), golang.WithGOROOT(goroot), golang.WithGOOS("linux"), golang.WithBuildTag(buildTag), golang.WithWorkingDir(source))
	binary := filepath.Join(temp, "bb")
	gopath := filepath.Join(temp, "go")
	opts := &bb.Opts{Env: env, GenSrcDir: gopath, CommandPaths: commands, BinaryPath: binary, GenerateOnly: true}
	if err := bb.BuildBusybox(llog.New(slog.LevelInfo, llog.WritePrintf(verbose)).AtLevel(slog.LevelInfo), opts); err != nil {
		return nil, fmt.Errorf("generate the busybox program: %w", err)
	}
	if err := copyOwn(ctx, source, gopath, commands); err != nil {
		return nil, err
	}
	if err := compile(ctx, gopath, binary); err != nil {
		return nil, err
	}
	return os.ReadFile(binary)
}

// goRoot is where the toolchain is. A program built with -trimpath, as ours are, does not know it by itself.
func goRoot(ctx context.Context) (string, error) {
	out, err := command(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT (building an initramfs takes a Go toolchain): %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// goPackage is the part of `go list -json` that is used.
type goPackage struct {
	Dir, ImportPath, Name       string
	GoFiles, SFiles, EmbedFiles []string
	Module                      *struct{ Path string }
}

// copyOwn copies this module's packages into the generated GOPATH. gobusybox copies only packages whose path starts with a
// host name (it takes everything else for the standard library), and ours does not.
func copyOwn(ctx context.Context, source, gopath string, commands []string) error {
	cmd := command(ctx, "go", append([]string{"list", "-deps", "-json=Dir,ImportPath,Name,GoFiles,SFiles,EmbedFiles,Module"}, commands...)...)
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	err = copyListed(json.NewDecoder(out), gopath)
	_, _ = io.Copy(io.Discard, out)
	if werr := cmd.Wait(); werr != nil {
		return fmt.Errorf("go list: %w", werr)
	}
	return err
}

func copyListed(d *json.Decoder, gopath string) error {
	for {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("go list: %w", err)
		}
		if p.Module == nil || p.Module.Path != modulePath || p.Name == "main" {
			continue
		}
		if err := copyPackage(p, filepath.Join(gopath, "src", p.ImportPath)); err != nil {
			return fmt.Errorf("copy package %s: %w", p.ImportPath, err)
		}
	}
}

func copyPackage(p goPackage, dst string) error {
	for _, files := range [][]string{p.GoFiles, p.SFiles, p.EmbedFiles} {
		for _, name := range files {
			data, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				return err
			}
			to := filepath.Join(dst, name)
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(to, data, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// compile builds the generated program. A GOPATH has no go.mod, so the toolchain would choose the run-time behaviour of Go 1.20
// (channels of timers above all): -ldflags cannot change that, a //go:debug line in main can.
func compile(ctx context.Context, gopath, binary string) error {
	dir := filepath.Join(gopath, "src/bb.u-root.com/bb")
	main, err := os.ReadFile(filepath.Join(dir, "main.go"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), append([]byte("//go:debug default=go1.26\n"), main...), 0o644); err != nil {
		return err
	}
	cmd := command(ctx, "go", "build", "-tags="+buildTag, "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", binary, ".")
	cmd.Dir = dir
	// An interrupted go leaves its temporary files: here they go with the rest.
	cmd.Env = append(os.Environ(), "GO111MODULE=off", "GOFLAGS=", "GOPATH="+gopath, "GOTMPDIR="+filepath.Dir(binary), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile the busybox program: %w\n%s", err, out)
	}
	return nil
}

// findSource returns the root of this module at or above dir.
func findSource(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("no go.mod at or above %s: run from this module's source, or name it with --source", dir)
		}
	}
}

// addCommands puts the program in, and a link to it for each command.
func addCommands(im *image, program []byte, commands []string) {
	im.file("bbin/bb", program, 0o755)
	for _, c := range commands {
		im.link("bbin/"+path.Base(c), "bb")
	}
}
