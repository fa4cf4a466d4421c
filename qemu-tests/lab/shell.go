package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
)

var rescueShell = regexp.MustCompile("rescue shell;")

// AtShell runs a program of tests (ExtendInitramfs) at the node's rescue shell. The program prints lines that begin with its mark and a space,
// then the mark and "-END", and switches the machine off. AtShell returns what follows the mark; with an error, all that was said until then,
// and the end of the console in the error.
func (vm *VM) AtShell(ctx context.Context, command, mark string) (said []string, err error) {
	defer func() {
		for _, l := range vm.Console.Lines() {
			if text, ok := strings.CutPrefix(l.Text, mark+" "); ok {
				said = append(said, text)
			}
		}
		if err != nil {
			err = fmt.Errorf("%s at the shell of %s: %w\n%s", command, vm.Name, err, Tail(vm.Log))
		}
	}()
	if _, err := vm.Console.Wait(ctx, rescueShell); err != nil {
		return nil, err
	}
	if err := vm.Send("/bbin/" + command + "\n"); err != nil {
		return nil, err
	}
	end, err := vm.Console.Wait(ctx, regexp.MustCompile("^("+regexp.QuoteMeta(mark)+"-END|panic: )"))
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(end.Text, "panic") {
		return nil, fmt.Errorf("the program ended with %q", end.Text)
	}
	select {
	case <-vm.Done():
		return nil, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("the machine did not power off: %w", context.Cause(ctx))
	}
}

// RunAtShell boots a node in a network of its own and runs a program at its shell, see [VM.AtShell]. The machine's console goes to a file in logDir.
func RunAtShell(ctx context.Context, m Machine, logDir, command, mark string) (said []string, err error) {
	n, err := NewNetwork(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	vm, err := n.Start(ctx, m, logDir)
	if err != nil {
		return nil, err
	}
	defer vm.Stop()
	return vm.AtShell(ctx, command, mark)
}

// Tail is the last 4,000 bytes of a log, or why there are none.
func Tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}
