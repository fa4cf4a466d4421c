package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal makes a pseudo terminal; nobody reads from its master.
func terminal(t *testing.T) (path string, master *os.File) {
	t.Helper()
	m, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	fd := int(m.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/dev/pts/%d", n), m
}

// A console that was stopped (Ctrl-S, a serial line that is held) must stop neither PID 1 nor, whose output goes
// through it, the engine.
func TestStoppedConsoleStopsNothing(t *testing.T) {
	path, _ := terminal(t)
	stopped, err := openScreen(path)
	if err != nil {
		t.Fatal(err)
	}
	var other bytes.Buffer
	c := &console{outs: []*screen{stopped, {Writer: &other}}}
	const lines = 200 // of 1000 bytes: many times what the terminal keeps
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range lines {
			c.line(fmt.Sprint(i, strings.Repeat("x", 1000)))
		}
	}()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		t.Fatal("the console hangs")
	}
	if !stopped.stalled {
		t.Error("the terminal took everything: this test shows nothing")
	}
	if got := strings.Count(other.String(), "\n"); got != lines {
		t.Errorf("the other console has %d lines of %d", got, lines)
	}
}

// The boot script knows a machine by the interface that it booted from.
func TestNodeIsNamedByItsBootInterface(t *testing.T) {
	a, b := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	if got := nodeID(a, b); got != "02:00:00:00:00:01" {
		t.Errorf("booted from %s, lease on %s: %s", a, b, got)
	}
	if got := nodeID(nil, b); got != "02:00:00:00:00:02" {
		t.Errorf("lease on %s: %s", b, got)
	}
}
