package main

import (
	"context"
	"os/exec"
	"syscall"
	"time"
)

// stopLimit is how long a program may take to end.
const stopLimit = 10 * time.Second

// command is a program that is interrupted when ctx ends, with all that it has started. It is in a process group of its own, and so does
// not end of a terminal's ^C before ctx does.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = stopLimit
	return cmd
}
