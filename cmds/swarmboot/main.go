// Swarmboot is the admin's tool: it makes and checks images, serves them to
// nodes, and shows how the nodes fare.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"swarmboot/internal/cli"
)

// verb is one subcommand. Its run gets the arguments after its name, writes
// results to stdout and everything else to stderr, and returns an error that
// may carry an exit code (package cli).
type verb struct {
	name     string
	synopsis string
	run      func(ctx context.Context, args []string, stdout, stderr io.Writer) error
}

// verbs is the list of subcommands, in the order in which help shows them.
func verbs() []verb {
	return []verb{
		{"image", "make, inspect, verify, write and export images", runImage},
		{"serve", "boot and feed nodes", runServe},
		{"profile", "check the profiles of nodes", runProfile},
		{"layout", "check and draw layouts of disks", runLayout},
		{"deploy", "plan: what a deployment would do to a machine's disks", runDeploy},
		{"inventory", "print the disks of this machine and what is on them", runInventory},
		{"status", "show a server's images and nodes; ask for a redeployment", runStatus},
		{"version", "print the version", runVersion},
		{"help", "print this help", runHelp},
	}
}

func main() {
	ctx, stop := cli.Context()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "swarmboot:", err)
	}
	os.Exit(cli.Code(err))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return cli.Usagef("no command given; \"swarmboot help\" lists them")
	}
	name := args[0]
	if cli.IsHelp(name) {
		name = "help"
	}
	for _, v := range verbs() {
		if v.name != name {
			continue
		}
		out := &remembering{Writer: stdout}
		err := v.run(ctx, args[1:], out, stderr)
		if errors.Is(err, flag.ErrHelp) {
			return out.err
		}
		return err
	}
	return cli.Usagef("unknown command %q; \"swarmboot help\" lists them", name)
}

// remembering keeps the first error of a Writer: package flag prints options without telling of any.
type remembering struct {
	io.Writer
	err error
}

func (r *remembering) Write(p []byte) (int, error) {
	n, err := r.Writer.Write(p)
	if r.err == nil {
		r.err = err
	}
	return n, err
}

func runVersion(_ context.Context, args []string, stdout, _ io.Writer) error {
	switch {
	case len(args) == 1 && cli.IsHelp(args[0]):
		_, err := fmt.Fprint(stdout, "Usage: swarmboot version\n\nPrints the version.\n\n", cli.ExitCodes)
		return err
	case len(args) > 0:
		return cli.Usagef("version takes no arguments")
	}
	_, err := fmt.Fprintln(stdout, "swarmboot", cli.Version())
	return err
}

func runHelp(_ context.Context, _ []string, stdout, _ io.Writer) error {
	var b strings.Builder
	b.WriteString("Usage: swarmboot COMMAND [ARGUMENTS]\n\nCommands:\n")
	for _, v := range verbs() {
		fmt.Fprintf(&b, "  %-9s %s\n", v.name, v.synopsis)
	}
	b.WriteString("\n\"swarmboot COMMAND --help\" describes one of them.\n\n")
	b.WriteString(cli.ExitCodes)
	_, err := io.WriteString(stdout, b.String())
	return err
}
