// Package field collects what is wrong with a description that people write (a profile, a layout), field by field.
package field

import (
	"fmt"
	"slices"
	"strings"
)

// Error says which field is wrong and why.
type Error struct {
	Path   []any // names (string) and indices (int) from the top
	Reason string
}

func (e *Error) Error() string { return e.Field() + ": " + e.Reason }

// Field is the path as text, such as candidates[0].disks[1].count.
func (e *Error) Field() string {
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

// Checker collects what is wrong at a path and below it. The zero Checker collects nothing.
type Checker struct {
	at   []any
	errs *[]*Error
}

// New returns a Checker for the top of a description, which appends to errs.
func New(errs *[]*Error) Checker { return Checker{errs: errs} }

// In returns a Checker for what lies at path below c.
func (c Checker) In(path ...any) Checker { return Checker{append(slices.Clone(c.at), path...), c.errs} }

// Fail says what is wrong at this path.
func (c Checker) Fail(format string, args ...any) {
	if c.errs != nil {
		*c.errs = append(*c.errs, &Error{c.at, fmt.Sprintf(format, args...)})
	}
}
