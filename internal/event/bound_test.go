package event

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// crowded has more of everything than a report may have; text is what its texts are made of.
func crowded(phase Phase, text string) Progress {
	long := strings.Repeat(text, MaxReport)
	p := Progress{Node: "52:54:00:00:00:0a", Run: "r", Phase: phase, Message: long, Disk: long, Error: long}
	for i := range 200 {
		p.Warnings, p.Arrays = append(p.Warnings, fmt.Sprint(i, long)), append(p.Arrays, fmt.Sprint(i, long))
	}
	for range 16 {
		p.Hooks = append(p.Hooks, Hook{Name: "h", Point: PhaseAfterWrite, Output: long, Error: long})
	}
	for range 32 {
		p.Steps = append(p.Steps, Step{Name: PhaseAfterWrite, Seconds: 1234.56789})
	}
	return p
}

func TestBody(t *testing.T) {
	for _, text := range []string{"x", "<", "\x01", "\xff", "é", "日"} { // JSON writes some of them in six bytes
		for _, phase := range []Phase{PhaseFetch, PhaseDone, PhasePlan} {
			p := crowded(phase, text)
			first := p.Warnings[15]
			b, err := p.Body()
			if err != nil || len(b) > MaxReport {
				t.Errorf("%q, %s: %d bytes, %v", text, phase, len(b), err)
			}
			if p.Warnings[15] != first || len(p.Hooks[0].Output) < MaxReport {
				t.Errorf("%q, %s: the node's own report was cut", text, phase)
			}
			var got Progress
			if err := json.Unmarshal(b, &got); err != nil {
				t.Fatal(err)
			}
			if got.Phase != phase || len(got.Steps) != 32 || len(got.Hooks) != 16 || got.Message == "" {
				t.Errorf("%q, %s: %+v", text, phase, got)
			}
			if w := got.Warnings; len(w) != MaxWarnings || w[0][0] != '0' || w[15] != "185 more warnings, which are not shown" {
				t.Errorf("%q, %s: warnings %q", text, phase, w)
			}
		}
	}
}

func TestBound(t *testing.T) {
	p := Progress{Message: strings.Repeat("é", MaxText), Warnings: []string{"a", "b"}}
	p.Bound()
	if len(p.Message) > MaxText || !utf8.ValidString(p.Message) || !strings.HasSuffix(p.Message, "é ... (cut)") {
		t.Errorf("message of %d bytes ends in %q", len(p.Message), p.Message[len(p.Message)-20:])
	}
	if len(p.Warnings) != 2 || p.Warnings[1] != "b" {
		t.Errorf("warnings %q", p.Warnings)
	}
	plan := strings.Repeat("line\n", MaxText) // more than other messages may have
	p = Progress{Phase: PhasePlan, Message: plan, Error: strings.Repeat("x", MaxText)}
	p.Bound()
	if p.Message != plan || len(p.Error) != MaxText {
		t.Errorf("%d bytes of a plan, %d of an error", len(p.Message), len(p.Error))
	}
}
