// Bench measures what a user of swarmboot waits for and pays: the size of the node's
// initramfs and how soon it fetches, the speed and cost of a deployment on loopback from
// tmpfs to tmpfs, and of making an image. It prints a table and writes build/bench.json.
// It needs root for the part with a virtual machine.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"swarmboot/internal/cli"
	"swarmboot/qemu-tests/lab"
	"swarmboot/qemu-tests/scenario"
)

// Result is one measured number.
type Result struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// Report is what build/bench.json holds.
type Report struct {
	Time       time.Time `json:"time"`
	CPUs       int       `json:"cpus"`
	LoadBefore string    `json:"loadBefore"` // /proc/loadavg
	LoadAfter  string    `json:"loadAfter"`
	Results    []Result  `json:"results"`
}

func main() {
	ctx, stop := cli.Context()
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(cli.Code(err))
	}
}

// bench is one run: where it works and what it has found.
type bench struct {
	*scenario.Files
	dir     string // in tmpfs
	results []Result
}

func (b *bench) add(name string, value float64, unit string) {
	b.results = append(b.results, Result{name, value, unit})
}

func run(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	size := fs.Int64("size", 2<<10, "`MiB` of data for the deployments on loopback; they need three times that in /dev/shm")
	noVM := fs.Bool("no-vm", false, "leave out the virtual machine")
	noLoopback := fs.Bool("no-loopback", false, "leave out images and deployments on loopback")
	diskDir := fs.String("disk-dir", "", "a `folder` on a real disk: 2 GiB are written there twelve times, through the page cache and past it")
	runs := fs.Int("runs", 3, "deployments of each layout; the median counts")
	if err := fs.Parse(args); err != nil {
		return cli.WithCode(cli.CodeUsage, err)
	}
	files, err := scenario.Find()
	if err != nil {
		return err
	}
	dir, err := lab.TempDir("/dev/shm", "swarmboot-bench-")
	if err != nil {
		return fmt.Errorf("working directory in tmpfs: %w", err)
	}
	defer os.RemoveAll(dir)
	b := &bench{Files: files, dir: dir}
	r := Report{Time: time.Now().UTC(), CPUs: runtime.NumCPU(), LoadBefore: load()}

	if err := b.initramfs(); err != nil {
		return err
	}
	if !*noVM {
		if err := b.boot(ctx); err != nil {
			return err
		}
	}
	if !*noLoopback {
		if err := b.imagesAndLoopback(ctx, *size<<20, *runs); err != nil {
			return err
		}
	}
	if *diskDir != "" {
		if err := b.direct(ctx, *diskDir, *size<<20, *runs); err != nil {
			return fmt.Errorf("write in %s: %w", *diskDir, err)
		}
	}
	r.LoadAfter, r.Results = load(), b.results
	return r.write(out, filepath.Join(files.Build, "bench.json"))
}

func (b *bench) imagesAndLoopback(ctx context.Context, size int64, runs int) error {
	for _, layout := range []string{"packed", "verbatim"} {
		if err := b.create(ctx, layout); err != nil {
			return err
		}
	}
	return b.loopback(ctx, size, runs)
}

func (b *bench) initramfs() error {
	for _, f := range []struct{ name, path string }{{"kernel", b.Kernel}, {"initramfs, compressed", b.Initramfs}} {
		st, err := os.Stat(f.path)
		if err != nil {
			return err
		}
		b.add(f.name, float64(st.Size())/1e6, "MB")
	}
	return nil
}

// load is the system's load averages: a measurement on a busy machine is none.
func load() string {
	s, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(s))
}

func (r *Report) write(out io.Writer, path string) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, m := range r.Results {
		fmt.Fprintf(t, "%.2f\t%s\t  %s\t\n", m.Value, m.Unit, m.Name)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d CPUs; load average before %s, after %s\n", r.CPUs, r.LoadBefore, r.LoadAfter)
	js, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(js, '\n'), 0o644)
}
