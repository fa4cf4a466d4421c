package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

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
	files, err := diskFiles(args)
	if err != nil {
		return err
	}
	inv, err := disk.ReadInventory(files)
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

// diskFiles returns the absolute paths of regular files, by which layouts and selectors know them.
func diskFiles(names []string) ([]string, error) {
	var files []string
	for _, name := range names {
		fi, err := os.Stat(name)
		if err != nil {
			return nil, cli.Usagef("inventory: %w", err)
		}
		if !fi.Mode().IsRegular() {
			return nil, cli.Usagef("inventory: %s is no regular file; the disks of this machine are listed without being named", name)
		}
		path, err := filepath.Abs(name)
		if err != nil {
			return nil, err
		}
		files = append(files, path)
	}
	return files, nil
}
