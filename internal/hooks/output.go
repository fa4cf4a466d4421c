package hooks

import (
	"strings"
	"sync"
)

// Bounds of what is told of a program's output.
const (
	maxLine  = 512
	maxLines = 200
	// MaxTail is how many bytes of the end of the output are kept.
	MaxTail = 1024
)

// output takes a program's output and tells it line by line. What a process that was left behind writes after the end is dropped.
type output struct {
	line func(string)

	mu      sync.Mutex
	ended   bool
	lines   int
	partial []byte
	tail    []byte
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return len(b), nil
	}
	o.tail = append(o.tail, b...)
	o.tail = o.tail[max(0, len(o.tail)-MaxTail):]
	for _, c := range b {
		if c == '\n' {
			o.flush()
		} else if len(o.partial) < maxLine {
			o.partial = append(o.partial, c)
		}
	}
	return len(b), nil
}

func (o *output) flush() {
	text := clean(string(o.partial))
	o.partial = o.partial[:0]
	if strings.TrimSpace(text) == "" || o.lines > maxLines {
		return
	}
	if o.lines++; o.lines > maxLines {
		text = "(more output is not shown)"
	}
	o.line(text)
}

// end tells the last line and returns the tail.
func (o *output) end() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.flush()
	tail := o.tail
	if len(tail) == MaxTail { // not from the middle of a line
		if i := strings.IndexByte(string(tail), '\n'); i >= 0 && i < MaxTail-1 {
			tail = tail[i+1:]
		}
	}
	var lines []string
	for l := range strings.Lines(string(tail)) {
		lines = append(lines, clean(strings.TrimRight(l, "\n")))
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

// clean makes text fit for consoles and reports: no control characters, valid UTF-8.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == '\r':
			return -1
		case r < ' ' || r >= 0x7f && r < 0xa0:
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
