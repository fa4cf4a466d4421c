package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swarmboot/internal/cli"
	"swarmboot/internal/layouts"
)

func TestLayoutScript(t *testing.T) { runScripts(t, "testdata/layout") }

func TestLayoutExample(t *testing.T) {
	l, err := layouts.Parse("example.yaml", []byte(layoutExample))
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Candidates) != 3 {
		t.Errorf("%+v", l)
	}
	if help := layoutHelp(); strings.Contains(help, "TYPES") || !strings.Contains(help, "root-x86-64") {
		t.Error(help)
	}
}

// From an image to the plan for a disk, with real ones: what image create says of file systems lets a smaller disk be taken.
func TestDeployPlanOfImage(t *testing.T) {
	dir := t.TempDir()
	source, target, name := filepath.Join(dir, "source"), filepath.Join(dir, "target"), filepath.Join(dir, "img")
	makeDisk(t, source, 64*mib, "label: gpt\nstart=2048, size=122880\n", []part{{1 * mib, 40 * mib, "ext4"}})
	mustRun(t, "image", "create", source, name)
	if err := os.WriteFile(target, make([]byte, 48*mib), 0o600); err != nil {
		t.Fatal(err)
	}
	layout := filepath.Join(dir, "exact.yaml")
	if err := os.WriteFile(layout, []byte("candidates:\n- name: as it is\n  disks: [{name: os, select: "+target+", scale: exact}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, inventory, msg := runTool(t, "inventory", target)
	if code != cli.CodeDone {
		t.Fatal(msg)
	}
	inv := filepath.Join(dir, "inventory.json")
	if err := os.WriteFile(inv, []byte(inventory), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, msg := runTool(t, "deploy", "plan", "--inventory", inv, "--layout", layout, "--image", name)
	if code != cli.CodeDone || !strings.Contains(out, "partition 1 of the image is cut to 47.0 MiB") {
		t.Errorf("code %d: %s%s", code, out, msg)
	}
	code, _, msg = runTool(t, "deploy", "plan", "--inventory", inv, "--disk", target, "--image", name)
	if code != cli.CodeTooSmall || !strings.Contains(msg, target+" is too small") {
		t.Errorf("without a layout: code %d: %s", code, msg)
	}

	// What is lost is said with a layout and without one.
	makeDisk(t, target, 96*mib, "label: gpt\nstart=1MiB, size=8MiB, type=uefi\nstart=9MiB, size=8MiB, type=swap\nstart=17MiB, size=32MiB, type=L, name=old\n",
		[]part{{1 * mib, 8 * mib, "vfat"}, {9 * mib, 8 * mib, "swap"}, {17 * mib, 32 * mib, "ext4"}})
	inventory, _ = mustRun(t, "inventory", target)
	if err := os.WriteFile(inv, []byte(inventory), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--layout", layout}, {"--disk", target}} {
		out, _ := mustRun(t, append([]string{"deploy", "plan", "--inventory", inv, "--image", name}, args...)...)
		for _, want := range []string{"lost: partition 1, 8.0 MiB, vfat", "lost: partition 2, 8.0 MiB, swap", `lost: partition 3 "old", 32.0 MiB, ext4`} {
			if !strings.Contains(out, want) {
				t.Errorf("%q does not say %q:\n%s", args, want, out)
			}
		}
	}
}
