// Demo does the main job on real input and shows how it goes: it images a Debian disk,
// serves it in a network namespace of its own, and deploys it onto the blank disks of two
// virtual machines that boot from the network. Nothing leaves the machine. It needs root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"swarmboot/internal/cli"
	"swarmboot/qemu-tests/scenario"
)

// limit is the longest time that the machines may take; in emulation they need about one minute.
const limit = 6 * time.Minute

func main() {
	ctx, stop := cli.Context()
	// A terminal that goes away must not leave machines and a namespace behind.
	ctx, hup := signal.NotifyContext(ctx, syscall.SIGHUP)
	defer hup()
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(cli.Code(err))
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	fs := flag.NewFlagSet("demo", flag.ContinueOnError)
	memory := fs.Int("memory", 512, "`MiB` of memory of each machine")
	nodes := fs.Int("nodes", 2, "`NUMBER` of machines, 1 or 2")
	layout := fs.String("layout", "packed", "payload `LAYOUT`: packed or verbatim")
	verify := fs.String("verify", "write", "how nodes check their disk: none, write or readback")
	if err := fs.Parse(args); err != nil {
		return cli.WithCode(cli.CodeUsage, err)
	}
	specs := scenario.TwoNodes()
	if *nodes < 1 || *nodes > len(specs) {
		return cli.Usagef("--nodes must be 1 to %d", len(specs))
	}
	specs = specs[:*nodes]
	if os.Geteuid() != 0 {
		return errors.New("needs root, for network namespaces and taps; \"make demo\" uses sudo")
	}
	files, err := scenario.Find()
	if err != nil {
		return err
	}
	dir := filepath.Join(files.Build, "demo")
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("old demo: %w", err)
	}
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the demo took longer than %v", limit))
	defer cancel()

	images := filepath.Join(dir, "images")
	step(out, 1, "Image the Debian disk %s: swarmboot image create", relative(files.Disk))
	if err := files.CreateImage(ctx, images, out, "--layout", *layout); err != nil {
		return err
	}
	step(out, 2, "Serve it in a network namespace: swarmboot serve (DHCP, TFTP, HTTP, tracker, seeder, status API)")
	c, err := files.Start(ctx, dir, images, "--verify", *verify)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(), removeDisks(dir)) }()

	for i := range specs {
		specs[i].Memory = *memory
	}
	step(out, 3, "Power on machines with blank disks; they boot from the network")
	for _, s := range specs {
		fmt.Fprintf(out, "   %s: %d MiB memory, one %s disk of %d GiB, network card %s, board %s\n", s.Name, s.Memory, s.Bus, s.Size>>30, s.NIC, s.Chipset)
	}
	v := newView(out)
	outcomes, err := c.DeployAll(ctx, specs, v.update)
	v.end()
	if err != nil {
		return fmt.Errorf("%w (logs: %s)", err, relative(dir))
	}
	image, err := c.Image(ctx)
	if err != nil {
		return err
	}
	step(out, 4, "What happened")
	if err := summary(out, files, image, outcomes); err != nil {
		return err
	}
	fmt.Fprintf(out, "   consoles: %s; server: %s\n", relative(filepath.Join(dir, "node*.log")), relative(c.ServerLog()))
	fmt.Fprintf(out, "   the demo took %.0f s\n", time.Since(start).Seconds())
	return nil
}

func step(w io.Writer, n int, format string, args ...any) {
	fmt.Fprintf(w, "%d. %s\n", n, fmt.Sprintf(format, args...))
}

// removeDisks deletes the machines' disks: they are large, and the image can be deployed again.
func removeDisks(dir string) error {
	var errs []error
	for _, s := range scenario.TwoNodes() {
		if err := os.Remove(filepath.Join(dir, s.Name+"."+s.Format)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// relative is path as seen from the working directory, if that is shorter.
func relative(path string) string {
	if wd, err := os.Getwd(); err == nil {
		if r, err := filepath.Rel(wd, path); err == nil && len(r) < len(path) {
			return r
		}
	}
	return path
}
