// Command mkinitramfs makes the archive that a node boots: PID 1, the node engine, a rescue shell
// and the drivers of one kernel. The same input gives the same bytes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/u-root/mkuimage/cpio"

	"swarmboot/internal/cli"
	"swarmboot/internal/drivers"
)

const usage = `Usage: mkinitramfs --kernel VMLINUZ --modules DIR -o OUT [flags]

Makes the initramfs of a node for one kernel. DIR is lib/modules/VERSION of an
unpacked kernel package; depmod need not have run there.

`

func main() {
	ctx, cancel := cli.Context()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mkinitramfs:", err)
	}
	os.Exit(cli.Code(err))
}

type options struct {
	kernel, modules, out, compress, firmware, source string
	extra, files                                     list
	verbose                                          bool
	commands                                         []string
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func parse(args []string, stdout io.Writer) (*options, error) {
	o := &options{commands: commandPaths()}
	fs := flag.NewFlagSet("mkinitramfs", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.kernel, "kernel", "", "the kernel `VMLINUZ`: its version must be that of the modules")
	fs.StringVar(&o.modules, "modules", "", "the kernel's modules, `DIR`: .../lib/modules/VERSION")
	fs.StringVar(&o.out, "o", "", "write the archive to `FILE`")
	fs.StringVar(&o.compress, "compress", "zstd", "compress with `KIND`: "+strings.Join(compressions, ", "))
	fs.StringVar(&o.firmware, "firmware", "", "take the drivers' firmware from `DIR`, as /lib/firmware")
	fs.StringVar(&o.source, "source", ".", "this module's source `DIR`, or one inside it")
	fs.Var(&o.extra, "extra-module", "add a module by `NAME`, with what it depends on; may be repeated")
	fs.Var(&o.files, "files", "add `SRC:DST`, a file or folder of this machine; may be repeated")
	fs.BoolVar(&o.verbose, "v", false, "list the modules and every step")
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		cli.Help(stdout, usage, fs)
		return nil, err
	} else if err != nil {
		return nil, cli.Usagef("%w (--help lists the flags)", err)
	}
	if fs.NArg() > 0 {
		return nil, cli.Usagef("argument %q: want flags only", fs.Arg(0))
	}
	for name, value := range map[string]string{"--kernel": o.kernel, "--modules": o.modules, "-o": o.out} {
		if value == "" {
			return nil, cli.Usagef("%s is missing", name)
		}
	}
	for _, f := range o.files {
		if src, dst, _ := strings.Cut(f, ":"); src == "" || dst == "" {
			return nil, cli.Usagef("--files %q: want SRC:DST", f)
		}
	}
	if !slices.Contains(compressions, o.compress) {
		return nil, cli.Usagef("--compress %s: want one of %s", o.compress, strings.Join(compressions, ", "))
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	err = o.makeArchive(ctx, stdout, stderr)
	if err != nil && ctx.Err() != nil { // a program that was stopped for it says less
		return cli.WithCode(cli.CodeInterrupted, fmt.Errorf("interrupted, nothing was kept: %w", ctx.Err()))
	}
	return err
}

func (o *options) makeArchive(ctx context.Context, stdout, stderr io.Writer) error {
	source, err := findSource(o.source)
	if err != nil {
		return err
	}
	verbose := io.Discard
	if o.verbose {
		verbose = stderr
	}
	mods, t, err := o.pickModules(verbose)
	if err != nil {
		return err
	}
	program, err := buildBusybox(ctx, source, o.commands, verbose)
	if err != nil {
		return err
	}
	return o.assemble(ctx, program, t, mods, stdout)
}

// pickModules chooses the drivers, after a look that kernel and modules belong together.
func (o *options) pickModules(verbose io.Writer) ([]picked, *tree, error) {
	vmlinuz, err := os.ReadFile(o.kernel)
	if err != nil {
		return nil, nil, fmt.Errorf("read kernel: %w", err)
	}
	t, err := openTree(o.modules)
	if err != nil {
		return nil, nil, err
	}
	if v := kernelVersion(vmlinuz); v == "" {
		return nil, nil, fmt.Errorf("read kernel: %s is not a bzImage", o.kernel)
	} else if v != t.version {
		return nil, nil, fmt.Errorf("kernel %s is version %s, the modules are %s", o.kernel, v, t.version)
	}
	want := wanted
	if o.firmware != "" {
		want = func(rel string) bool { return wanted(rel) || needsFirmware[moduleName(rel)] }
	}
	mods, err := t.pick(want, o.extra)
	for _, m := range mods {
		fmt.Fprintf(verbose, "module %-24s %8d  %s\n", m.Name, len(m.image), m.Path)
	}
	return mods, t, err
}

// assemble puts everything together and prints what it came to.
func (o *options) assemble(ctx context.Context, program []byte, t *tree, mods []picked, stdout io.Writer) error {
	im := newImage()
	addBase(im)
	addCommands(im, program, o.commands)
	packed, err := addModules(ctx, im, t, mods)
	if err != nil {
		return err
	}
	firmware, err := firmwareFiles(o.firmware, mods)
	if err != nil {
		return fmt.Errorf("firmware: %w", err)
	}
	for _, f := range firmware {
		im.hostFile(filepath.Join(o.firmware, f), filepath.Join("lib/firmware", f))
	}
	for _, f := range o.files {
		src, dst, _ := strings.Cut(f, ":")
		im.hostFile(src, dst)
	}
	id, err := im.finish()
	if err != nil {
		return err
	}
	unpacked, err := im.write(ctx, o.out, o.compress)
	if err != nil {
		return err
	}
	info, err := os.Stat(o.out)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s: build %s, kernel %s\n", o.out, id, t.version)
	fmt.Fprintf(stdout, "  %.1f MB compressed, %.1f MB unpacked (programs %.1f, modules %.1f)\n", mb(info.Size()), mb(unpacked), mb(int64(len(program))), mb(packed))
	fmt.Fprintf(stdout, "  %d modules, %d firmware files, %d commands\n", len(mods), len(firmware), len(o.commands))
	return nil
}

func mb(n int64) float64 { return float64(n) / 1e6 }

// addBase adds what the kernel needs before PID 1 has mounted anything, and what programs look for.
func addBase(im *image) {
	im.record(cpio.CharDev("dev/console", 0o600, 5, 1))
	im.record(cpio.CharDev("dev/null", 0o666, 1, 3))
	for _, d := range []string{"proc", "sys", "run", "tmp", "root", "mnt", "var"} {
		im.record(cpio.Directory(d, 0o755))
	}
	im.link("init", "bbin/uinit")
	im.link("bin", "bbin")
	im.link("bbin/sh", "gosh")
	im.file("sbin/modprobe", []byte("#!/bbin/uinit modprobe\n"), 0o755) // the kernel starts it: kernel/kmod.c
	im.file("etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\n"), 0o644)
	im.file("etc/group", []byte("root:x:0:\n"), 0o644)
}

// addModules adds the modules, each compressed, and their index; it returns their bytes in the archive.
func addModules(ctx context.Context, im *image, t *tree, mods []picked) (int64, error) {
	dir := filepath.Join("lib/modules", t.version)
	ix := &drivers.Index{Builtin: t.builtinOnly(mods)}
	packed, err := packModules(ctx, mods)
	if err != nil {
		return 0, err
	}
	var total int64
	for i, m := range mods {
		data := packed[i]
		m.Path += ".zst"
		im.file(filepath.Join(dir, m.Path), data, 0o644)
		ix.Modules = append(ix.Modules, m.Module)
		total += int64(len(data))
	}
	if err := ix.Build(); err != nil {
		return 0, err
	}
	im.file(filepath.Join(dir, drivers.IndexName), ix.Marshal(), 0o644)
	return total, nil
}
