// Command benchswarm is the swarm laboratory: it puts a server and N nodes into network namespaces
// behind rate-limited ports of one bridge, deploys an image to files in memory, and prints how close
// to the line rate the last node came. The same bytes go through aria2 + opentracker, udpcast and
// plain HTTP for comparison. It needs root, and removes what it made also when it is interrupted.
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
	"strings"
	"time"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
)

type options struct {
	image     string // DIR/NAME
	bin       string
	dir       string // where disks are made: a tmpfs
	tools     string
	nodes     int
	rate      int // Mbit/s
	stagger   time.Duration
	late      time.Duration
	foreign   int
	inRack    int
	kill      fault
	server    fault // kills the server
	cut       fault
	slow      fault
	slowPorts int
	slowDisk  fault
	restart   fault
	scenarios string
	seed      int64
	repeat    int
	json      bool
	logs      string
}

func main() {
	ctx, stop := cli.Context()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "benchswarm:", err)
		os.Exit(cli.Code(err))
	}
}

func parse(args []string, stderr io.Writer) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("benchswarm", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.image, "image", "build/images/debian", "image to deploy, as DIR/NAME; several separated by commas")
	f.StringVar(&o.bin, "bin", "build/bin", "folder with swarmboot and deploy")
	f.StringVar(&o.dir, "dir", "/dev/shm", "folder for the nodes' disks; a tmpfs, so that no real disk is the limit")
	f.StringVar(&o.tools, "tools", "swarm", "comma-separated: swarm, aria2, udpcast, http")
	f.IntVar(&o.nodes, "nodes", 8, "number of nodes")
	f.IntVar(&o.rate, "rate", 100, "rate of each port, Mbit/s each way")
	f.DurationVar(&o.stagger, "stagger", 0, "nodes start spread over this time")
	f.DurationVar(&o.late, "late", 0, "the last node starts so much later")
	f.IntVar(&o.foreign, "foreign", 0, "so many of the last nodes are aria2c (swarm only, verbatim or packed: they get the payload as a file)")
	f.IntVar(&o.inRack, "in-rack", 0, "nodes of a rack, as they tell the tracker; 0: all (swarm only)")
	f.Var(&o.kill, "kill", "kill nodes: NODE@SECONDS")
	f.Var(&o.server, "kill-server", "restart the server: 0@SECONDS, or 0@SECONDS+DOWN for DOWN seconds without it (swarm only)")
	f.Var(&o.cut, "cut", "pull the cables of the first NODE nodes: NODE@SECONDS+DOWN")
	f.Var(&o.slow, "slow", "give a node a slower port: NODE@MBIT")
	f.IntVar(&o.slowPorts, "slow-ports", 1, "how many nodes one after another have --slow's port")
	f.Var(&o.slowDisk, "slow-disk", "give a node a slower disk: NODE@MBYTES (swarm only)")
	f.Var(&o.restart, "restart", "kill a node and start it again on the same disk: NODE@SECONDS (swarm only)")
	f.StringVar(&o.scenarios, "scenarios", "", "run the named scenarios, or all, and say which aim each reaches; --image is VERBATIM,PACKED")
	f.Int64Var(&o.seed, "seed", 0, "random kills, cuts and starts from this seed; 0 is none")
	f.IntVar(&o.repeat, "repeat", 1, "how often; with --seed each run takes the next seed")
	f.BoolVar(&o.json, "json", false, "print JSON, a line each run, instead of a table")
	f.StringVar(&o.logs, "logs", "build/bench-swarm", "folder for the programs' logs")
	if err := f.Parse(args); err != nil {
		return nil, cli.WithCode(cli.CodeUsage, err)
	}
	if f.NArg() > 0 {
		return nil, cli.Usagef("unexpected argument %q", f.Arg(0))
	}
	if o.nodes < 1 || o.rate < 1 || o.repeat < 1 || o.slowPorts < 1 {
		return nil, cli.Usagef("--nodes, --rate, --repeat and --slow-ports must be at least 1")
	}
	if o.foreign < 0 || o.foreign > o.nodes || o.late < 0 {
		return nil, cli.Usagef("--foreign is at most --nodes, and --late not negative")
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.logs, 0o755); err != nil {
		return err
	}
	if o.scenarios != "" {
		return o.table(ctx, stdout)
	}
	failed := 0
	if !o.json {
		fmt.Fprintln(stdout, header)
	}
	for i := range o.repeat {
		for _, image := range strings.Split(o.image, ",") {
			for _, tool := range strings.Split(o.tools, ",") {
				r, err := o.measure(ctx, tool, image, i)
				if err != nil {
					return fmt.Errorf("%s of %s: %w", tool, image, err)
				}
				failed += r.Failed
				if err := r.print(stdout, o.json); err != nil {
					return err
				}
			}
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d nodes did not finish", failed)
	}
	return nil
}

// measure does one run in a rack of its own.
func (o *options) measure(ctx context.Context, tool, image string, round int) (*result, error) {
	r, err := newRig(ctx, o, image)
	if err != nil {
		return nil, err
	}
	defer r.close()
	plan := o.plan(round)
	if err := plan.ports(ctx, r); err != nil {
		return nil, err
	}
	var times []nodeResult
	switch tool {
	case "swarm":
		times, err = r.swarm(ctx, plan)
	case "aria2":
		times, err = r.aria2(ctx, plan)
	case "udpcast":
		times, err = r.udpcast(ctx, plan)
	case "http":
		times, err = r.http(ctx, plan)
	default:
		return nil, cli.Usagef("unknown tool %q", tool)
	}
	if err != nil {
		return nil, err
	}
	return r.result(ctx, tool, plan, times)
}

// readImage returns the manifest of the image DIR/NAME.
func readImage(image string) (*imagefmt.Manifest, error) {
	b, err := os.ReadFile(image + ".json")
	if err != nil {
		return nil, err
	}
	m, err := imagefmt.ParseManifest(b)
	if err != nil {
		return nil, fmt.Errorf("%s.json: %w", image, err)
	}
	return m, nil
}

func splitImage(image string) (dir, name string) { return filepath.Split(filepath.Clean(image)) }

func (r *result) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	_, err := fmt.Fprintln(w, r)
	return err
}
