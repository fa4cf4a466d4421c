package scenario

import (
	"regexp"
	"time"

	"swarmboot/internal/event"
	"swarmboot/internal/web"
)

// Moment is something that happened on a node, since its power-on.
type Moment struct {
	What string
	At   time.Duration
}

// What the moments of a deployment are called, in their order.
const (
	MomentIPXE    = "iPXE runs its script"
	MomentKernel  = "kernel of the node"
	MomentJoined  = "node reports to the server"
	MomentFetch   = "first pieces"
	MomentWritten = "all pieces on the disk"
	MomentLoaded  = "kernel of the image loaded"
	MomentKexec   = "kernel of the image runs"
	MomentSystemd = "its systemd runs"
	MomentUser    = "multi-user.target"
)

// Moments lists them in order.
var Moments = []string{
	MomentIPXE, MomentKernel, MomentJoined, MomentFetch, MomentWritten, MomentLoaded, MomentKexec, MomentSystemd, MomentUser,
}

var (
	ipxeLine    = regexp.MustCompile(`swarmboot: deploying`)
	kernelLine  = regexp.MustCompile(`Linux version `)
	panics      = regexp.MustCompile(`Kernel panic - not syncing`)
	systemdLine = regexp.MustCompile(`systemd\[1\]: (systemd .* running in|Detected )`)
)

// Timeline collects the moments of a node from its console and its reports.
type Timeline struct {
	node *Node
	seen map[string]time.Duration
}

// NewTimeline begins a timeline.
func NewTimeline(n *Node) *Timeline { return &Timeline{n, map[string]time.Duration{}} }

func (t *Timeline) set(what string, at time.Duration) bool {
	if _, ok := t.seen[what]; ok {
		return false
	}
	t.seen[what] = at
	return true
}

// At tells when a moment was; false when it has not come.
func (t *Timeline) At(what string) (time.Duration, bool) {
	at, ok := t.seen[what]
	return at, ok
}

// Last is the latest moment so far.
func (t *Timeline) Last() string {
	for i := len(Moments) - 1; i >= 0; i-- {
		if _, ok := t.seen[Moments[i]]; ok {
			return Moments[i]
		}
	}
	return "power on"
}

// Update looks at the console and at the node's last report, which may be the zero value, and returns the new moments.
func (t *Timeline) Update(w web.Node) []Moment {
	var fresh []Moment
	add := func(what string, at time.Duration) {
		if t.set(what, at) {
			fresh = append(fresh, Moment{what, at})
		}
	}
	now := time.Since(t.node.Started)
	if w.Node != "" {
		if w.Phase != event.PhaseFailed {
			add(MomentJoined, now)
		}
		if w.PiecesDone > 0 {
			add(MomentFetch, now)
		}
		if w.Phase.Complete() {
			add(MomentWritten, now)
		}
		if w.Phase == event.PhaseDone {
			add(MomentLoaded, now)
		}
	}
	kernels := 0
	for _, l := range t.node.VM.Console.Lines() {
		switch {
		case ipxeLine.MatchString(l.Text):
			add(MomentIPXE, l.At)
		case kernelLine.MatchString(l.Text):
			kernels++
			add([]string{MomentKernel, MomentKexec}[min(kernels, 2)-1], l.At)
		case kernels > 1 && systemdLine.MatchString(l.Text):
			add(MomentSystemd, l.At)
		case reportLine.MatchString(l.Text):
			add(MomentUser, l.At)
		}
	}
	return fresh
}
