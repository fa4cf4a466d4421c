package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"swarmboot/internal/contents"
	"swarmboot/internal/drivers"
	"swarmboot/internal/event"
)

// node is the machine's state as PID 1 knows it.
type node struct {
	con      *console
	children *children
	loader   *drivers.Loader

	unsent *event.Progress // the last report of the node, while the server has not got it
	server string          // its base URL; "" as long as there is no network

	switchPath string // where the engine finds the switch
	switchMu   sync.Mutex
	switchAt   event.Switch
}

func newNode() *node { return &node{con: openConsole(), switchPath: defaultSwitchPath} }

// say writes a line with the seconds since the kernel started.
func (n *node) say(format string, args ...any) {
	n.con.printf("%7.3f %s", uptime().Seconds(), fmt.Sprintf(format, args...))
}

func uptime() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // cannot fail on Linux
	return time.Duration(ts.Nano())
}

// guard runs f and turns a panic into a message: when PID 1 ends, the kernel panics.
func (n *node) guard(what string, f func()) {
	defer func() {
		if r := recover(); r != nil {
			n.say("%s: panic: %v", what, r)
			for _, line := range strings.Split(string(debug.Stack()), "\n") {
				n.con.line(line)
			}
		}
	}()
	f()
}

// setUp makes the machine usable: file systems, consoles, signals, a check of the archive.
func (n *node) setUp() error {
	mountErr := mountAll()
	n.con.attach()
	signal.Ignore(unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE, unix.SIGTTIN, unix.SIGTTOU)
	n.children = newChildren()
	for _, kv := range environment {
		k, v, _ := strings.Cut(kv, "=")
		_ = os.Setenv(k, v)
	}
	id, err := contents.Check("/")
	n.say("build %s, kernel %s", id, kernelRelease())
	if mountErr != nil {
		n.say("error: %v", mountErr)
	}
	return err
}

func kernelRelease() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// driverLimit is how long drivers may take to start: a disk controller that scans its buses takes half a minute.
const driverLimit = 90 * time.Second

// coldplug loads the drivers of the devices that are there. One that never comes back from its start, as on broken
// hardware, is named, and left behind: the disk and the network may not need it.
func (n *node) coldplug(ctx context.Context, l *drivers.Loader, limit time.Duration) {
	done := make(chan []error, 1)
	go n.guard("drivers", func() { done <- l.Coldplug(ctx, 150*time.Millisecond) })
	select {
	case errs := <-done:
		for _, err := range errs {
			n.say("driver: %v", err)
		}
	case <-time.After(limit):
		n.say("driver: not started after %s, going on without: %s", limit, strings.Join(l.Pending(), " "))
	}
}

// loadDrivers loads what the devices ask for and goes on doing so in the background.
func (n *node) loadDrivers(ctx context.Context) error {
	dir, err := modulesDir()
	if err != nil {
		return err
	}
	if n.loader, err = drivers.Open(dir); err != nil {
		return err
	}
	go n.guard("drivers", func() {
		if err := n.loader.Watch(ctx, func(err error) { n.say("driver: %v", err) }); err != nil {
			n.say("driver: devices that come later stay without: %v", err)
		}
	})
	n.coldplug(ctx, n.loader, driverLimit)
	n.say("%d modules loaded", len(n.loader.Loaded()))
	if err := mountEFI(); err != nil {
		n.say("%v", err)
	}
	debug.FreeOSMemory()
	return nil
}
