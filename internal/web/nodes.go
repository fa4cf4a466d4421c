package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"swarmboot/internal/durable"
	"swarmboot/internal/event"
)

// Limits of the node table and of what a node may say.
const (
	maxNodes    = 65536 // three times the machines of the largest site that we plan for
	maxDeployed = 2 * maxNodes
	maxSteps    = 32
	maxHooks    = 16
	pastRuns    = 4
	maxStateLen = 256 << 20 // of the file with maxDeployed entries of the longest names
)

// LostAfter is how long a node that has not ended may be silent before it
// counts as lost.
const LostAfter = 30 * time.Second

// Node is a node as the API shows it: its last report and what the server knows.
type Node struct {
	event.Progress
	Addr     string    `json:"addr"`     // where its reports come from
	LastSeen time.Time `json:"lastSeen"` // by the server's clock
	Lost     bool      `json:"lost"`     // silent for LostAfter, and not ended
	Deployed string    `json:"deployed,omitempty"`
	// Deployed names the image that its disk holds; it boots from there until Redeploy.
}

// NodesOptions of a table.
type NodesOptions struct {
	// File keeps what was deployed where, so that a restarted server does not
	// deploy machines again; "" keeps it in memory only.
	File   string
	Folder *durable.Folder // the folder that File was in when it was read: it is written in no other one; nil = in any
	Logger *slog.Logger
	Now    func() time.Time // nil = time.Now
}

// Nodes is the table of nodes that have reported.
type Nodes struct {
	o NodesOptions

	mu       sync.Mutex
	nodes    map[string]*node
	deployed map[string]Deployment
	changes  int // of deployed

	byMAC  map[string][]string // the nodes with a deployment that have this address
	byUUID map[string][]string // the nodes with a deployment that have this UUID
	owners map[string]owner    // of UUIDs
	asked  map[string]string   // by address: the UUID, or "", with which a deployed machine asked last what to boot; cards and adapters move
	again  map[string]string   // by address: the UUID of the machine that is to be deployed again when it comes by it, although it is known by its UUID

	// saving is held while the file is written, never while holding mu: reports go on meanwhile.
	saving  sync.Mutex
	saves   int   // that were begun
	saved   int   // the changes that are in the file
	saveErr error // of the last save
}

type node struct {
	event.Progress
	addr string
	seen time.Time
	past []string // earlier runs, newest last
}

// Deployment is a finished deployment in the file.
type Deployment struct {
	Image string    `json:"image"`
	Run   string    `json:"run"`
	Time  time.Time `json:"time"`
	event.Machine

	// Again says that the node and another one with its UUID may be one machine: the admin had it deployed although it was known by the UUID,
	// or the card that it was named by is another machine's now.
	Again bool `json:"again,omitempty"`
	// ByUUID is set by Deployed where the UUID alone says that it is the machine: the node that has it.
	ByUUID string `json:"-"`
}

// NewNodes makes a table and reads its file if there is one.
func NewNodes(o NodesOptions) (*Nodes, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	t := &Nodes{o: o, nodes: map[string]*node{}, deployed: map[string]Deployment{},
		byMAC: map[string][]string{}, byUUID: map[string][]string{}, owners: map[string]owner{}, asked: map[string]string{}, again: map[string]string{}}
	if o.File == "" {
		return t, nil
	}
	f, err := os.Open(o.File)
	if errors.Is(err, os.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list of deployed nodes: %w", err)
	}
	defer f.Close()
	if err := json.NewDecoder(io.LimitReader(f, maxStateLen)).Decode(&t.deployed); err != nil {
		// Forgetting what is deployed would mean deploying it again over people's data.
		return nil, fmt.Errorf("list of deployed nodes %s: %w (remove it to deploy every node again)", o.File, err)
	}
	if t.deployed == nil {
		t.deployed = map[string]Deployment{}
	}
	for id, d := range t.deployed {
		d.UUID = ParseUUID(d.UUID) // an earlier server may have taken it for one
		t.deployed[id] = d
		t.find(id, d)
	}
	for _, again := range []bool{false, true} { // in this order: which node is met first must not decide which UUIDs count
		for id, d := range t.deployed {
			if d.Again == again {
				t.note(id, d.Machine)
			}
		}
	}
	return t, nil
}

// ErrFull says that there is no room for a node. It is the server's fault, not the report's.
var ErrFull = errors.New("full")

// Update takes a report that came from addr. A late one, of an earlier run or
// an earlier moment, changes nothing. When it returns nil, a finished deployment is
// in the file; with ErrNotSaved it is in the table alone.
func (t *Nodes) Update(p event.Progress, addr string) error {
	if err := check(&p); err != nil {
		return err
	}
	err := t.update(p, addr)
	if err == nil && p.Phase == event.PhaseDone {
		err = t.Save()
	}
	return err
}

func (t *Nodes) update(p event.Progress, addr string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.o.Now()
	t.note(p.Node, p.Machine)
	n := t.nodes[p.Node]
	switch {
	case n == nil:
		if len(t.nodes) >= maxNodes && !t.evict(now) {
			return fmt.Errorf("the node table is %w: %d nodes", ErrFull, maxNodes)
		}
		n = &node{}
		t.nodes[p.Node] = n
		t.o.Logger.Info("node joined", "node", p.Node, "address", addr)
	case n.Run != p.Run && slices.Contains(n.past, p.Run):
		return nil
	case n.Run != p.Run:
		n.past = append(n.past, n.Run)
		n.past = n.past[max(0, len(n.past)-pastRuns):]
		t.o.Logger.Info("node joined again", "node", p.Node, "address", addr)
		n.Phase, n.Hooks = "", nil
	case n.Phase.Ended() && !p.Phase.Ended(), p.Seconds < n.Seconds:
		n.seen = now
		return nil
	}
	if p.Phase != n.Phase {
		if p.Phase == event.PhaseDone {
			if old, known := t.deployed[p.Node]; (!known || anotherMachine(old.UUID, p.UUID)) && len(t.deployed) >= maxDeployed {
				t.o.Logger.Error("the list of deployed nodes is full: this node is deployed again when it boots from the network", "node", p.Node, "limit", maxDeployed)
				return fmt.Errorf("the list of deployed nodes is %w: %d nodes", ErrFull, maxDeployed)
			}
			t.put(p.Node, Deployment{Image: p.Image, Run: p.Run, Time: now.UTC(), Machine: p.Machine})
			delete(t.asked, p.Node)
			maps.DeleteFunc(t.again, func(mac, uuid string) bool { return mac == p.Node || uuid == p.UUID })
			t.changes++
		}
		t.log(p)
	}
	for _, h := range p.Hooks[min(len(n.Hooks), len(p.Hooks)):] {
		t.o.Logger.Info("node hook", "node", p.Node, "hook", h.Name, "point", h.Point, "seconds", h.Seconds, "error", h.Error, "output", h.Output)
	}
	n.Progress, n.addr, n.seen = p, addr, now
	return nil
}

// evict removes the longest silent node that counts as lost or has ended; with mu held.
func (t *Nodes) evict(now time.Time) bool {
	var oldest string
	for id, n := range t.nodes {
		silent := now.Sub(n.seen) > LostAfter
		if silent && (oldest == "" || n.seen.Before(t.nodes[oldest].seen)) {
			oldest = id
		}
	}
	delete(t.nodes, oldest)
	return oldest != ""
}

func (t *Nodes) log(p event.Progress) {
	log := t.o.Logger.With("node", p.Node, "image", p.Image, "seconds", int(p.Seconds))
	switch p.Phase {
	case event.PhaseDone:
		log.Info("node done", "disk", p.Disk, "from-server", p.FromServer, "from-nodes", p.FromNodes)
		for _, w := range p.Warnings {
			log.Warn("node done, but", "disk", p.Disk, "warning", w)
		}
	case event.PhaseFailed:
		log.Error("node failed", "disk", p.Disk, "error", p.Error, "exit-code", p.ExitCode)
	default:
		log.Info("node phase", "phase", p.Phase)
	}
}

// List returns every node by its name. A node that only the file knows is not listed.
func (t *Nodes) List() []Node {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Node, 0, len(t.nodes))
	for id, n := range t.nodes {
		lost := !n.Phase.Ended() && !t.running(id)
		out = append(out, Node{Progress: n.Progress, Addr: n.addr, LastSeen: n.seen.UTC(), Lost: lost, Deployed: t.deployed[t.lookUp(id, "")].Image})
	}
	slices.SortFunc(out, func(a, b Node) int { return strings.Compare(a.Node, b.Node) })
	return out
}

// running says whether a node has reported lately, and not that it has ended; with mu held.
func (t *Nodes) running(id string) bool {
	n := t.nodes[id]
	return n != nil && !n.Phase.Ended() && t.o.Now().Sub(n.seen) <= LostAfter
}

// CountDeployed is how many nodes boot from their disks.
func (t *Nodes) CountDeployed() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.deployed)
}

// Redeploy forgets that a node, given by any of its addresses, or with "all" every node, was deployed. It
// returns how many that were, and an error if there was none, or ErrNotSaved.
func (t *Nodes) Redeploy(id string) (int, error) {
	if mac, err := ParseMAC(id); err == nil {
		id = mac
	}
	n, err := t.forget(id)
	if n > 0 {
		err = t.Save()
		t.o.Logger.Info("redeployment asked for", "node", id, "nodes", n)
	}
	return n, err
}

var (
	nodeID    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$`)
	imageName = regexp.MustCompile(`^[A-Za-z0-9._+-]{0,128}$`)
	runID     = regexp.MustCompile(`^[A-Za-z0-9._:-]{0,64}$`)
	macText   = regexp.MustCompile(`^[0-9A-Fa-f]{2}([:-]?)[0-9A-Fa-f]{2}(?:[:-]?[0-9A-Fa-f]{2}){4}$`)
)

// ParseMAC reads 6 octets in hex, with colons, hyphens or nothing between
// them, and returns them in lower case with colons.
func ParseMAC(s string) (string, error) {
	if !macText.MatchString(s) {
		return "", fmt.Errorf("%.40q is not a MAC address", s)
	}
	hex := strings.ToLower(strings.NewReplacer(":", "", "-", "").Replace(s))
	var parts []string
	for i := 0; i < len(hex); i += 2 {
		parts = append(parts, hex[i:i+2])
	}
	return strings.Join(parts, ":"), nil
}

var phases = []event.Phase{event.PhaseBoot, event.PhaseManifest, event.PhaseBeforeDisks, event.PhaseSelect, event.PhaseWipe, event.PhasePartition, event.PhaseRAID,
	event.PhaseFetch, event.PhaseSync, event.PhaseVerify, event.PhaseMkfs, event.PhaseReread, event.PhaseSeed, event.PhaseGrow,
	event.PhaseAfterWrite, event.PhaseIdentity, event.PhaseUUIDs, event.PhaseTable, event.PhaseBeforeKexec, event.PhaseBootEntry,
	event.PhaseLoad, event.PhaseDone, event.PhasePlan, event.PhaseFailed}

// check refuses reports that make no sense and cuts texts and lists to a length.
func check(p *event.Progress) error {
	if mac, err := ParseMAC(p.Node); err == nil {
		p.Node = mac
	}
	switch {
	case !nodeID.MatchString(p.Node) || p.Node == "all":
		return fmt.Errorf("node %.100q is neither a MAC address nor a host name", p.Node)
	case !runID.MatchString(p.Run):
		return fmt.Errorf("run %.100q", p.Run)
	case !imageName.MatchString(p.Image):
		return fmt.Errorf("image %.200q", p.Image)
	case !slices.Contains(phases, p.Phase):
		return fmt.Errorf("unknown phase %.100q", string(p.Phase))
	case len(p.Steps) > maxSteps:
		return fmt.Errorf("%d steps", len(p.Steps))
	case len(p.Hooks) > maxHooks:
		return fmt.Errorf("%d hooks", len(p.Hooks))
	case p.PiecesDone < 0, p.PiecesTotal < p.PiecesDone, p.BytesDone < 0, p.BytesTotal < 0, p.Rate < 0,
		p.FromServer < 0, p.FromNodes < 0, p.Uploaded < 0, p.HashFailures < 0, p.Seconds < 0:
		return errors.New("numbers that cannot be")
	}
	for i := range p.Steps {
		if !slices.Contains(phases, p.Steps[i].Name) {
			return fmt.Errorf("unknown step %.100q", string(p.Steps[i].Name))
		}
	}
	for _, h := range p.Hooks {
		if !slices.Contains(phases, h.Point) {
			return fmt.Errorf("hook at unknown point %.100q", string(h.Point))
		}
	}
	p.Bound()
	cleanMachine(&p.Machine)
	cut(&p.Switch.ID, event.MaxSwitchID)
	for _, s := range []*string{&p.Switch.Name, &p.Switch.Port, &p.Switch.PortDescription} {
		cut(s, event.MaxSwitchText)
	}
	return nil
}

// cut shortens a text to at most n bytes of valid UTF-8.
func cut(s *string, n int) { *s = strings.ToValidUTF8((*s)[:min(len(*s), n)], "") }
