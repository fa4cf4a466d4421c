// Package lab makes what the virtual-machine tests and the demo run in: a network
// namespace with a bridge, taps on it, and QEMU machines whose serial consoles can be
// waited on. No packet leaves the namespace. All of it goes away with the process that made it, however that ends. It needs root.
package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
)

// Bridge is the interface in the namespace that the server uses; Address is its address.
const (
	Bridge  = "br0"
	Address = "10.99.0.1"
	prefix  = "/24"
)

// nsPrefix starts the names of our namespaces; the process ID and a number follow.
const nsPrefix = "swarmboot-"

var counter atomic.Int32

// Network is a namespace with a bridge. Close removes it.
type Network struct {
	name string
	taps int
}

// NewNetwork makes a namespace with a bridge that has Address, and removes
// namespaces that ended processes have left behind.
func NewNetwork(ctx context.Context) (*Network, error) {
	removeStale(ctx)
	n := &Network{name: fmt.Sprintf("%s%d-%d", nsPrefix, os.Getpid(), counter.Add(1))}
	if err := addNamespace(ctx, n.name); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", Bridge, "type", "bridge", "stp_state", "0", "forward_delay", "0"},
		// A port that is always up gives the bridge a carrier before the first machine runs, as a real card has one.
		{"link", "add", "up0", "type", "veth", "peer", "name", "up1"},
		{"link", "set", "up1", "up"},
		{"link", "set", "up0", "master", Bridge, "up"},
		{"address", "add", Address + prefix, "dev", Bridge},
		{"link", "set", Bridge, "up"},
	} {
		if err := run(ctx, "ip", append([]string{"-n", n.name}, args...)...); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	return n, nil
}

// addNamespace makes one that goes away with this process.
func addNamespace(ctx context.Context, name string) error {
	if err := theReaper.note(aNamespace, name); err != nil {
		return err
	}
	if err := run(ctx, "ip", "netns", "add", name); err != nil {
		return fmt.Errorf("make a network namespace (needs root): %w", err)
	}
	return nil
}

func deleteNamespace(ctx context.Context, name string) error {
	if err := run(ctx, "ip", "netns", "del", name); err != nil {
		return fmt.Errorf("remove network namespace: %w", err)
	}
	return nil
}

// removeStale removes namespaces of ours whose process is gone, and whose reaper was ended too, as a reaper does: it may be that this one is
// faster than that of a program that has just ended, which then finds no namespace and so none of the processes in it. Errors are ignored:
// another test may be doing the same.
func removeStale(ctx context.Context) {
	found, _ := filepath.Glob("/run/netns/" + nsPrefix + "*")
	var stale []string
	for _, f := range found {
		name := filepath.Base(f)
		pid, _, _ := strings.Cut(strings.TrimPrefix(name, nsPrefix), "-")
		id, err := strconv.Atoi(pid)
		if err != nil || !errors.Is(syscall.Kill(id, 0), syscall.ESRCH) {
			continue
		}
		stale = append(stale, aNamespace+" "+name)
	}
	if len(stale) > 0 {
		_ = reapNow(ctx, stale)
	}
}

// AddTap makes a tap device on the bridge for a machine's network card and returns its name.
func (n *Network) AddTap(ctx context.Context) (string, error) {
	tap := fmt.Sprintf("tap%d", n.taps)
	n.taps++
	if err := run(ctx, "ip", "-n", n.name, "tuntap", "add", tap, "mode", "tap"); err != nil {
		return "", err
	}
	return tap, run(ctx, "ip", "-n", n.name, "link", "set", tap, "master", Bridge, "up")
}

// Command is a command that runs in the namespace. It is killed when ctx ends or when this process does.
func (n *Network) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", n.name, name}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// HTTPClient is a client whose connections are made in the namespace.
func (n *Network) HTTPClient() *http.Client {
	return &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{DialContext: n.dial, DisableKeepAlives: true},
	}
}

// dial opens a connection from within the namespace. A socket belongs to the namespace its thread was in when it was made.
func (n *Network) dial(ctx context.Context, network, address string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		conn, err := n.dialHere(ctx, network, address)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

// dialHere moves its thread into the namespace and back. Only when the way back fails does the thread stay locked, and so end
// with the goroutine: an ending thread would take with it every process that it started, by their Pdeathsig.
func (n *Network) dialHere(ctx context.Context, network, address string) (net.Conn, error) {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("this thread's namespace: %w", err)
	}
	defer home.Close()
	handle, err := netns.GetFromName(n.name)
	if err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("namespace %s: %w", n.name, err)
	}
	defer handle.Close()
	if err := netns.Set(handle); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("enter namespace %s: %w", n.name, err)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if netns.Set(home) == nil {
		runtime.UnlockOSThread()
	}
	return conn, err
}

// Close removes the namespace with all that is in it. Processes that run in it must have ended.
func (n *Network) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return deleteNamespace(ctx, n.name)
}

func run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	theReaper.hold(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
