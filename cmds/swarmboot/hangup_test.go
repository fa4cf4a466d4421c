package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"swarmboot/internal/cli"
)

// creation is an image create that has begun to write its payload.
type creation struct {
	*exec.Cmd
	out string
}

// startCreate runs it with its messages to stderr, through the programs that before names.
func startCreate(t *testing.T, stderr *os.File, before ...string) *creation {
	t.Helper()
	disk, out := filepath.Join(t.TempDir(), "disk"), t.TempDir()
	makeFS(t, disk, part{0, 160 * mib, ""})
	args := append(before, tool(t), "image", "create", "--workers", "1", disk, filepath.Join(out, "img"))
	c := &creation{exec.CommandContext(t.Context(), args[0], args[1:]...), out}
	c.Stderr = stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		if m, _ := filepath.Glob(filepath.Join(out, ".img.payload*")); len(m) > 0 {
			return c
		}
		if time.Now().After(limit) {
			t.Fatal("no payload is written")
		}
	}
}

// end waits for it, and wants no part of an image.
func (c *creation) end(t *testing.T) syscall.WaitStatus {
	t.Helper()
	c.Wait() //nolint:errcheck // the status is looked at
	if left, err := filepath.Glob(filepath.Join(c.out, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
	return c.ProcessState.Sys().(syscall.WaitStatus)
}

func messages(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "messages"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// A session that is lost sends SIGHUP, the kernel and the shell each: nothing is left.
func TestImageCreateHungUp(t *testing.T) {
	msg := messages(t)
	c := startCreate(t, msg)
	for range 3 {
		if err := c.Process.Signal(syscall.SIGHUP); err != nil {
			t.Error(err)
		}
	}
	status := c.end(t)
	text, err := os.ReadFile(msg.Name())
	if err != nil || status.ExitStatus() != cli.CodeInterrupted || !strings.Contains(string(text), "nothing was kept") {
		t.Errorf("status %#x, %v: %s", status, err, text)
	}
	only(t, c.out)
}

// Under nohup it goes on.
func TestImageCreateUnderNohup(t *testing.T) {
	msg := messages(t)
	c := startCreate(t, msg, "nohup")
	if err := c.Process.Signal(syscall.SIGHUP); err != nil {
		t.Error(err)
	}
	if status := c.end(t); status != 0 {
		text, err := os.ReadFile(msg.Name())
		t.Errorf("status %#x, %v: %s", status, err, text)
	}
}

// Who reads the messages goes away: the command ends as it always did then, and nothing is left.
func TestImageCreateUnread(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := startCreate(t, w)
	w.Close()
	r.Close()
	if status := c.end(t); !status.Signaled() || status.Signal() != syscall.SIGPIPE {
		t.Errorf("status %#x", status)
	}
}

// So does one that only prints, and it does not complain.
func TestUnreadOutput(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	cmd := exec.CommandContext(t.Context(), tool(t), "help")
	var msg bytes.Buffer
	cmd.Stdout, cmd.Stderr = w, &msg
	cmd.Run() //nolint:errcheck // the status is looked at
	w.Close()
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGPIPE || msg.Len() > 0 {
		t.Errorf("status %#x: %s", status, &msg)
	}
}
