// Package progress shows how far a long job of known size is: a bar with rate
// and time left on a terminal, a plain line every few seconds elsewhere.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// lineEvery is the time between two plain lines.
const lineEvery = 5 * time.Second

// Bar reports one job. Its methods may be called from several goroutines. A nil Bar says nothing.
type Bar struct {
	mu    sync.Mutex
	w     io.Writer
	label string
	tty   bool
	bar   *progressbar.ProgressBar

	start, last time.Time
	done, total int64
	now         func() time.Time
}

// New returns a bar that writes to w with label in front. Whether it is a bar or lines depends on w being a terminal.
func New(w io.Writer, label string) *Bar {
	return newBar(w, label, IsTerminal(w), time.Now)
}

func newBar(w io.Writer, label string, tty bool, now func() time.Time) *Bar {
	t := now()
	return &Bar{w: w, label: label, tty: tty, start: t, last: t, now: now}
}

// IsTerminal says whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Set says that done of total bytes are over; total may grow from call to call.
func (b *Bar) Set(done, total int64) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done, b.total = done, total
	if b.tty {
		b.draw()
		return
	}
	if now := b.now(); now.Sub(b.last) >= lineEvery {
		b.last = now
		fmt.Fprintln(b.w, b.line(now))
	}
}

// Finish ends the bar, on a terminal with a new line, elsewhere with a last line that gives size, time and rate.
func (b *Bar) Finish() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if b.bar != nil {
		b.bar.Exit() //nolint:errcheck // only stops drawing
		fmt.Fprintln(b.w)
		b.bar = nil
		return
	}
	if b.done > 0 {
		fmt.Fprintf(b.w, "%s: %s in %.1f s, %s/s\n", b.label, Bytes(b.done), now.Sub(b.start).Seconds(), Bytes(rate(b.done, now.Sub(b.start))))
	}
}

func (b *Bar) draw() {
	if b.bar == nil {
		b.bar = progressbar.NewOptions64(b.total,
			progressbar.OptionSetWriter(b.w), progressbar.OptionSetDescription(b.label),
			progressbar.OptionShowBytes(true), progressbar.OptionUseIECUnits(true), progressbar.OptionShowTotalBytes(true),
			progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionSetWidth(30), progressbar.OptionFullWidth())
	}
	if b.bar.GetMax64() != b.total {
		b.bar.ChangeMax64(b.total)
	}
	b.bar.Set64(b.done) //nolint:errcheck // a terminal that cannot be drawn on is not an error of the job
}

func (b *Bar) line(now time.Time) string {
	r := rate(b.done, now.Sub(b.start))
	s := fmt.Sprintf("%s: %d%%, %s of %s, %s/s", b.label, percent(b.done, b.total), Bytes(b.done), Bytes(b.total), Bytes(r))
	if r > 0 && b.total > b.done {
		s += fmt.Sprintf(", %s left", (time.Duration((b.total-b.done)/r) * time.Second).String())
	}
	return s
}

func percent(done, total int64) int64 {
	if total <= 0 {
		return 100
	}
	return int64(float64(done) / float64(total) * 100)
}

func rate(n int64, d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return int64(float64(n) / d.Seconds())
}

// Bytes writes a number of bytes for people: binary units, one decimal from KiB on.
func Bytes(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for ; f >= 1024 && i < len(units)-1; i++ {
		f /= 1024
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}
