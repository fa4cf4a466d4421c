package lab

import (
	"context"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestCleanLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain\r\n":                     "plain",
		"\x00\x00nul\x00s\n":            "nuls",
		"\x1b[1;31mred\x1b[0m text\r\n": "red text",
		"\x1b[2J\x1b[01;01Hhome\n":      "home",
		"\x1b[?7l\x1b(Bcharset\n":       "charset",
		"\x1b]0;title\x07after\n":       "after",
		"tab\tstays\n":                  "tab\tstays",
		"\xc3\xa9 utf-8 stays\n":        "é utf-8 stays",
	} {
		if got := cleanLine([]byte(in)); got != want {
			t.Errorf("cleanLine(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestConsoleWait(t *testing.T) {
	r, w := io.Pipe()
	c := readConsole(r, io.Discard)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	// A line and an escape sequence that arrive in parts are still one line.
	go func() {
		for _, part := range []string{"first\r\nsec", "ond \x1b[", "32mline\x1b[0m\r", "\n"} {
			_, _ = io.WriteString(w, part)
		}
	}()
	if l, err := c.Wait(ctx, regexp.MustCompile(`^second line$`)); err != nil {
		t.Fatalf("line %q: %v", l.Text, err)
	}
	if _, err := c.Wait(ctx, regexp.MustCompile(`^first$`)); err != nil {
		t.Errorf("a line that has passed: %v", err)
	}

	short, stop := context.WithTimeout(ctx, 10*time.Millisecond)
	defer stop()
	if _, err := c.Wait(short, regexp.MustCompile(`third`)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait for a line that does not come: %v", err)
	}

	_, _ = io.WriteString(w, "[ 1.0] Kernel panic - not syncing: VFS\n")
	if _, err := c.Wait(ctx, regexp.MustCompile(`third`)); err == nil || !strings.Contains(err.Error(), "VFS") {
		t.Errorf("wait after a panic: %v", err)
	}
	_ = w.Close()
	<-c.end
	if _, err := c.Wait(ctx, regexp.MustCompile(`^nothing$`)); err == nil {
		t.Error("wait on a closed console found a line")
	}
	if _, ok := c.Find(regexp.MustCompile(`^second`)); !ok {
		t.Error("Find does not see an earlier line")
	}
}
