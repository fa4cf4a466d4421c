package layout

import (
	"fmt"
	"strings"
)

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
