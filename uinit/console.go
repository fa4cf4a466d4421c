package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// console writes lines to every console of the kernel and to the kernel log, so that a message is on the
// screen, on the serial line and in dmesg. The log gets them as debug messages, which the kernel does not print
// on the consoles again.
type console struct {
	mu    sync.Mutex
	outs  []*screen
	kmsg  io.Writer
	names []string
}

// maxLog is what the kernel takes in one record (LOG_LINE_MAX in kernel/printk/printk.c), less its head.
const maxLog = 900

// Times for a console to take a line. A serial line at 9600 baud takes a full one in less than a second.
const (
	lineTime    = 2 * time.Second
	stalledTime = 5 * time.Millisecond // of one that did not take the line before
)

// screen is one console. It may be stopped, by Ctrl-S or a serial line whose other end holds it; the deployment must
// not stop with it, so lines that it does not take in time are lost (dmesg has them).
type screen struct {
	io.Writer
	stalled bool
}

func (s *screen) line(text string) {
	if d, ok := s.Writer.(interface{ SetWriteDeadline(time.Time) error }); ok {
		limit := lineTime
		if s.stalled {
			limit = stalledTime
		}
		_ = d.SetWriteDeadline(time.Now().Add(limit)) // /dev/console may not know how, and is only used until attach
	}
	_, err := io.WriteString(s.Writer, text) // nowhere to tell of a failure
	s.stalled = err != nil
}

// openConsole opens /dev/console until attach finds the rest.
func openConsole() *console { return &console{outs: []*screen{{Writer: os.Stderr}}} }

// attach opens every active console and the kernel log; /proc, /sys and /dev must be mounted.
func (c *console) attach() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = os.WriteFile("/proc/sys/kernel/printk_devkmsg", []byte("on\n"), 0) // else the log drops all but a few lines
	if f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err == nil {
		c.kmsg = f
	}
	active, err := os.ReadFile("/sys/class/tty/console/active")
	if err != nil {
		return
	}
	var outs []*screen
	for _, name := range strings.Fields(string(active)) {
		if s, err := openScreen(filepath.Join("/dev", name)); err == nil {
			outs = append(outs, s)
			c.names = append(c.names, name)
		}
	}
	if len(outs) > 0 {
		c.outs = outs
	}
}

// openScreen opens a terminal without waiting for it, now or when it is written to.
func openScreen(path string) (*screen, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return &screen{Writer: f}, nil
}

// printf writes one line, or several when the text has line ends.
func (c *console) printf(format string, args ...any) {
	for _, line := range strings.Split(strings.TrimRight(fmt.Sprintf(format, args...), "\n"), "\n") {
		c.line("swarmboot: " + line)
	}
}

func (c *console) line(s string) {
	s = printable(s)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.outs {
		w.line(s + "\r\n")
	}
	if c.kmsg != nil {
		_, _ = io.WriteString(c.kmsg, "<7>"+s[:min(len(s), maxLog)]+"\n")
	}
}

// printable drops control characters: escape codes disturb serial consoles and whoever reads them by program.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}

// copy writes the lines of r until it ends, and returns the last one that was not empty.
func (c *console) copy(r io.Reader) (last string) {
	sc := bufio.NewReaderSize(r, 4096)
	for {
		line, _, err := sc.ReadLine()
		if err != nil {
			return last
		}
		if s := strings.TrimSpace(printable(string(line))); s != "" {
			last = s
			c.line(s)
		}
	}
}
