package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An engine with a thread that hangs in a driver ends, but nobody can reap it. Here nobody wants to.
func TestZombieCounts(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "a (Z) 1") // a name that looks like the fields behind it
	if err := os.Symlink(sh, name); err != nil {
		t.Fatal(err)
	}
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.CommandContext(t.Context(), name, "-c", "read x; exit 5")
	cmd.Stdin = in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	if _, zombie := zombieStatus(cmd.Process.Pid); zombie {
		t.Error("it runs")
	}
	got := make(chan unix.WaitStatus, 1)
	go func() { got <- await(nil, cmd.Process.Pid, 10*time.Millisecond) }()
	select {
	case s := <-got:
		t.Errorf("it runs, and has ended with %d", s.ExitStatus())
	case <-time.After(100 * time.Millisecond):
	}
	out.Close()
	if s := <-got; !s.Exited() || s.ExitStatus() != 5 {
		t.Errorf("status %#x", s)
	}
	_ = cmd.Wait()
	if _, zombie := zombieStatus(cmd.Process.Pid); zombie {
		t.Error("it is gone")
	}
}
