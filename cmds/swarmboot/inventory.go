package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"swarmboot/internal/cli"
	"swarmboot/internal/disk"
)

const inventoryUsage = `Usage: swarmboot inventory [FILE...]

Prints the disks of this machine and what is on them as JSON: what "swarmboot deploy plan --inventory" takes. FILEs are
regular files that stand for disks. It only reads, and needs root to read disks.

`

func runInventory(_ context.Context, args []string, stdout, _ io.Writer) error {
	for _, a := range args {
		switch {
		case cli.IsHelp(a):
			_, err := fmt.Fprint(stdout, inventoryUsage, cli.ExitCodes)
			return err
		case a[:min(1, len(a))] == "-":
			return cli.Usagef("inventory: unknown option %q", a)
		}
	}
	inv, err := disk.ReadInventory(args)
	if err != nil {
		return fileError(err)
	}
	if inv == nil {
		inv = []disk.Inventory{}
	}
	e := json.NewEncoder(stdout)
	e.SetIndent("", "  ")
	return e.Encode(inv)
}
