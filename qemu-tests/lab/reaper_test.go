package lab

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// makeVariable makes this test program one that makes what a test may make, in the folder that it names, and waits for its end.
const makeVariable = "LAB_TEST_MAKE"

// makeAll prints what it has made, a kind and a name a line, and "made".
func makeAll(dir string) error {
	ctx := context.Background()
	n, err := NewNetwork(ctx)
	if err != nil {
		return err
	}
	fmt.Println(aNamespace, n.name)
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		return err
	}
	vm, err := n.Start(ctx, Machine{Name: "reaped", MAC: "52:54:00:99:00:02", Memory: 128, NIC: "virtio-net-pci", Kernel: "../../build/kernel/cloud/vmlinuz", Initrd: empty}, dir)
	if err != nil {
		return err
	}
	fmt.Println("process", vm.cmd.Process.Pid)
	// A grandchild of which nobody here knows: only its namespace gives it away.
	out, err := n.Command(ctx, "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!").Output()
	if err != nil {
		return err
	}
	fmt.Println("process", strings.TrimSpace(string(out)))
	r, err := NewRack(ctx, 2, 100)
	if err != nil {
		return err
	}
	for _, name := range []string{r.fabric, r.hosts[0].name, r.hosts[1].name} {
		fmt.Println(aNamespace, name)
	}
	folder, err := TempDir(dir, "folder of a run ")
	if err != nil {
		return err
	}
	fmt.Println(aFolder, folder)
	disk := filepath.Join(folder, "disk")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		return err
	}
	device, err := AttachLoop(ctx, disk)
	if err != nil {
		return err
	}
	fmt.Println(aLoop, device, disk)
	slow := filepath.Join(folder, "slow")
	if err := os.WriteFile(slow, make([]byte, 1<<20), 0o600); err != nil {
		return err
	}
	d, err := NewSlowDisk(ctx, slow, 1e6)
	if err != nil {
		return err
	}
	fmt.Println(aLoop, d.Path, slow)
	fmt.Println(aThrottle, d.dev)
	fmt.Println("made")
	if os.Getenv(makeVariable+"_PANIC") != "" {
		go panic("test timed out") // as go test -timeout ends a test program
	}
	select {}
}

// isThere says whether something that makeAll named exists.
func isThere(t *testing.T, line string) bool {
	t.Helper()
	kind, name, _ := strings.Cut(line, " ")
	var err error
	switch kind {
	case aNamespace:
		_, err = os.Stat("/run/netns/" + name)
	case "process":
		var state []byte
		state, err = os.ReadFile("/proc/" + name + "/stat")
		if _, after, ok := strings.Cut(string(state), ") "); ok && after[0] == 'Z' {
			return false // it waits for its parent only
		}
	case aFolder:
		_, err = os.Stat(name)
	case aLoop:
		device, file, _ := strings.Cut(name, " ")
		var backing []byte
		backing, err = os.ReadFile("/sys/block/" + filepath.Base(device) + "/loop/backing_file")
		return err == nil && strings.HasPrefix(string(backing), file) // " (deleted)" follows when it is
	case aThrottle:
		var limits []byte
		limits, err = os.ReadFile(throttle)
		return err == nil && strings.Contains("\n"+string(limits), "\n"+name+" ")
	default:
		t.Fatalf("a line %q", line)
	}
	return err == nil
}

// However a program with namespaces, taps, machines, folders and loop devices ends, nothing of them remains. What another program has at the
// same time, this one, stays.
func TestNothingRemains(t *testing.T) {
	if testing.Short() {
		t.Skip("needs root and network namespaces")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel) // after the subtests, which run side by side
	other, err := NewNetwork(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]func(*exec.Cmd) error{
		"SIGINT":  func(c *exec.Cmd) error { return c.Process.Signal(syscall.SIGINT) },
		"SIGTERM": func(c *exec.Cmd) error { return c.Process.Signal(syscall.SIGTERM) },
		"SIGKILL": func(c *exec.Cmd) error { return c.Process.Kill() },
		// As a terminal does, and whoever ends a job.
		"SIGINT to the group":  func(c *exec.Cmd) error { return syscall.Kill(-c.Process.Pid, syscall.SIGINT) },
		"SIGKILL to the group": func(c *exec.Cmd) error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) },
		"panic":                nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(ctx, os.Args[0])
			cmd.Env = append(os.Environ(), makeVariable+"="+t.TempDir())
			if end == nil {
				cmd.Env = append(cmd.Env, makeVariable+"_PANIC=1")
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			made := start(t, cmd)
			for _, line := range made {
				if end != nil && !isThere(t, line) {
					t.Errorf("there is no %s", line)
				}
			}
			if end != nil {
				if err := end(cmd); err != nil {
					t.Fatal(err)
				}
			}
			if err := cmd.Wait(); err == nil {
				t.Error("it ended as if all was well")
			}
			for _, line := range made {
				for isThere(t, line) {
					select {
					case <-ctx.Done():
						t.Fatalf("there still is %s", line)
					case <-time.After(20 * time.Millisecond):
					}
				}
			}
		})
	}
	t.Cleanup(func() {
		if !isThere(t, aNamespace+" "+other.name) {
			t.Error("the network of a program that runs was removed")
		}
		if err := other.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A stale namespace goes with the processes in it: it may not be the reaper of the program that has ended who comes first. (No test makes
// one that looks stale: another program would remove it at once.)
func TestStaleNamespaceIsEmptied(t *testing.T) {
	if testing.Short() {
		t.Skip("needs root and network namespaces")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n := &Network{name: fmt.Sprintf("%s%d-%d", nsPrefix, os.Getpid(), counter.Add(1))}
	if err := addNamespace(ctx, n.name); err != nil {
		t.Fatal(err)
	}
	out, err := n.Command(ctx, "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!").Output()
	if err != nil {
		t.Fatal(err)
	}
	left := "process " + strings.TrimSpace(string(out))
	if !isThere(t, left) {
		t.Fatalf("there is no %s", left)
	}
	if err := reapNow(ctx, []string{aNamespace + " " + n.name}); err != nil {
		t.Error(err)
	}
	for _, line := range []string{aNamespace + " " + n.name, left} {
		if isThere(t, line) {
			t.Errorf("there still is %s", line)
		}
	}
}

// start starts makeAll and returns what it has made.
func start(t *testing.T, cmd *exec.Cmd) (made []string) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "made" {
			go io.Copy(io.Discard, out) //nolint:errcheck // nothing more comes
			return made
		}
		made = append(made, lines.Text())
	}
	_ = cmd.Wait()
	t.Fatalf("it made %q and ended: %s", made, &errs)
	return nil
}
