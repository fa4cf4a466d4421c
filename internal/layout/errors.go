package layout

import (
	"fmt"
	"strings"
)

// FieldError says which field of a layout is wrong and why.
type FieldError struct {
	Path   []any // names (string) and indices (int) from the top
	Reason string
}

func (e *FieldError) Error() string { return e.Field() + ": " + e.Reason }

// Field is the path as text, such as candidates[0].disks[1].count.
func (e *FieldError) Field() string {
	var b strings.Builder
	for i, p := range e.Path {
		switch p := p.(type) {
		case int:
			fmt.Fprintf(&b, "[%d]", p)
		case string:
			if i > 0 {
				b.WriteByte('.')
			}
			b.WriteString(p)
		}
	}
	return b.String()
}

// NoCandidateError says that the disks of a machine fit no candidate.
type NoCandidateError struct {
	Reasons []string // one for every candidate, of several lines
}

func (e *NoCandidateError) Error() string {
	return "the disks of this machine fit no candidate of the layout:\n" + strings.Join(e.Reasons, "\n")
}

// RefusedError says why the candidate that was taken, or an image, cannot be put on the disks.
type RefusedError struct {
	Candidate string // "" without a layout
	Device    string // path, "" where it is about no single disk
	Reason    string
}

func (e *RefusedError) Error() string {
	var s string
	if e.Candidate != "" {
		s = fmt.Sprintf("candidate %q: ", e.Candidate)
	}
	if e.Device != "" {
		s += e.Device + ": "
	}
	return s + e.Reason
}
