package md

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Modules names the kernel modules that an array of this level needs, besides those they depend on.
func Modules(level int) []string {
	rule, ok := levelRules[level]
	if !ok {
		return nil
	}
	return []string{"md_mod", rule.module}
}

// load has the kernel load what is missing. What it then knows stands in /proc/mdstat ("Personalities : [raid1] [raid6] ..."), also
// for what is built in. The kernel would ask for the level's module itself, but only at the start of the array, after the superblocks were
// written.
func (h host) load(ctx context.Context, levels ...int) error {
	for _, level := range levels {
		modules := Modules(level)
		if modules == nil {
			return fmt.Errorf("md level %d: want 0, 1, 4, 5, 6 or 10", level)
		}
		if h.knows(level) {
			continue
		}
		var errs []error
		for _, m := range modules {
			errs = append(errs, h.modprobe(ctx, m))
		}
		if !h.knows(level) {
			return errors.Join(fmt.Errorf("the kernel has no md level %d (modules %s)", level, strings.Join(modules, ", ")), errors.Join(errs...))
		}
	}
	return nil
}

func (h host) knows(level int) bool {
	first, _, _ := strings.Cut(readFile(h.path("proc/mdstat")), "\n")
	return slices.Contains(strings.Fields(first), fmt.Sprintf("[raid%d]", level))
}

// Modprobe loads a module of the kernel. It runs the program that the kernel itself would run: on a node that is uinit.
func Modprobe(ctx context.Context, name string) error {
	program := attr("/proc/sys/kernel/modprobe")
	if program == "" {
		program = "/sbin/modprobe"
	}
	if _, err := os.Stat(program); err != nil {
		return fmt.Errorf("load module %s: %w", name, err)
	}
	out, err := exec.CommandContext(ctx, program, "--", name).CombinedOutput()
	if err != nil {
		return fmt.Errorf("load module %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
