package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"strings"

	"swarmboot/internal/cli"
	"swarmboot/internal/deploy"
	"swarmboot/internal/event"
	"swarmboot/internal/layout"
	"swarmboot/internal/params"
)

const cmdlinePath = "/proc/cmdline"

const usage = `Usage: deploy --server URL --image NAME --disk DISK [OPTIONS]
       deploy --server URL --image NAME --layout LAYOUT [OPTIONS]
       deploy --cmdline [OPTIONS]

Writes an image to a disk of this machine, every block through the swarm, and seeds it to other nodes.
The disk is overwritten. DISK is a selector (/dev/PATH, serial=X, wwn=X, model=X, transport=T, rotational=yes|no,
size=10G..2T, several of them with commas, or "only") or the path of an existing file that stands for a disk. Until everything
is verified the disk has no partitions, so that a run that was cut off leaves nothing that boots.

With --layout the image goes where a layout says: to partitions at other places, to several disks, to arrays; what the
layout keeps stays byte for byte. LAYOUT is the name of a layout on the server, or a file FILE.json. --plan shows what
would be done and writes nothing.

With --then kexec the deployed system's kernel is loaded. --then is carried out by deploy itself, except
as a child of process 1 or with --cmdline: then process 1 does it, after deploy has ended with code 0.
If the running kernel forbids kexec, the code is 0, /sys/kernel/kexec_loaded is 0, and a reboot does the same.

Options:
`

// config is what the command line asks for.
type config struct {
	o          deploy.Options
	json       bool
	cmdline    bool
	level      slog.Level
	createSize int64
	settled    string // file for what is to follow
}

func parse(args []string, stdout io.Writer) (*config, error) {
	c := &config{level: slog.LevelWarn}
	var verify, grow, write, bootEntry, createSize, switchFile string
	var verbose bool
	f := flag.NewFlagSet("deploy", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&c.o.Server, "server", "", "`URL` of the server, such as http://192.0.2.1:8080")
	f.StringVar(&c.o.Image, "image", "", "`NAME` of the image")
	f.StringVar(&c.o.Disk, "disk", "", "`DISK` to overwrite")
	f.StringVar(&c.o.Layout, "layout", "", "`LAYOUT` that says which disks, partitions and arrays the image goes to: a name on the server, or a\nfile that ends in .json; instead of --disk")
	f.BoolVar(&c.o.Plan, "plan", false, "show what would be done to which disks, and write nothing; --plan=false where the node's profile says action: plan")
	f.StringVar(&verify, "verify", "", "none, write (every hash is checked on what is written) or readback (and on what the\ndisk returns afterwards); default write")
	f.StringVar(&write, "write", "", "cache (through the page cache) or direct (past it, by O_DIRECT: faster on fast disks, but what other\nnodes want late is read from the disk again); default cache")
	f.StringVar(&grow, "grow", "", "on a disk of another size than the image's: last (the last partition grows into the rest, and its file\nsystem with it), proportional (so do all that can grow, in proportion), exact (nothing grows; a smaller disk is\ntaken if nothing that is used lies beyond its end) or none; default last for a block device, none for a file")
	f.StringVar(&bootEntry, "boot-entry", "", "boot entry of the deployed system in this machine's UEFI firmware: first, after-network (behind the\nnetwork entry that the machine was booted from) or none; default none")
	f.StringVar(&c.o.Then, "then", "", "exit, kexec, reboot, poweroff or shell; default exit")
	f.DurationVar(&c.o.Seed, "linger", deploy.DefaultSeed, "longest `TIME` to go on seeding; it ends when the server says that nobody needs this node")
	f.StringVar(&c.o.Listen, "listen", "", "`HOST:PORT` for BitTorrent connections; default any free port")
	f.StringVar(&c.o.Rack, "rack", "", "`NAME` of the rack or switch that this machine is at; default: what --switch tells, or else\nthe server goes by its address")
	f.StringVar(&switchFile, "switch", "", "`FILE` in which process 1 of a node tells, once it knows, at which switch the machine is")
	f.StringVar(&c.o.Node, "node", "", "what this node is called on the server (`ID`); default the MAC address towards the server")
	f.DurationVar(&c.o.Stall, "stall", deploy.DefaultStall, "give up when nothing arrives for `TIME`")
	f.DurationVar(&c.o.Patience, "patience", deploy.DefaultPatience, "give up when the server does not give the manifest for `TIME`")
	f.BoolVar(&c.json, "json", false, "print every report as one line of JSON")
	f.BoolVar(&c.cmdline, "cmdline", false, "take everything from the swarmboot.* parameters in "+cmdlinePath+"; other options override")
	f.StringVar(&createSize, "create-size", "", "make DISK as a sparse file of `SIZE` (bytes, or with K, M, G, T) if it does not exist")
	f.StringVar(&c.settled, "settled", "", "write what is to follow, with what the node's profile says, and a last report that the server did not get, as JSON to `FILE`")
	f.BoolVar(&verbose, "v", false, "log what the swarm does")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			cli.Help(stdout, usage, f)
			return nil, err
		}
		return nil, cli.Usagef("%w (--help lists the options)", err)
	}
	if f.NArg() > 0 {
		return nil, cli.Usagef("unexpected argument %q", f.Arg(0))
	}
	if verbose {
		c.level = slog.LevelDebug
	}
	c.o.Verify, c.o.Grow, c.o.BootEntry = params.Verify(verify), params.Grow(grow), params.BootEntry(bootEntry)
	c.o.Write = params.Write(write)
	if switchFile != "" {
		c.o.Switch = func() event.Switch { return readSwitch(switchFile) }
	}
	set := given(f)
	c.o.Given = profileMust(set)
	if c.cmdline {
		if err := c.fromCmdline(set); err != nil {
			return nil, err
		}
	}
	if createSize != "" {
		n, err := parseSize(createSize)
		if err != nil {
			return nil, err
		}
		c.createSize = n
	}
	return c, c.check()
}

// given is the set of options on the command line.
func given(f *flag.FlagSet) map[string]bool {
	set := map[string]bool{}
	f.Visit(func(fl *flag.Flag) { set[fl.Name] = true })
	return set
}

// profileMust returns the parameters that a profile on the server must not change: what an option says, and, for a person
// at a shell, which disk it is, whether the machine's firmware is changed, and whether the machine goes away.
func profileMust(set map[string]bool) map[string]bool {
	given := map[string]bool{"seed": set["linger"], "bootentry": set["boot-entry"] || !set["cmdline"], "action": set["plan"]}
	for _, name := range []string{"disk", "grow", "layout", "rack", "then", "verify", "write"} {
		given[name] = set[name] || !set["cmdline"] && (name == "disk" || name == "then")
	}
	return given
}

// fromCmdline fills in what the options leave open.
func (c *config) fromCmdline(set map[string]bool) error {
	b, err := os.ReadFile(cmdlinePath)
	if err != nil {
		return err
	}
	p, err := params.ParseCmdline(string(b))
	if err != nil {
		return cli.WithCode(cli.CodeUsage, err)
	}
	c.merge(p, set)
	maps.Copy(c.o.Given, params.Given(string(b)))
	return nil
}

func (c *config) merge(p *params.Config, set map[string]bool) {
	fill := func(name string, dst *string, v string) {
		if !set[name] {
			*dst = v
		}
	}
	fill("server", &c.o.Server, p.Server)
	fill("image", &c.o.Image, p.Image)
	if !set["layout"] { // which disks are meant is one choice
		fill("disk", &c.o.Disk, p.Disk)
	}
	if !set["disk"] {
		fill("layout", &c.o.Layout, p.Layout)
	}
	if !set["plan"] {
		c.o.Plan = p.Action == params.ActionPlan
	}
	fill("then", &c.o.Then, string(p.Then))
	fill("rack", &c.o.Rack, p.Rack)
	if !set["verify"] {
		c.o.Verify = p.Verify
	}
	if !set["write"] {
		c.o.Write = p.Write
	}
	if !set["grow"] {
		c.o.Grow = p.Grow
	}
	if !set["boot-entry"] {
		c.o.BootEntry = p.BootEntry
	}
	if !set["linger"] {
		c.o.Seed = p.Seed
	}
	c.o.OnError, c.o.Append = string(p.OnError), p.Append
	c.o.Console = p.Console
}

func (c *config) check() error {
	for _, v := range []struct{ name, value string }{{"server", c.o.Server}, {"image", c.o.Image}} {
		if v.value == "" {
			return cli.Usagef("--%s: not given (--help lists the options)", v.name)
		}
	}
	if c.o.Disk == "" && c.o.Layout == "" && !c.cmdline {
		return cli.Usagef("--disk: not given; \"only\" means the only disk of the machine")
	}
	if err := c.readLayout(); err != nil {
		return err
	}
	switch c.o.Then {
	case "":
		c.o.Then = "exit"
	case "exit", "kexec", "reboot", "poweroff", "shell":
	default:
		return cli.Usagef("--then %s: want exit, kexec, reboot, poweroff or shell", c.o.Then)
	}
	if c.o.Seed < 0 || c.o.Stall <= 0 || c.o.Patience <= 0 {
		return cli.Usagef("--linger, --stall and --patience: not a time that can be waited for")
	}
	return nil
}

// readLayout reads a layout that is given as a file.
func (c *config) readLayout() error {
	if !strings.HasSuffix(c.o.Layout, ".json") {
		return nil
	}
	f, err := os.Open(c.o.Layout)
	if err != nil {
		return cli.Usagef("--layout: %w", err)
	}
	defer f.Close()
	c.o.LayoutJSON, err = io.ReadAll(io.LimitReader(f, layout.MaxLayout+1))
	if err != nil {
		return cli.Usagef("--layout: %w", err)
	}
	return nil
}

func parseSize(s string) (int64, error) {
	num, shift := s, 0
	if i := strings.IndexAny("KMGT", s[len(s)-1:]); i >= 0 {
		num, shift = s[:len(s)-1], 10*(i+1)
	}
	var n int64
	if _, err := fmt.Sscanf(num+"\n", "%d\n", &n); err != nil || n <= 0 || n > 1<<62>>shift {
		return 0, cli.Usagef("--create-size %q: want a number of bytes, or one with K, M, G or T", s)
	}
	return n << shift, nil
}

// createFile makes the file that stands for the disk, and says so. An existing one is left as it is.
func (c *config) createFile() (created bool, err error) {
	if c.createSize == 0 {
		return false, nil
	}
	if strings.HasPrefix(c.o.Disk, "/dev/") {
		return false, cli.Usagef("--create-size: %s is not a place for a file", c.o.Disk)
	}
	f, err := os.OpenFile(c.o.Disk, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, cli.WithCode(cli.CodeIO, fmt.Errorf("create disk file: %w", err))
	}
	err = f.Truncate(c.createSize)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return true, cli.WithCode(cli.CodeIO, err)
}
