// Package hooks runs the programs that a node's profile gives for certain points of its deployment: with a time limit, their
// output bounded, and so that nothing of them is left behind.
package hooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Program is one hook.
type Program struct {
	Name    string
	Body    []byte   // ELF, or a script
	Env     []string // NAME=VALUE, beside PATH and HOME
	Timeout time.Duration
}

// Result is what a program did.
type Result struct {
	Output  string // the end of its output
	Elapsed time.Duration
}

// shells are where a shell may be; the nodes' own is the first.
var shells = []string{"/bin/sh", "/bbin/sh"}

// Run runs a program to its end and gives line every line of its output (both streams), up to a limit. It needs root: the
// program gets PID and mount namespaces of its own. When it ends, by itself or at its time limit, everything that it
// has started is killed, and what it has mounted is unmounted. A process that sleeps in the kernel, such as for a disk that does not
// answer, takes no signal: it is left behind.
func Run(ctx context.Context, p Program, line func(string)) (res Result, err error) {
	began := time.Now()
	defer func() { res.Elapsed = time.Since(began) }()
	dir, err := os.MkdirTemp("", "hook")
	if err != nil {
		return res, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // memory of a node that is about to leave
	file := filepath.Join(dir, p.Name)
	if err := os.WriteFile(file, p.Body, 0o700); err != nil {
		return res, err
	}
	args, err := command(p.Body, file)
	if err != nil {
		return res, err
	}
	limited, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	out := &output{line: line}
	err = start(limited, args, p.Env, out)
	res.Output = out.end()
	switch {
	case err == nil:
		return res, nil
	case ctx.Err() != nil:
		return res, context.Cause(ctx)
	case errors.Is(err, errStuck):
		return res, fmt.Errorf("it was not done within %s: %w", p.Timeout, err)
	case limited.Err() != nil:
		return res, fmt.Errorf("killed: it was not done within %s", p.Timeout)
	}
	return res, err
}

// start runs a command and waits for it. The kernel kills the other processes of a PID namespace when its first one ends, and
// removes a mount namespace with the last process in it.
func start(ctx context.Context, args, env []string, out *output) error {
	for attempt := 0; ; attempt++ {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Dir = "/"
		cmd.Env = append([]string{"PATH=" + searchPath(), "HOME=/root", "TERM=linux"}, env...)
		cmd.Stdout, cmd.Stderr = out, out
		cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL, Cloneflags: unix.CLONE_NEWPID, Unshareflags: unix.CLONE_NEWNS}
		err := within(ctx, endLimit, cmd.Run)
		switch {
		case errors.Is(err, errStuck): // cmd is still in use
			return err
		case errors.Is(err, unix.ETXTBSY) && attempt < 50: // another thread forked while the file was open for writing
			time.Sleep(10 * time.Millisecond)
		case errors.Is(err, unix.EPERM) && cmd.Process == nil:
			return fmt.Errorf("hooks are run by root only: %w", err)
		default:
			return err
		}
	}
}

// endLimit is how long killed processes may take to end.
const endLimit = 10 * time.Second

var errStuck = errors.New("killed, but a process does not end")

// within waits for run, which is to end with ctx, no longer than limit after that.
func within(ctx context.Context, limit time.Duration, run func() error) error {
	done := make(chan error, 1)
	go func() { done <- run() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(limit):
		return errStuck
	}
}

func searchPath() string {
	if p := os.Getenv("PATH"); p != "" {
		return p
	}
	return "/bbin:/sbin:/usr/sbin:/bin:/usr/bin"
}

// command says how to start a program.
func command(body []byte, file string) ([]string, error) {
	if bytes.HasPrefix(body, []byte("\x7fELF")) {
		return []string{file}, nil
	}
	if bytes.IndexByte(body, 0) >= 0 {
		return nil, errors.New("neither an ELF program nor a script")
	}
	first, _, _ := bytes.Cut(body, []byte("\n"))
	words := strings.Fields(strings.TrimPrefix(string(first), "#!"))
	if !bytes.HasPrefix(body, []byte("#!")) || len(words) == 0 {
		return shell(file)
	}
	if isProgram(words[0]) {
		return []string{file}, nil
	}
	name := path.Base(words[0])
	if name == "env" && len(words) > 1 {
		name = words[len(words)-1]
	}
	if !slices.Contains([]string{"sh", "bash", "dash", "ash", "gosh"}, name) {
		return nil, fmt.Errorf("its interpreter %s is not there", words[0])
	}
	return shell(file)
}

func shell(file string) ([]string, error) {
	for _, s := range shells {
		if isProgram(s) {
			return []string{s, file}, nil
		}
	}
	return nil, fmt.Errorf("no shell is there: none of %s", strings.Join(shells, ", "))
}

func isProgram(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0
}
