package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"swarmboot/internal/cli"
	"swarmboot/internal/disk"
	"swarmboot/internal/layout"
	"swarmboot/internal/layouts"
)

const planUsage = `Usage: swarmboot deploy plan --inventory FILE|- --layout FILE [--image DIR/NAME] [--json]
       swarmboot deploy plan --inventory FILE|- --disk SELECTOR --image DIR/NAME [--grow HOW] [--json]

Prints what a deployment would do to the disks of a machine: which candidate of the layout is taken and why, what is lost,
what is kept, what is made. Nothing is written. The inventory is what "swarmboot inventory" printed on that machine; - is
standard input. Without a layout it is the image's own table on the disk that the selector names.

Options:
`

// maxInventory bounds the inventory that is read: a thousand disks with full tables are less.
const maxInventory = 64 << 20

func runDeploy(_ context.Context, args []string, stdout, _ io.Writer) error {
	if len(args) > 0 && args[0] == "plan" {
		return deployPlan(args[1:], stdout)
	}
	if len(args) > 0 && cli.IsHelp(args[0]) {
		return deployPlan([]string{"--help"}, stdout)
	}
	return cli.Usagef("deploy: want \"plan\" (swarmboot deploy --help); cmds/deploy deploys this machine")
}

func deployPlan(args []string, stdout io.Writer) error {
	f := flag.NewFlagSet("deploy plan", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	inventory := f.String("inventory", "", "`FILE` with the inventory of a machine, - for standard input")
	layoutFile := f.String("layout", "", "`FILE` with a layout of disks")
	selector := f.String("disk", "", "without a layout: `SELECTOR` of the disk")
	grow := f.String("grow", "", "without a layout: `HOW` the image's table goes to a disk of another size: last, proportional, exact or none (default \"last\")")
	image := f.String("image", "", "`DIR/NAME` of the image")
	asJSON := f.Bool("json", false, "print the plan as JSON")
	err := f.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		cli.Help(stdout, planUsage, f)
		return err
	case err != nil:
		return cli.Usagef("deploy plan: %w", err)
	case f.NArg() > 0:
		return cli.Usagef("deploy plan: unexpected argument %q", f.Arg(0))
	case *inventory == "":
		return cli.Usagef("deploy plan: --inventory is missing: what \"swarmboot inventory\" prints on the machine")
	case (*layoutFile == "") == (*selector == ""):
		return cli.Usagef("deploy plan: want either --layout or --disk")
	case *layoutFile != "" && *grow != "":
		return cli.Usagef("deploy plan: --grow goes with --disk: a layout says itself what grows")
	case *grow == "":
		*grow = string(layout.ScaleLast)
	case !slices.Contains([]layout.Scale{layout.ScaleLast, layout.ScaleProportional, layout.ScaleExact, layout.ScaleNone}, layout.Scale(*grow)):
		return cli.Usagef("deploy plan: --grow %q: want last, proportional, exact or none", *grow)
	}
	inv, err := readInventory(*inventory)
	if err != nil {
		return err
	}
	im, err := planImage(*image)
	if err != nil {
		return err
	}
	var p *layout.Plan
	if *layoutFile != "" {
		p, err = planLayout(*layoutFile, inv, im)
	} else {
		p, err = planDisk(*selector, inv, im, layout.Scale(*grow))
	}
	if err != nil {
		return planError(err)
	}
	if *asJSON {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		return e.Encode(p)
	}
	return p.Describe(stdout)
}

func planLayout(file string, inv []disk.Inventory, im layout.Image) (*layout.Plan, error) {
	l, err := layouts.ReadFile(file)
	if err != nil {
		return nil, cli.WithCode(cli.CodeUsage, err)
	}
	p, err := l.Plan(inv, im)
	if err == nil {
		p.Layout = strings.TrimSuffix(filepath.Base(file), ".yaml")
	}
	return p, err
}

func planDisk(selector string, inv []disk.Inventory, im layout.Image, how layout.Scale) (*layout.Plan, error) {
	s, err := disk.ParseSelector(selector)
	if err != nil {
		return nil, cli.WithCode(cli.CodeUsage, err)
	}
	disks := make([]disk.Disk, len(inv))
	for i := range inv {
		disks[i] = inv[i].Disk
	}
	d, err := s.Select(disks)
	if err != nil {
		return nil, cli.WithCode(cli.CodeDisk, err)
	}
	i := slices.IndexFunc(disks, func(q disk.Disk) bool { return q.Path == d.Path })
	return layout.Default(inv[i], im, how)
}

// readInventory reads what "swarmboot inventory" has printed, strictly.
func readInventory(name string) ([]disk.Inventory, error) {
	in := io.Reader(os.Stdin)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fileError(err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxInventory+1))
	if err != nil {
		return nil, fileError(err)
	}
	if len(b) > maxInventory {
		return nil, cli.Usagef("inventory %s: more than %d bytes", name, maxInventory)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var inv []disk.Inventory
	if err := d.Decode(&inv); err != nil {
		return nil, cli.Usagef("inventory %s: %w", name, err)
	}
	for i, q := range inv {
		if err := q.Check(); err != nil {
			return nil, cli.Usagef("inventory %s: disk %d: %w", name, i+1, err)
		}
	}
	return inv, nil
}
