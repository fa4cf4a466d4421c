package strictyaml

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"swarmboot/internal/field"
)

type Sample struct {
	Name  string            `json:"name"`
	Modes []string          `json:"modes"`
	Items []item            `json:"items"`
	Words map[string]string `json:"words"`
	On    *bool             `json:"on"`
}

type item struct {
	Count int `json:"count"`
	Inner `yaml:",inline"`
}

type Inner struct {
	Label string `json:"label"`
}

const good = `# a comment
name: seven
modes: [0644, "0755", 1.20]
items:
  - count: 3
    label: one
  - {count: 4, label: two}
words: {a: b}
on: true
`

func TestRead(t *testing.T) {
	var v Sample
	d, err := Read("x.yaml", []byte(good), 1000, &v)
	if err != nil {
		t.Fatal(err)
	}
	if v.Name != "seven" || len(v.Items) != 2 || v.Items[1].Count != 4 || v.Items[1].Label != "two" || v.Words["a"] != "b" || v.On == nil || !*v.On {
		t.Errorf("%+v", v)
	}
	if want := []string{"0644", "0755", "1.20"}; !slices.Equal(v.Modes, want) {
		t.Errorf("modes %q, want %q", v.Modes, want)
	}
	for _, tt := range []struct {
		path []any
		want string
	}{
		{[]any{"name"}, "x.yaml:2:1: name: bad"},
		{[]any{"modes", 1}, "x.yaml:3:15: modes[1]: bad"},
		{[]any{"items", 0, "label"}, "x.yaml:6:5: items[0].label: bad"},
		{[]any{"items", 0, "missing"}, "x.yaml:5:5: items[0].missing: bad"}, // what is nearest above it
		{[]any{"items", 1}, "x.yaml:7:6: items[1]: bad"},
		{[]any{"items", 9, "label"}, "x.yaml:4:1: items[9].label: bad"},
		{[]any{"missing"}, "x.yaml: missing: bad"},
	} {
		if got := d.Error(&field.Error{Path: tt.path, Reason: "bad"}).Error(); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.path, got, tt.want)
		}
	}
}

// Words stay as they are written, wherever they stand.
func TestWordsAsWritten(t *testing.T) {
	var v struct {
		Sample `yaml:",inline"`
		Text   *string             `json:"text"`
		Own    yesNo               `json:"own"`
		Lists  map[string][]string `json:"lists"`
		hidden string
	}
	v.hidden = "7"
	text := "text: 0x10\nown: 0x10\nname: 1_000\nmodes: [1.10, .inf, True, 1e3]\nitems: [{count: 0x10, label: 010}]\nwords: {a: 007, 12: 0o7}\nlists: {b: [1.0]}\non: true\n"
	if _, err := Read("x.yaml", []byte(text), 1000, &v); err != nil {
		t.Fatal(err)
	}
	for _, tt := range [][2]string{{*v.Text, "0x10"}, {v.Name, "1_000"}, {strings.Join(v.Modes, " "), "1.10 .inf True 1e3"}, {v.Items[0].Label, "010"},
		{v.Words["a"], "007"}, {v.Words["12"], "0o7"}, {v.Lists["b"][0], "1.0"}} {
		if tt[0] != tt[1] {
			t.Errorf("%q, written was %q", tt[0], tt[1])
		}
	}
	if v.Items[0].Count != 16 || !*v.On || v.Own != "decoded itself" {
		t.Errorf("%+v", v)
	}
}

type yesNo string

func (y *yesNo) UnmarshalYAML(func(any) error) error {
	*y = "decoded itself"
	return nil
}

// A file of nothing is one that is being written, or was cut off; who means nothing says so.
func TestEmpty(t *testing.T) {
	for _, text := range []string{"", "\n", "\r\n", "# nothing\n", "---\n", "---\n# nothing\n", "---\n---\n", "---\n---\nname: x\n", "...\n", "%YAML 1.2\n---\n"} {
		v := Sample{Name: "as it was"}
		_, err := Read("x.yaml", []byte(text), 100, &v)
		if err == nil || err.Error() != "x.yaml: is empty: write {} if that is meant" || v.Name != "as it was" {
			t.Errorf("%q: %+v, %v", text, v, err)
		}
	}
	for _, text := range []string{"{}", "---\n{}\n", "# nothing\n{}\n", "{}\n---\n"} {
		v := Sample{Name: "as it was"}
		d, err := Read("x.yaml", []byte(text), 100, &v)
		if err != nil || v.Name != "as it was" {
			t.Errorf("%q: %+v, %v", text, v, err)
			continue
		}
		if got := d.Error(&field.Error{Path: []any{"name"}, Reason: "is missing"}).Error(); !strings.HasPrefix(got, "x.yaml") || !strings.HasSuffix(got, "name: is missing") {
			t.Errorf("%q: %s", text, got)
		}
	}
}

// Each wrong file ends in an error that says where, and never in a value that is half filled in and taken for whole.
func TestRefused(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"nme: x\n", `x.yaml:1:1: unknown field "nme"`},
		{"items:\n  - count: 1\n    lbel: x\n", `x.yaml:3:5: unknown field "lbel"`},
		{"name: [1, 2]\n", "x.yaml:1:7: "},
		{"items: 3\n", "x.yaml:1:8: "},
		{"items:\n  - {count: many}\n", "x.yaml:2:13: "},
		{"name: a\nname: b\n", `x.yaml:2:1: mapping key "name" already defined`},
		{"words: {a: b, a: c}\n", "already defined"},
		{"name: &x a\nmodes: [*x]\n", "anchors, aliases and tags are not taken"},
		{"name: !!str 7\n", "x.yaml:1:7: anchors, aliases and tags are not taken"},
		{"words:\n  <<: {a: b}\n", "anchors, aliases and tags are not taken"},
		{"name: a\n---\nname: b\n", "x.yaml:3:1: a second document: a file has one"},
		{"name: \"open\n", "x.yaml:1:7: "},
		{"name: a\n\tmodes: []\n", "x.yaml:2:1: "},
		{"name: a\nwords:\n", "x.yaml:2:8: has no value: "}, // cut before what stood there
		{"words:\n  a:\n  b: c\n", "x.yaml:2:5: has no value: "},
		{"items:\n  - count: 1\n  -", "x.yaml:3:5: has no value: "},
		{"null\n", "x.yaml:1:1: has no value: "},
		{"- a\n- b\n", "x.yaml:1:"},
		{"just words\n", "x.yaml:1:1: "},
		{strings.Repeat("#", 5000), "x.yaml: more than 1000 bytes"},
	} {
		var v Sample
		_, err := Read("x.yaml", []byte(tt.text), 1000, &v)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.60q: %v, want %s", tt.text, err, tt.want)
		}
	}
}

// FuzzRead: whatever the bytes are, there is an error that names the file, or a value; every place in it has a line of the file.
func FuzzRead(f *testing.F) {
	for _, h := range hostile {
		f.Add([]byte(h.make(4096)))
	}
	for _, s := range []string{good, "", "a: &x [*x]", "a: !!binary x", "? a\n: b\n", "a: |\n  b\n", "%YAML 1.2\n---\na: b\n...\n", "a: \x00", "<<: {}", "{a: [b, {c: d}]}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v Sample
		d, err := Read("x.yaml", b, 4096, &v)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.File != "x.yaml" || e.Reason == "" {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		lines := strings.Count(string(b), "\n") + strings.Count(string(b), "\r") + 1
		for _, path := range [][]any{{"name"}, {"modes", 0}, {"items", 0, "count"}, {"items", 1, "label"}, {"words", "a"}, {0}, {"items", "x", 3}} {
			if e := d.Error(&field.Error{Path: path, Reason: "bad"}); e.Line < 0 || e.Line > lines {
				t.Fatalf("%v stands in line %d of %d", path, e.Line, lines)
			}
			_ = fmt.Sprint(v)
		}
	})
}
