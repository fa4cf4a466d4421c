// Deploy puts an image on a disk of this machine through the swarm: the engine
// of a swarmboot node as a plain program. It runs in the node's initramfs, from
// its rescue shell, and on any Linux host with a file or loop device as the disk.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"

	"swarmboot/internal/cli"
	"swarmboot/internal/deploy"
	"swarmboot/internal/event"
	"swarmboot/internal/machine"
	"swarmboot/internal/params"
	"swarmboot/internal/target"
)

// memoryLimit is where the garbage collector starts to work hard; the process stays below 128 MiB resident.
const memoryLimit = 72 << 20

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	ctx, stop := cli.Context()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "deploy:", err)
	}
	os.Exit(cli.Code(err))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, err := parse(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	c.o.Logger = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: c.level}))
	c.o.Machine = machine.Read(machine.Sys)
	created, err := c.createFile()
	if err == nil {
		err = deployTo(ctx, c, stdout, stderr)
	}
	if err != nil && created {
		os.Remove(c.o.Disk) //nolint:errcheck // the run's error is the one to tell
	}
	return err
}

func deployTo(ctx context.Context, c *config, stdout, stderr io.Writer) error {
	v := deploy.NewView(stderr)
	show := v.Show
	if c.json {
		enc := json.NewEncoder(stdout)
		show = func(p event.Progress) { enc.Encode(p) } //nolint:errcheck // a closed pipe must not end a deployment
	}
	res, err := deploy.Run(ctx, c.o, show)
	v.Close()
	if serr := c.writeSettled(res); err == nil {
		err = serr
	}
	if err != nil {
		return err
	}
	return after(c, res, stderr)
}

// writeSettled tells process 1 what is to follow.
func (c *config) writeSettled(res *deploy.Result) error {
	if c.settled == "" || res == nil {
		return nil
	}
	s := event.Settled{Then: res.Then, OnError: res.OnError}
	if !res.Told {
		s.Unsent = &res.Last
	}
	if res.Planned {
		s.Action = string(params.ActionPlan)
	}
	b, err := json.Marshal(s)
	if err == nil {
		err = os.WriteFile(c.settled, b, 0o600)
	}
	return err
}

// after does what --then asks for. A child of PID 1 leaves it to PID 1, which can tell by
// /sys/kernel/kexec_loaded whether a kernel was loaded: where kexec is forbidden, a reboot does the same.
func after(c *config, res *deploy.Result, stderr io.Writer) error {
	if c.cmdline || os.Getppid() == 1 || res.Planned {
		return nil
	}
	switch {
	case res.Then == "kexec" && res.KexecLoaded:
		return fmt.Errorf("kexec: %w", target.Exec())
	case res.Then == "kexec":
		fmt.Fprintln(stderr, "deploy: kexec is forbidden here: rebooting")
		return fmt.Errorf("reboot: %w", target.Reboot())
	case res.Then == "reboot":
		return fmt.Errorf("reboot: %w", target.Reboot())
	case res.Then == "poweroff":
		return fmt.Errorf("power off: %w", target.PowerOff())
	}
	return nil
}
