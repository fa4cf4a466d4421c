package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"time"

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

// await waits for the end of a child. One with a thread that hangs in the kernel, as at a disk that does not answer, remains a zombie that
// nobody can reap: what it ended with counts when it has been one for two looks.
func await(ended <-chan unix.WaitStatus, pid int, look time.Duration) unix.WaitStatus {
	for looks := 0; ; {
		select {
		case status := <-ended:
			return status
		case <-time.After(look):
		}
		status, zombie := zombieStatus(pid)
		if looks++; !zombie {
			looks = 0
		}
		if looks > 1 {
			return status
		}
	}
}

// zombieStatus reads from /proc/PID/stat (proc_pid_stat(5)) whether a process is one that nobody has reaped, and its exit_code.
func zombieStatus(pid int) (status unix.WaitStatus, zombie bool) {
	const state, exitCode = 3, 52 // fields; the second one, the name, may hold spaces and parentheses
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) <= exitCode-state || fields[0] != "Z" {
		return 0, false
	}
	code, err := strconv.ParseUint(fields[exitCode-state], 10, 32)
	return unix.WaitStatus(code), err == nil
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
