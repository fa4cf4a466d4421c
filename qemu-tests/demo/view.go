package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"swarmboot/internal/event"
	"swarmboot/internal/progress"
	"swarmboot/internal/web"
	"swarmboot/qemu-tests/scenario"
)

// lineEvery is the time between two lines about a node that is fetching, where there is no terminal.
const lineEvery = 5 * time.Second

// view shows all nodes: a line each that is drawn again on a terminal, plain lines elsewhere.
type view struct {
	w     io.Writer
	tty   bool
	drawn int // lines that are to be overwritten
	last  map[*scenario.Node]time.Time
}

func newView(w io.Writer) *view {
	return &view{w: w, tty: progress.IsTerminal(w), last: map[*scenario.Node]time.Time{}}
}

func (v *view) update(all []*scenario.Outcome, fresh map[*scenario.Node][]scenario.Moment) {
	if v.tty {
		if v.drawn > 0 {
			fmt.Fprintf(v.w, "\x1b[%dA", v.drawn)
		}
		// A line that wraps would not be overwritten.
		width := columns(v.w) - 1
		for _, o := range all {
			l := "   " + line(o)
			fmt.Fprintf(v.w, "\r\x1b[K%s\n", l[:min(len(l), width)])
		}
		v.drawn = len(all)
		return
	}
	now := time.Now()
	for _, o := range all {
		n := o.Node
		for _, m := range fresh[n] {
			fmt.Fprintf(v.w, "   %s %5.1f s  %s\n", n.Name, m.At.Seconds(), m.What)
		}
		if o.Status.Phase == event.PhaseFetch && now.Sub(v.last[n]) >= lineEvery {
			v.last[n] = now
			fmt.Fprintf(v.w, "   %s\n", line(o))
		}
	}
}

// columns is the width of the terminal w.
func columns(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 1 {
			return n
		}
	}
	return 80
}

// end leaves the last state on the terminal.
func (v *view) end() { v.drawn = 0 }

// line says where a node is.
func line(o *scenario.Outcome) string {
	s := o.Status
	head := fmt.Sprintf("%s %5.1f s  ", o.Node.Name, elapsed(o).Seconds())
	if s.Phase != event.PhaseFetch {
		what := o.Timeline.Last()
		if s.Phase != "" && s.Phase != event.PhaseDone {
			what += ": " + string(s.Phase)
		}
		return head + what
	}
	share := 0.0
	if s.BytesTotal > 0 {
		share = float64(s.BytesDone) / float64(s.BytesTotal)
	}
	const width = 16
	filled := int(share * width)
	bar := strings.Repeat("#", filled) + strings.Repeat("-", width-filled)
	return fmt.Sprintf("%sfetch [%s] %3.0f%%  %s/s  server %s, nodes %s, sent %s", head, bar, share*100,
		progress.Bytes(s.Rate), progress.Bytes(s.FromServer), progress.Bytes(s.FromNodes), progress.Bytes(s.Uploaded))
}

func elapsed(o *scenario.Outcome) time.Duration {
	if at, ok := o.Timeline.At(scenario.MomentUser); ok {
		return at
	}
	return time.Since(o.Node.Started)
}

// summary prints what each node went through; it fails when a system is not what was imaged.
func summary(w io.Writer, f *scenario.Files, image web.ImageInfo, all []*scenario.Outcome) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, cell func(*scenario.Outcome) string) {
		fmt.Fprintf(t, "   %s", name)
		for _, o := range all {
			fmt.Fprintf(t, "\t%s", cell(o))
		}
		fmt.Fprintln(t)
	}
	row("seconds since power-on", func(o *scenario.Outcome) string { return o.Node.Name })
	for _, m := range scenario.Moments {
		row("  "+m, func(o *scenario.Outcome) string {
			if at, ok := o.Timeline.At(m); ok {
				return fmt.Sprintf("%.1f", at.Seconds())
			}
			return "-"
		})
	}
	row("steps of the node, seconds", func(*scenario.Outcome) string { return "" })
	for i, s := range all[0].Status.Steps {
		row("  "+string(s.Name), func(o *scenario.Outcome) string {
			if i < len(o.Status.Steps) {
				return fmt.Sprintf("%.2f", o.Status.Steps[i].Seconds)
			}
			return "-"
		})
	}
	row("from the server", func(o *scenario.Outcome) string { return progress.Bytes(o.Status.FromServer) })
	row("from other nodes", func(o *scenario.Outcome) string { return progress.Bytes(o.Status.FromNodes) })
	row("sent to other nodes", func(o *scenario.Outcome) string { return progress.Bytes(o.Status.Uploaded) })
	row("written to its disk", func(o *scenario.Outcome) string { return progress.Bytes(o.Status.BytesDone) })
	row("root PARTUUID", func(o *scenario.Outcome) string { return o.Report.RootPARTUUID })
	row("kernel", func(o *scenario.Outcome) string { return o.Report.Kernel })
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "   payload %s for %s of disk data; the server sent %s to %d nodes\n",
		progress.Bytes(image.PayloadLength), progress.Bytes(image.UsedBytes), progress.Bytes(image.Uploaded), len(all))
	for _, o := range all {
		if err := f.Check(o.Report); err != nil {
			return fmt.Errorf("%s: %w", o.Node.Name, err)
		}
		fmt.Fprintf(w, "   %s runs the imaged system: root and the checksum of a known file are right, multi-user.target is active\n", o.Node.Name)
	}
	return nil
}
