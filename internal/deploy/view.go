package deploy

import (
	"fmt"
	"io"

	"swarmboot/internal/event"
	"swarmboot/internal/progress"
)

// View tells people of a run's reports: a line for every step and remark, a bar for the bytes.
type View struct {
	w       io.Writer
	bar     *progress.Bar
	phase   event.Phase
	message string
}

// NewView returns a view that writes to w.
func NewView(w io.Writer) *View { return &View{w: w} }

// Show takes one report; reports of one run come one after the other.
func (v *View) Show(p event.Progress) {
	if p.Phase != v.phase {
		v.enter(p)
	}
	if p.Message != "" && p.Message != v.message {
		v.message = p.Message
		fmt.Fprintf(v.w, "  %s\n", p.Message)
	}
	if p.Phase == event.PhaseFetch && p.BytesTotal > 0 {
		if v.bar == nil {
			v.bar = progress.New(v.w, string(p.Phase))
		}
		v.bar.Set(p.BytesDone, p.BytesTotal)
	}
}

// Close ends an open bar.
func (v *View) Close() {
	v.bar.Finish()
	v.bar = nil
}

func (v *View) enter(p event.Progress) {
	v.Close()
	v.phase = p.Phase
	switch p.Phase {
	case event.PhaseDone:
		v.summary(p)
	case event.PhasePlan:
		fmt.Fprintf(v.w, "a dry run: nothing was written\n")
	case event.PhaseFailed:
		fmt.Fprintf(v.w, "failed after %.1f s\n", p.Seconds)
	default:
		fmt.Fprintf(v.w, "%s\n", p.Phase)
	}
}

func (v *View) summary(p event.Progress) {
	fmt.Fprintf(v.w, "done in %.1f s: %s written to %s\n", p.Seconds, progress.Bytes(p.BytesDone), p.Disk)
	if p.FromServer+p.FromNodes+p.Uploaded > 0 {
		fmt.Fprintf(v.w, "received %s from the server and %s from nodes, sent %s\n",
			progress.Bytes(p.FromServer), progress.Bytes(p.FromNodes), progress.Bytes(p.Uploaded))
	}
	for _, warning := range p.Warnings {
		fmt.Fprintf(v.w, "warning: %s\n", warning)
	}
	for _, s := range p.Steps {
		fmt.Fprintf(v.w, "  %-10s %7.1f s\n", s.Name, s.Seconds)
	}
}
