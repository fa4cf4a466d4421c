package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// children starts processes and collects every process that ends: PID 1 inherits all orphans. It owns
// wait4(2), so nothing here may use exec.Cmd.Wait.
type children struct {
	mu      sync.Mutex
	waiting map[int]chan unix.WaitStatus
}

func newChildren() *children {
	c := &children{waiting: map[int]chan unix.WaitStatus{}}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	go func() {
		for range ended {
			c.reap()
		}
	}()
	return c
}

// start starts cmd, whose standard files must be files. The channel gets its status when it ends.
func (c *children) start(cmd *exec.Cmd) (<-chan unix.WaitStatus, error) {
	c.mu.Lock() // reap must not see the child before it is in the table
	defer c.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	ended := make(chan unix.WaitStatus, 1)
	c.waiting[cmd.Process.Pid] = ended
	return ended, nil
}

func (c *children) reap() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if pid <= 0 || err != nil {
			return
		}
		if ch, ok := c.waiting[pid]; ok {
			delete(c.waiting, pid)
			ch <- status
		}
	}
}
