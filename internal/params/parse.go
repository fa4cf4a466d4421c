package params

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
)

// Param is one word of a kernel command line.
type Param struct {
	Name, Value string
	HasValue    bool // there was a "="
}

// Split cuts a kernel command line into parameters by the kernel's rules
// (lib/cmdline.c, next_arg): blanks separate, except between double quotes;
// quotes around a value, or around the whole parameter, are dropped; there is
// no escape character. A word "--" ends the kernel's part: what follows is init's and left out.
func Split(line string) []Param {
	var out []Param
	for {
		line = strings.TrimLeft(line, " \t\n\v\f\r\x00")
		if line == "" {
			return out
		}
		end := wordEnd(line)
		p := parseWord(line[:end])
		if p.Name == "--" && !p.HasValue {
			return out
		}
		out, line = append(out, p), line[end:]
	}
}

func wordEnd(s string) int {
	quoted := false
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case !quoted && strings.IndexByte(" \t\n\v\f\r\x00", c) >= 0:
			return i
		}
	}
	return len(s)
}

func parseWord(word string) Param {
	if rest, ok := strings.CutPrefix(word, `"`); ok {
		word = strings.TrimSuffix(rest, `"`)
	}
	name, value, has := strings.Cut(word, "=")
	if rest, ok := strings.CutPrefix(value, `"`); ok {
		value = strings.TrimSuffix(rest, `"`)
	}
	return Param{name, value, has}
}

// Error says which parameter is wrong and why.
type Error struct {
	Name   string // with Prefix
	Value  string
	Reason string
}

func (e *Error) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("%s: %s", e.Name, e.Reason)
	}
	return fmt.Sprintf("%s=%.200q: %s", e.Name, e.Value, e.Reason)
}

// ParseCmdline reads a kernel command line (the content of /proc/cmdline).
// Every parameter that is wrong is reported, each as *Error, joined. The Config
// is usable beside an error too: it holds what was understood, so that a node
// can still find its server and report the error there, and act by OnError.
func ParseCmdline(line string) (*Config, error) {
	c := Default()
	var errs []error
	seen := map[string]string{}
	for _, p := range Split(line) {
		if p.Name == "console" && p.HasValue {
			c.Console = append(c.Console, p.Value)
		}
		name, ours := strings.CutPrefix(p.Name, Prefix)
		if !ours {
			continue
		}
		old, dup := seen[name]
		seen[name] = p.Value
		if dup {
			if old != p.Value {
				errs = append(errs, &Error{p.Name, p.Value, fmt.Sprintf("given before as %.200q", old)})
			}
			continue
		}
		if err := set(c, p, name); err != nil {
			errs = append(errs, err)
		}
	}
	if c.Action != ActionShell && c.Image == "" && len(errs) == 0 {
		errs = append(errs, &Error{Prefix + "image", "", "missing: which image is to be deployed?"})
	}
	return c, errors.Join(errs...)
}

func set(c *Config, p Param, name string) error {
	d := find(name)
	if d == nil {
		return &Error{p.Name, p.Value, "no such parameter" + hint(name)}
	}
	if !p.HasValue {
		return &Error{p.Name, "", "needs a value: " + d.value}
	}
	if err := d.set(c, p.Value); err != nil {
		return &Error{p.Name, p.Value, err.Error()}
	}
	return nil
}

func find(name string) *definition {
	for i := range definitions {
		if definitions[i].name == name {
			return &definitions[i]
		}
	}
	return nil
}

// hint names the parameter that was probably meant.
func hint(name string) string {
	best, dist := "", 3 // more than two slips is another word
	for _, d := range definitions {
		if n := distance(strings.ToLower(name), d.name); n < dist && n < len(d.name) {
			best, dist = d.name, n
		}
	}
	if best == "" {
		return "; known: " + strings.Join(Names(), ", ")
	}
	return "; " + Prefix + best + "?"
}

// distance is the Levenshtein distance of a and b, which it cuts to 64 bytes.
func distance(a, b string) int {
	a, b = a[:min(len(a), 64)], b[:min(len(b), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, row[j]+1, diag+1)
		}
	}
	return row[len(b)]
}

// Names lists the parameters, with Prefix, in alphabetical order.
func Names() []string {
	names := make([]string, len(definitions))
	for i, d := range definitions {
		names[i] = Prefix + d.name
	}
	return names
}

// Help is a table of all parameters for help texts and documentation.
func Help() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	for _, d := range definitions {
		text := d.text
		if d.def != "" {
			text += " (default " + d.def + ")"
		}
		fmt.Fprintf(w, "%s%s=%s\t%s\n", Prefix, d.name, d.value, text)
	}
	w.Flush()
	return b.String()
}
