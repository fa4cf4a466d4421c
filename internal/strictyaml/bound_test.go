package strictyaml

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// hostile are documents of about n bytes that would take much memory or time.
var hostile = []struct {
	name, want string
	make       func(n int) string
}{
	{"lists", "x.yaml:1:39: nested more than 32 deep", repeated("words: ", "[")},
	{"maps", "x.yaml:1:132: nested more than 32 deep", repeated("words: ", "{a: ")},
	{"dashes", "x.yaml:1:65: nested more than 32 deep", repeated("", "- ")},
	{"keys", "x.yaml:1:65: nested more than 32 deep", repeated("", "? ")},
	{"values", "nested more than 32 deep", repeated("", "a: ")},
	{"dashes and keys", "nested more than 32 deep", repeated("", "- a: ")},
	{"stairs of keys", "x.yaml:33:34: nested more than 32 deep", stairs("a:")},
	{"stairs of dashes", "x.yaml:33:33: nested more than 32 deep", stairs("-")},
	{"block and flow", "x.yaml:20:14: nested more than 32 deep", func(n int) string { return stairs("a:")(19*12) + strings.Repeat("[", n) }},
	{"anchors", "x.yaml:1:8: " + noReferences, repeated("words: ", "&a &b ")},
	{"tags", "x.yaml:1:8: " + noReferences, repeated("words: ", "!!a ")},
	{"aliases", noReferences, func(n int) string {
		b := []byte("a0: &a0 [x]\n")
		for i := 1; len(b) < n; i++ {
			b = fmt.Appendf(b, "a%d: &a%d [*a%d,*a%d]\n", i, i, i-1, i-1)
		}
		return string(b)
	}},
	{"entries", "words and signs", repeated("modes: [", "[],")},
	{"ends", "words and signs", repeated("modes: ", "]")},
	{"comments", "words and signs", repeated("", "#\n")},
	{"signs", "words and signs", repeated("", "@")},
	{"folded lines", "x.yaml:2:1: more than 200 blank lines in a row", repeated("name: >\n", "\n")},
	{"lines of CR", "x.yaml:2:1: more than 200 blank lines in a row", repeated("name: |\n", "\r")},
	{"lines of CRLF", "x.yaml:3:1: more than 200 blank lines in a row", repeated("name: |\n x\n", " \r\n")},
}

func repeated(before, unit string) func(int) string {
	return func(n int) string { return before + strings.Repeat(unit, n/len(unit)) }
}

// stairs puts each word on a line of its own, below the one before.
func stairs(word string) func(int) string {
	return func(n int) string {
		var b strings.Builder
		for i := 0; b.Len() < n; i++ {
			b.WriteString(strings.Repeat(" ", i) + word + "\n")
		}
		return b.String()
	}
}

// What no description looks like is refused before it takes much memory, and the error says where.
func TestHostile(t *testing.T) {
	const n = 160 << 10
	for _, h := range hostile {
		t.Run(h.name, func(t *testing.T) {
			text := h.make(n)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			var v Sample
			_, err := Read("x.yaml", []byte(text), 2*n, &v)
			runtime.ReadMemStats(&after)
			var e *Error
			if !errors.As(err, &e) || e.Line == 0 || !strings.Contains(err.Error(), h.want) {
				t.Errorf("%.200v, want %s", err, h.want)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 1024*n {
				t.Errorf("%d bytes took %d MiB", len(text), took>>20)
			}
		})
	}
}

// What is just within the bounds is read: the deepest nesting, each list as deep as the key that it belongs to, and much text.
func TestWithinBounds(t *testing.T) {
	var deep any
	for _, text := range []string{
		strings.Repeat("[", maxDepth) + "x" + strings.Repeat("]", maxDepth),
		strings.Repeat("- ", maxDepth) + "x\n",
		"a:\n- b:\n  - c:\n" + strings.Repeat("    - d:\n      - x\n", 1000),
		strings.Repeat("- a: {b: [c, {d: e}]}\n  f:\n          g:\n                  h: i\n", 1000),
		"a: |\n" + strings.Repeat("  x\n"+strings.Repeat("\n", maxBlank), 50) + "  y\n",
	} {
		if _, err := Read("x.yaml", []byte(text), 1<<20, &deep); err != nil {
			t.Errorf("%.60q: %v", text, err)
		}
	}
}
