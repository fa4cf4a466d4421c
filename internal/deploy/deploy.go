// Package deploy is the node engine: an ordered list of named steps that put an
// image on a disk, from the server through the swarm (Run) or from a local
// payload (Restore).
//
// Two rules hold for both. Whatever can be checked is checked before the first
// write. And a disk whose content is not whole does not boot: until everything
// is verified its partition table has no partitions and no boot code (a disk without
// a table: no superblock), and a run that fails after its first write clears the table
// again (of a bare file system: its superblock).
package deploy

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/efiboot"
	"swarmboot/internal/event"
	"swarmboot/internal/params"
	"swarmboot/internal/swarm"
	"swarmboot/internal/target"
)

// Defaults of Options.
const (
	DefaultPatience = time.Minute
	DefaultStall    = 5 * time.Minute
	DefaultSeed     = 10 * time.Minute

	// silenceLimit ends seeding when the server has not answered for so long, twice the time that a report may take, and no peer
	// lacks pieces: nobody new can find this node. A peer that does is served on, until it has taken nothing for idleLimit.
	silenceLimit = 2 * postTimeout
	idleLimit    = 30 * time.Second
	feedEvery    = 100 * time.Millisecond // to look whether a peer still fetches from this node
	askAgain     = 3                      // reports in that interval once none does
	finalLimit   = 10 * time.Second       // for the last report of a run that failed
	doneLimit    = 45 * time.Second       // and of one that went well: a server that never hears of it deploys the node again
)

// Options say what Run does.
type Options struct {
	Server string // base URL
	Image  string // name of the image
	Disk   string // disk.ParseSelector, or the path of a regular file

	// Layout is the name of a layout on the server; LayoutJSON is one that is there already. They take the place of Disk and Grow.
	Layout     string
	LayoutJSON []byte
	// Plan: show what would be done, and write nothing. The node's profile can say so too.
	Plan bool

	Verify    params.Verify    // "" is write
	Write     params.Write     // "" is cache
	Grow      params.Grow      // how the image's own table goes to the disk; "" is last for a block device, none for a file
	Then      string           // "kexec" loads the deployed system's kernel; anything else is left to the caller
	OnError   string           // left to the caller
	BootEntry params.BootEntry // "" is none
	Firmware  string           // where the kernel shows UEFI firmware; "" is /sys/firmware/efi

	Append  string   // appended to that kernel's command line
	Console []string // console= values that kernel is given

	Rack     string        // name of the rack or switch that this machine is at; "": what Switch says, or else the server goes by the address
	Seed     time.Duration // longest time to go on seeding; 0 not at all
	Patience time.Duration // how long to try to get the manifest; 0 is DefaultPatience
	Stall    time.Duration // a fetch without any progress for so long fails; 0 is DefaultStall
	Node     string        // "" is NodeID(Server)
	Machine  event.Machine // this machine, for the server
	Listen   string        // host:port for BitTorrent connections; "" picks a free port
	Logger   *slog.Logger  // nil is slog.Default

	// Switch is what is known by now of the switch that this machine is at; nil: nothing. It is called at the same time by several.
	Switch func() event.Switch

	// Given are the parameters, by their names without params.Prefix, that the node's profile on the server must not change.
	Given map[string]bool
}

// Result is what a finished run did.
type Result struct {
	Last        event.Progress // the last report: steps, counters
	Told        bool           // the server got it
	KexecLoaded bool           // a kernel is loaded; false with Then "kexec" when the running kernel forbids it: reboot instead
	Planned     bool           // it was a dry run: nothing was written
	Then        string         // what is to follow: Options.Then, or what the node's profile says
	OnError     string         // what is to follow a failure, likewise
}

// engine is one run. Its steps fill it in from top to bottom.
type engine struct {
	o   Options
	rep *reporter
	c   *client
	run string

	m  *imagefmt.Manifest
	mi *imagefmt.Metainfo

	profile  *params.Profile
	contents map[string][]byte // of the files that it gives by URL, by path
	programs map[string][]byte // of its hooks, by name
	changed  map[string]string // identifiers of partitions and file systems: old in lower case, new
	mac      string            // of the interface that reaches the server; only when the profile asks for it

	w       *planned
	look    look // into the image, before it is here
	session *swarm.Session
	index   *imagefmt.Index
	resume  bool // the disk may hold pieces of an earlier, unfinished run
	loaded  bool
	gone    []efiboot.ID // partitions that were on the disks
}

// step is one named piece of work.
type step struct {
	name event.Phase
	run  func(context.Context) error
	when func() bool // asked when its turn comes; nil: always
}

// Run deploys an image to a disk of this machine and calls report at every change and once a second.
// Its errors carry the exit codes of package cli; Result.Told says whether the server has heard of them when it returns.
func Run(ctx context.Context, o Options, report func(event.Progress)) (*Result, error) {
	c, err := newClient(o.Server)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := o.fill(); err != nil {
		return nil, err
	}
	run := newRun()
	e := &engine{o: o, c: c, run: run}
	e.rep = newReporter(event.Progress{Node: o.Node, Machine: o.Machine, Run: run, Image: o.Image, Phase: event.PhaseManifest}, c.post, report)
	e.rep.where = o.Switch
	defer e.close()
	if err := target.UnmountLeft(); err != nil {
		e.o.Logger.Warn("left by an earlier run", "err", err) // if it matters the disk is said to be in use
	}
	err = e.rep.follow(ctx, e.steps(), e.undo)
	return &Result{Last: e.rep.snapshot(), Told: e.rep.told, KexecLoaded: e.loaded, Then: e.o.Then, OnError: e.o.OnError, Planned: e.o.Plan}, err
}

func (o *Options) fill() error {
	if o.Image == "" {
		return cli.Usagef("image: no name given")
	}
	if o.Disk != "" && (o.Layout != "" || o.LayoutJSON != nil) {
		return cli.Usagef("disk and layout: the layout says which disks are meant; give one of the two")
	}
	switch o.Verify {
	case "":
		o.Verify = params.VerifyWrite
	case params.VerifyNone, params.VerifyWrite, params.VerifyReadBack:
	default:
		return cli.Usagef("verify %q: want none, write or readback", o.Verify)
	}
	switch o.Write {
	case "":
		o.Write = params.WriteCache
	case params.WriteCache, params.WriteDirect:
	default:
		return cli.Usagef("write %q: want cache or direct", o.Write)
	}
	if err := fillGrow(&o.Grow, o.Disk); err != nil {
		return err
	}
	if err := fillBootEntry(&o.BootEntry); err != nil {
		return cli.WithCode(cli.CodeUsage, err)
	}
	if o.Patience == 0 {
		o.Patience = DefaultPatience
	}
	if o.Stall == 0 {
		o.Stall = DefaultStall
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Node == "" {
		o.Node = NodeID(o.Server)
	}
	return nil
}

func (e *engine) steps() []step {
	planning := func() bool { return e.o.Plan } // the profile may have said so
	all := []step{{name: event.PhaseManifest, run: e.manifest}, {name: event.PhaseSelect, run: e.showPlan, when: planning}}
	for _, s := range e.writingSteps() {
		when := s.when
		s.when = func() bool { return !planning() && (when == nil || when()) }
		all = append(all, s)
	}
	return all
}

// writingSteps are all that a dry run leaves out.
func (e *engine) writingSteps() []step {
	return []step{
		e.hookStep(event.PhaseBeforeDisks, params.HookBeforeDisks),
		{name: event.PhaseSelect, run: e.selectPlan},
		{name: event.PhaseWipe, run: e.wipe},
		{name: event.PhasePartition, run: func(context.Context) error { return e.w.stageTable() }},
		{name: event.PhaseRAID, run: e.assemble, when: func() bool { return e.w.makesArrays() }},
		{name: event.PhaseFetch, run: e.fetch},
		{name: event.PhaseSync, run: func(context.Context) error { return e.w.sync() }},
		{name: event.PhaseVerify, run: e.verify},
		{name: event.PhaseMkfs, run: func(ctx context.Context) error { return e.w.makeFS(ctx) }, when: func() bool { return e.w.makesFS() }},
		{name: event.PhaseReread, run: e.reread},
		{name: event.PhaseSeed, run: e.seed, when: func() bool { return e.o.Seed > 0 }},
		// These change blocks that other nodes may want, and need the disk for themselves: nobody depends on this node now.
		{name: event.PhaseGrow, run: e.grow, when: func() bool { return grows(e.o.Grow) || e.hasLayout() }},
		e.renameStep(),
		e.hookStep(event.PhaseAfterWrite, params.HookAfterWrite),
		{name: event.PhaseIdentity, run: e.identity, when: e.hasIdentity},
		e.uuidStep(),
		{name: event.PhaseTable, run: e.table, when: e.changesSystem},
		e.hookStep(event.PhaseBeforeKexec, params.HookBeforeKexec),
		e.bootEntryStep(),
		{name: event.PhaseLoad, run: e.load, when: func() bool { return e.o.Then == string(params.ThenKexec) }},
	}
}

func (e *engine) manifest(ctx context.Context) (err error) {
	e.m, e.mi, err = e.c.image(ctx, e.o.Image, e.o.Patience, e.rep.say)
	if err != nil {
		return err
	}
	e.rep.update(func(p *event.Progress) {
		p.PiecesTotal = e.m.Pieces()
		p.BytesTotal = e.m.UsedBytes
	})
	return e.takeProfile(ctx)
}

func (e *engine) wipe(ctx context.Context) error {
	e.rememberPartitions()
	return e.w.wipe(ctx)
}

func (e *engine) fetch(ctx context.Context) error {
	if e.o.Write == params.WriteDirect {
		if err := e.w.writeDirect(); err != nil {
			e.rep.warn("written through the page cache: " + err.Error())
		}
	}
	var s *swarm.Session
	joined := make(chan struct{})
	index := func() *imagefmt.Index { // the target asks from the first write on, which may come before Join has returned
		<-joined
		return s.Index()
	}
	var err error
	s, err = swarm.Join(ctx, swarm.NodeOptions{
		Node: e.o.Node, Run: e.run, Rack: e.rack, Metainfo: e.mi, Manifest: e.m, Target: e.w.target(index),
		Announce: e.c.announce(), Listen: e.o.Listen, CheckRaw: e.o.Verify != params.VerifyNone,
		Resume: e.resume, Stall: e.o.Stall, Logger: e.o.Logger,
	})
	if err != nil {
		return err // nothing is written without an index
	}
	close(joined)
	e.session = s
	e.rep.setStats(func(p *event.Progress) { fillStats(p, s.Stats()) })
	if err := s.Wait(ctx); err != nil {
		return err
	}
	e.index = s.Index()
	if st := s.Stats(); st.PiecesKept > 0 {
		e.rep.say(fmt.Sprintf("%d of %d pieces were on the disk already", st.PiecesKept, st.PiecesTotal))
	}
	return nil
}

// rack is what a person has said, or else the switch.
func (e *engine) rack() string {
	if e.o.Rack == "" && e.o.Switch != nil {
		return e.o.Switch().ID
	}
	return e.o.Rack
}

func fillStats(p *event.Progress, s swarm.Stats) {
	p.PiecesDone, p.PiecesTotal = s.PiecesDone, s.PiecesTotal
	p.BytesDone, p.BytesTotal = s.BytesDone, s.BytesTotal
	p.FromServer, p.FromNodes, p.Uploaded = s.FromServer, s.FromNodes, s.Uploaded
	p.HashFailures = s.HashFailures
}

// verify checks that the map of pieces is whole and, with readback, that the device returns what was written.
func (e *engine) verify(ctx context.Context) error {
	if err := wholeMap(e.session.Stats()); err != nil {
		return err
	}
	if e.o.Verify != params.VerifyReadBack {
		return nil
	}
	return e.w.readBack(ctx, e.index)
}

// wholeMap refuses a map of pieces that lacks some, or has counted one twice.
func wholeMap(s swarm.Stats) error {
	if s.PiecesDone == s.PiecesTotal {
		return nil
	}
	return cli.WithCode(cli.CodeVerify, fmt.Errorf("the image has %d pieces, and %d were counted on the disk", s.PiecesTotal, s.PiecesDone))
}

// leaveSwarm ends the session; its counters stay in the reports.
func (e *engine) leaveSwarm() error {
	if s := e.takeSession(); s != nil {
		return s.Close()
	}
	return nil
}

// takeSession returns the session for its end, nil when it is over already.
func (e *engine) takeSession() *swarm.Session {
	s := e.session
	if s == nil {
		return nil
	}
	e.session = nil
	e.rep.update(func(*event.Progress) {}) // the last counters
	e.rep.setStats(nil)
	return s
}

func (e *engine) close() {
	e.leaveSwarm() //nolint:errcheck // everything is on the disk or an error was returned
	if e.w != nil {
		e.w.close() //nolint:errcheck // synced before, or an error was returned
	}
}
