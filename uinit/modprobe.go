package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"swarmboot/internal/drivers"
)

// modulesDir is the folder of the running kernel's modules.
func modulesDir() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return filepath.Join("/lib/modules", unix.ByteSliceToString(u.Release[:])), nil
}

// modprobe loads modules by name or alias. The kernel starts it as /sbin/modprobe -q -- NAME when it wants a
// file system, a protocol or an algorithm (kernel/module/kmod.c), people start it from the rescue shell.
func modprobe(args []string) int {
	dir, err := modulesDir()
	if err == nil {
		err = modprobeIn(dir, args)
	}
	if err != nil && !contains(args, "-q") {
		fmt.Fprintln(os.Stderr, "modprobe:", err)
	}
	if err != nil {
		return 1
	}
	return 0
}

func modprobeIn(dir string, args []string) error {
	for _, a := range args {
		switch a { // must not load what somebody wants to be rid of, or only asks about
		case "-r", "--remove", "-n", "--dry-run", "-D", "--show-depends":
			return fmt.Errorf("%s: this modprobe loads modules and nothing else", a)
		}
	}
	l, err := drivers.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no modules for this kernel: %w", err)
	} else if err != nil {
		return err
	}
	var errs []error
	for _, a := range args {
		// The first argument of a script is its own path.
		if strings.HasPrefix(a, "-") || strings.HasPrefix(a, "/") {
			continue
		}
		errs = append(errs, l.Load(a))
	}
	return errors.Join(errs...)
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
