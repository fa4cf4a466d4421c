package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sync"
	"time"
)

// Line is one line of a serial console, without control characters, and when it came.
type Line struct {
	At   time.Duration // since the machine was started
	Text string
}

// ErrConsoleClosed is why a wait ends when the machine has stopped.
var ErrConsoleClosed = errors.New("the machine stopped")

// panicLine is a line after which nothing good follows.
var panicLine = regexp.MustCompile(`Kernel panic - not syncing`)

// Console collects the lines of a serial console.
type Console struct {
	mu      sync.Mutex
	lines   []Line
	closed  bool
	changed chan struct{} // closed and replaced at every new line
	end     chan struct{} // closed when no line follows
}

// maxLine is where a line without an end is cut, bytes.
const maxLine = 64 << 10

// readConsole copies r to log as it comes and returns a Console that collects its lines until r ends.
func readConsole(r io.Reader, log io.Writer) *Console {
	c := &Console{changed: make(chan struct{}), end: make(chan struct{})}
	start := time.Now()
	go func() {
		br := bufio.NewReaderSize(io.TeeReader(r, log), maxLine)
		for {
			raw, err := br.ReadSlice('\n')
			if len(raw) > 0 {
				c.add(Line{time.Since(start), cleanLine(raw)}, false)
			}
			if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
				c.add(Line{}, true)
				return
			}
		}
	}()
	return c
}

func (c *Console) add(l Line, closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if closed {
		c.closed = true
		close(c.end)
	} else {
		c.lines = append(c.lines, l)
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// controls are ANSI escape sequences and single control characters. Only whole lines are
// looked at, since a sequence may be cut in two between two reads.
var controls = regexp.MustCompile("\x1b\\[[0-9;?=]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*\x07?|\x1b[()#][0-9A-Za-z]|\x1b.|[\x00-\x08\x0a-\x1f\x7f]")

func cleanLine(raw []byte) string {
	return string(bytes.TrimSpace(controls.ReplaceAll(raw, nil)))
}

// Lines are all whole lines so far.
func (c *Console) Lines() []Line {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lines[:len(c.lines):len(c.lines)]
}

// Find returns the first line so far that matches.
func (c *Console) Find(re *regexp.Regexp) (Line, bool) {
	for _, l := range c.Lines() {
		if re.MatchString(l.Text) {
			return l, true
		}
	}
	return Line{}, false
}

// Wait returns the first line, past or to come, that matches. It fails when ctx ends,
// when the machine stops, and when its kernel panics.
func (c *Console) Wait(ctx context.Context, re *regexp.Regexp) (Line, error) {
	seen := 0
	for {
		c.mu.Lock()
		fresh, closed, changed := c.lines[seen:], c.closed, c.changed
		seen = len(c.lines)
		c.mu.Unlock()
		for _, l := range fresh {
			if re.MatchString(l.Text) {
				return l, nil
			}
			if panicLine.MatchString(l.Text) {
				return Line{}, fmt.Errorf("waiting for %q on the console: %s", re, l.Text)
			}
		}
		if closed {
			return Line{}, fmt.Errorf("waiting for %q on the console: %w", re, ErrConsoleClosed)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Line{}, fmt.Errorf("waiting for %q on the console: %w", re, context.Cause(ctx))
		}
	}
}
