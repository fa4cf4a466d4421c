package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"swarmboot/imagefmt"
	"swarmboot/qemu-tests/lab"
)

// rig is the rack of one run with the image and the folder of the nodes' disks.
type rig struct {
	o     *options
	rack  *lab.Rack
	image string
	name  string
	m     *imagefmt.Manifest
	dir   string
	bin   string // of swarmboot and deploy
	plan  *plan
	known int     // nodes on the status page at the end, swarm only
	cpu   lab.CPU // at the beginning
}

func newRig(ctx context.Context, o *options, image string) (*rig, error) {
	m, err := readImage(image)
	if err != nil {
		return nil, err
	}
	dir, err := lab.TempDir(o.dir, "swarmboot-bench-")
	if err != nil {
		return nil, err
	}
	r := &rig{o: o, m: m, dir: dir}
	if err := errors.Join(r.load(image), r.programs()); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if r.rack, err = lab.NewRack(ctx, o.nodes+1, o.rate); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	r.cpu = lab.ReadCPU()
	return r, nil
}

// load copies the image to where the nodes' disks are. A kernel may drop from memory what a file system on a real disk keeps there (DAMON
// does so before memory is short), and the server's disk, not the network, would be the limit: seconds in which it sent a third of what its
// port carries, and once a whole run at 0.7 of it.
func (r *rig) load(image string) error {
	_, r.name = splitImage(image)
	dir := filepath.Join(r.dir, "images")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	r.image = filepath.Join(dir, r.name)
	for _, ext := range []string{".json", ".torrent", ".payload"} {
		if err := copyFile(r.image+ext, image+ext); err != nil {
			return err
		}
	}
	return nil
}

// programs copies swarmboot and deploy likewise: they are read from where they are while they run.
func (r *rig) programs() error {
	r.bin = filepath.Join(r.dir, "bin")
	if err := os.Mkdir(r.bin, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"swarmboot", "deploy"} {
		to := filepath.Join(r.bin, name)
		if err := copyFile(to, filepath.Join(r.o.bin, name)); err != nil {
			return err
		}
		if err := os.Chmod(to, 0o755); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func (r *rig) close() {
	if err := r.rack.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "benchswarm:", err)
	}
	if err := os.RemoveAll(r.dir); err != nil {
		fmt.Fprintln(os.Stderr, "benchswarm:", err)
	}
}

// command starts a program on a host with its output in a log file.
func (r *rig) command(ctx context.Context, host int, name string, args ...string) (*exec.Cmd, error) {
	cmd := r.rack.Host(host).Command(ctx, name, args...)
	log, err := os.Create(filepath.Join(r.o.logs, fmt.Sprintf("%s-h%d.log", filepath.Base(name), host)))
	if err != nil {
		return nil, err
	}
	cmd.Stderr = log
	return cmd, nil
}

// nodeResult is how one node ended.
type nodeResult struct {
	start, end time.Duration // since the start of the run; end is when the last byte was synced
	leave      time.Duration // when it left, swarm only
	fetched    int64         // bytes from the swarm, swarm only
	cpu        float64       // seconds, user and system
	rss        int64         // largest resident memory, bytes
	killed     bool          // on purpose
	err        error
}

func usage(n *nodeResult, s *os.ProcessState) {
	if s == nil {
		return
	}
	n.cpu = (s.UserTime() + s.SystemTime()).Seconds()
	if ru, ok := s.SysUsage().(*syscall.Rusage); ok {
		n.rss = ru.Maxrss << 10
	}
}

// result is one line of the table.
type result struct {
	Scenario  string    `json:"scenario,omitempty"`
	Aims      []string  `json:"aims,omitempty"` // pass or FAIL, and why
	Tool      string    `json:"tool"`
	Image     string    `json:"image"`
	Layout    string    `json:"layout"`
	Nodes     int       `json:"nodes"`
	RateMbit  int       `json:"rateMbit"`
	RawBytes  int64     `json:"rawBytes"`
	WireBytes int64     `json:"wireBytes"`
	Floor     float64   `json:"floorSeconds"` // raw bytes at line rate
	First     float64   `json:"firstSeconds"` // each node since its own start
	Median    float64   `json:"medianSeconds"`
	Took      []float64 `json:"nodeSeconds"` // of the nodes that are neither slow nor killed, sorted
	Last      float64   `json:"lastSeconds"`
	Ratio     float64   `json:"ratio"`                     // last ÷ floor
	Slowest   float64   `json:"leaveSeconds"`              // from the last node's end to the last one's leaving
	Restarted float64   `json:"restartedCopies,omitempty"` // what a restarted node fetched, in copies
	Known     int       `json:"knownNodes"`                // by the status page
	Seeder    float64   `json:"seederCopies"`
	Peer      float64   `json:"highestPeerCopies"`
	CPU       float64   `json:"meanCPUSeconds"`
	RSS       int64     `json:"largestRSS"`
	Load      string    `json:"loadAverage"`
	Stolen    float64   `json:"stolenShare"` // of the processor time that was wanted, by other machines of the host
	Failed    int       `json:"failed"`
	Plan      string    `json:"plan"`
}

const header = "tool    image                    nodes  rate  floor  first median   last  ratio  seeder  peer   cpu s  rss MB  leave s  load  stolen  failed  what happened"

func (r *result) String() string {
	return fmt.Sprintf("%-7s %-24s %5d %5d %6.2f %6.2f %6.2f %6.2f  %5.3f  %6.2f %5.2f  %6.1f  %6d  %7.1f  %s  %5.1f%%  %6d  %s", r.Tool, r.Image, r.Nodes, r.RateMbit,
		r.Floor, r.First, r.Median, r.Last, r.Ratio, r.Seeder, r.Peer, r.CPU, r.RSS>>20, r.Slowest, r.Load, 100*r.Stolen, r.Failed, r.Plan)
}

// floor is the seconds that the image's used bytes take at the rate of a port.
func (r *rig) floor() float64 { return float64(r.m.UsedBytes) * 8 / (float64(r.o.rate) * 1e6) }

func (r *rig) result(ctx context.Context, tool string, p *plan, nodes []nodeResult) (*result, error) {
	res := &result{
		Tool: tool, Image: r.name, Layout: string(r.m.Layout), Nodes: r.o.nodes, RateMbit: r.o.rate,
		RawBytes: r.m.UsedBytes, WireBytes: r.m.PayloadLength, Plan: p.String(),
	}
	res.Floor = r.floor()
	var took []float64
	var cpu float64
	killed := 0
	var lastEnd, lastLeave time.Duration
	res.Known = r.known
	for i, n := range nodes {
		switch {
		case n.killed:
			killed++
			continue
		case n.err != nil:
			fmt.Fprintf(os.Stderr, "benchswarm: node %d: %v\n", i+1, n.err)
			res.Failed++
			continue
		}
		if !p.isSlow(i+1) && !r.isForeign(i+1) {
			took = append(took, (n.end - n.start).Seconds())
		}
		cpu += n.cpu
		res.RSS = max(res.RSS, n.rss)
		lastEnd, lastLeave = max(lastEnd, n.end), max(lastLeave, n.leave)
		if i+1 == p.restart {
			res.Restarted = float64(n.fetched) / float64(res.WireBytes)
		}
	}
	res.Slowest = max(0, lastLeave-lastEnd).Seconds()
	if len(took) > 0 {
		slices.Sort(took)
		res.First, res.Median, res.Last = took[0], took[len(took)/2], took[len(took)-1]
		res.Took = took
		res.Ratio = res.Last / res.Floor
		res.CPU = cpu / float64(len(nodes)-res.Failed-killed)
	}
	if err := r.egress(ctx, res); err != nil {
		return nil, err
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return nil, err
	}
	res.Load, _, _ = strings.Cut(string(load), " ")
	res.Stolen = lab.ReadCPU().Since(r.cpu).StolenShare()
	return res, nil
}

// egress reads what the hosts sent, in copies of the payload.
func (r *rig) egress(ctx context.Context, res *result) error {
	for i := range r.o.nodes + 1 {
		sent, err := r.rack.Sent(ctx, i)
		if err != nil {
			return err
		}
		copies := float64(sent) / float64(res.WireBytes)
		if i == 0 {
			res.Seeder = copies
		} else {
			res.Peer = max(res.Peer, copies)
		}
	}
	return nil
}

// disk makes the sparse file that stands for a node's disk, or takes the one that is there. The node's end is told to done.
func (r *rig) disk(ctx context.Context, node int) (path string, done func(), err error) {
	path = filepath.Join(r.dir, fmt.Sprintf("disk%d", node))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", nil, err
	}
	if err := errors.Join(f.Truncate(r.m.DiskSize), f.Close()); err != nil {
		return "", nil, err
	}
	if r.plan.slowDisk == 0 || !r.plan.isSlow(node) {
		return path, func() {}, nil
	}
	d, err := lab.NewSlowDisk(ctx, path, r.plan.slowDisk)
	if err != nil {
		return "", nil, err
	}
	return d.Path, func() {
		if err := d.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "benchswarm:", err)
		}
	}, nil
}
