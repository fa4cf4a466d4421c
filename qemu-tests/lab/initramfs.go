package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/u-root/mkuimage/cpio"
)

// ExtendInitramfs writes to path the initramfs base and, behind it, an archive of the Go program that lies in the folder ./NAME, as bbin/NAME,
// and of files of this host, at the same places: the kernel unpacks one archive after the other.
func ExtendInitramfs(ctx context.Context, path, base, name string, files ...string) error {
	program := path + "." + name
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./"+name)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	archive, err := os.ReadFile(base)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(append(archive, make([]byte, (4-len(archive)%4)%4)...)); err != nil {
		return err
	}
	a := appended{w: cpio.Newc.Writer(f), made: []string{"bbin"}} // which base has
	a.add(program, "bbin/"+name)
	for _, file := range files {
		a.add(file, strings.TrimPrefix(file, "/"))
	}
	if a.err == nil {
		a.err = cpio.WriteTrailer(a.w)
	}
	return a.err
}

// appended is an archive behind another one. After the first error it does nothing more.
type appended struct {
	w    cpio.RecordWriter
	made []string // folders
	err  error
}

func (a *appended) add(from, to string) {
	a.folder(filepath.Dir(to))
	if a.err != nil {
		return
	}
	b, err := os.ReadFile(from)
	if err == nil {
		err = a.w.WriteRecord(cpio.StaticFile(to, string(b), 0o755))
	}
	a.err = err
}

// folder makes a folder and those above it.
func (a *appended) folder(dir string) {
	if dir == "." || slices.Contains(a.made, dir) {
		return
	}
	a.folder(filepath.Dir(dir))
	a.made = append(a.made, dir)
	if a.err == nil {
		a.err = a.w.WriteRecord(cpio.Directory(dir, 0o755))
	}
}
