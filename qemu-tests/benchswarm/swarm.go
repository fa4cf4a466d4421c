package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"swarmboot/internal/event"
	"swarmboot/internal/pause"
)

const serverPort = "8080"

// limit ends a run that does not: a run is stuck when it takes ten times its floor and two minutes more.
func (r *rig) limit() time.Duration {
	return seconds(10*r.floor()) + 2*time.Minute
}

// swarm deploys with swarmboot itself.
func (r *rig) swarm(ctx context.Context, p *plan) ([]nodeResult, error) {
	ctx, cancel := context.WithTimeout(ctx, r.limit())
	defer cancel()
	srv := &server{r: r}
	if err := srv.start(ctx); err != nil {
		return nil, err
	}
	defer srv.stop()
	r.plan = p
	nodes, err := r.nodes(ctx, p, srv.faults, func(ctx context.Context, i int, n *nodeResult, t0 time.Time) {
		if r.isForeign(i) {
			r.foreign(ctx, i, n, t0)
			return
		}
		r.deploy(ctx, i, n, t0)
	})
	r.known = srv.known()
	return nodes, err
}

// nodes runs one function for each node at its start time, and the plan's faults beside them.
func (r *rig) nodes(ctx context.Context, p *plan, faults func(context.Context, *plan, time.Time), node func(context.Context, int, *nodeResult, time.Time)) ([]nodeResult, error) {
	var wg sync.WaitGroup
	faultCtx, endFaults := context.WithCancel(ctx)
	results := make([]nodeResult, r.o.nodes)
	t0 := time.Now()
	for i := range results {
		wg.Go(func() {
			n := &results[i]
			n.start = p.starts[i]
			nodeCtx, stop := ctx, context.CancelFunc(func() {})
			if at, ok := p.kill[i+1]; ok {
				nodeCtx, stop = context.WithDeadline(ctx, t0.Add(at))
			}
			defer stop()
			_ = pause.For(nodeCtx, time.Until(t0.Add(n.start)))
			if p.restart == i+1 {
				firstCtx, stopFirst := context.WithDeadline(ctx, t0.Add(p.restartAt))
				node(firstCtx, i+1, n, t0)
				stopFirst()
				*n = nodeResult{start: time.Since(t0)}
			}
			node(nodeCtx, i+1, n, t0)
			n.killed = n.err != nil && ctx.Err() == nil && nodeCtx.Err() != nil
		})
	}
	var fwg sync.WaitGroup
	fwg.Go(func() { r.cut(faultCtx, p, t0) })
	if faults != nil {
		fwg.Go(func() { faults(faultCtx, p, t0) })
	}
	wg.Wait()
	endFaults()
	fwg.Wait()
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, ctx.Err()
	}
	return results, nil // after the limit, too: who was stuck is what one wants to know
}

// cut pulls the cables of the plan's nodes and puts them back.
func (r *rig) cut(ctx context.Context, p *plan, t0 time.Time) {
	if len(p.cut) == 0 {
		return
	}
	_ = pause.For(ctx, time.Until(t0.Add(p.cutAt)))
	if ctx.Err() != nil {
		return
	}
	r.links(p.cut, false)
	_ = pause.For(ctx, p.cutFor)
	r.links(p.cut, true)
}

func (r *rig) links(nodes []int, up bool) {
	for _, n := range nodes {
		// The link has to come back up also when the run was interrupted meanwhile.
		if err := r.rack.SetLink(context.Background(), n, up); err != nil {
			fmt.Fprintln(os.Stderr, "benchswarm:", err)
		}
	}
}

// deploy runs cmds/deploy as one node. A killed node gets SIGKILL: nothing is said to anybody.
func (r *rig) deploy(ctx context.Context, i int, n *nodeResult, t0 time.Time) {
	n.err = func() error {
		disk, closeDisk, err := r.disk(ctx, i)
		if err != nil {
			return err
		}
		defer closeDisk()
		args := []string{
			"--server", "http://" + r.rack.Address(0) + ":" + serverPort, "--image", r.name, "--disk", disk,
			"--node", fmt.Sprintf("node%d", i), "--then", "exit", "--linger", "10m", "--json",
		}
		if r.plan.inRack > 0 {
			args = append(args, "--rack", fmt.Sprintf("rack%d", (i-1)/r.plan.inRack))
		}
		cmd, err := r.command(ctx, i, filepath.Join(r.bin, "deploy"), args...)
		if err != nil {
			return err
		}
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGKILL) }
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		log, err := os.Create(filepath.Join(r.o.logs, fmt.Sprintf("events-h%d.log", i)))
		if err != nil {
			return err
		}
		defer log.Close()
		last := follow(out, log, n, t0)
		err = cmd.Wait()
		usage(n, cmd.ProcessState)
		n.leave = time.Since(t0)
		n.fetched = last.FromServer + last.FromNodes
		if err != nil {
			return fmt.Errorf("%w: %s", err, last.Error)
		}
		if n.end == 0 {
			return errors.New("ended without having said that its disk is synced")
		}
		return nil
	}()
}

// follow reads a node's events and logs them with the time since t0; the node's end is the first event after the sync step.
func follow(out io.Reader, log io.Writer, n *nodeResult, t0 time.Time) event.Progress {
	var last event.Progress
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Fprintf(log, "%.3f %s\n", time.Since(t0).Seconds(), lines.Bytes())
		if json.Unmarshal(lines.Bytes(), &last) != nil {
			continue
		}
		if n.end == 0 && last.Phase.Complete() && last.Phase != event.PhaseSync {
			n.end = time.Since(t0)
		}
	}
	return last
}

// server is `swarmboot serve` on host 0.
type server struct {
	r    *rig
	cmd  *exec.Cmd
	done chan error
}

func (s *server) start(ctx context.Context) error {
	dir, _ := splitImage(s.r.image)
	cmd, err := s.r.command(context.WithoutCancel(ctx), 0, filepath.Join(s.r.bin, "swarmboot"), "serve", "--no-netboot", "--images", dir,
		"--http", s.r.rack.Address(0)+":"+serverPort, "--bt-listen", s.r.rack.Address(0)+":6881")
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd, s.done = cmd, make(chan error, 1)
	go func() { s.done <- cmd.Wait() }()
	if err := s.wait(ctx); err != nil {
		s.stop()
		return err
	}
	return nil
}

// wait returns when the image is published.
func (s *server) wait(ctx context.Context) error {
	client := s.r.rack.Host(0).HTTPClient()
	url := "http://" + s.r.rack.Address(0) + ":" + serverPort + "/images/" + s.r.name + ".torrent"
	for {
		select {
		case err := <-s.done:
			s.done <- err
			return fmt.Errorf("swarmboot serve ended: %w: see the logs in %s", err, s.r.o.logs)
		default:
		}
		if resp, err := client.Get(url); err == nil {
			resp.Body.Close()
			if resp.StatusCode == 200 {
				return nil
			}
		}
		if pause.For(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("server does not publish %s: %w", s.r.name, ctx.Err())
		}
	}
}

// known is how many nodes the status page lists.
func (s *server) known() int {
	resp, err := s.r.rack.Host(0).HTTPClient().Get("http://" + s.r.rack.Address(0) + ":" + serverPort + "/api/v1/nodes")
	if err != nil {
		return 0 // the server was killed for good
	}
	defer resp.Body.Close()
	var nodes []json.RawMessage
	if json.NewDecoder(resp.Body).Decode(&nodes) != nil {
		return 0
	}
	return len(nodes)
}

func (s *server) stop() {
	if s.cmd == nil {
		return
	}
	// ESRCH means that it ended by itself: its exit was seen by wait or does not matter any more.
	_ = s.cmd.Process.Kill()
	<-s.done //nolint:errcheck // killed: its status says nothing
	s.cmd = nil
}

// faults kills the server and starts it again. A server that stays away to the end is --kill-server 0@T+9999.
func (s *server) faults(ctx context.Context, p *plan, t0 time.Time) {
	if p.serverAt == 0 {
		return
	}
	_ = pause.For(ctx, time.Until(t0.Add(p.serverAt)))
	if ctx.Err() != nil {
		return
	}
	s.stop()
	_ = pause.For(ctx, p.serverFor)
	if ctx.Err() != nil {
		return
	}
	if err := s.start(ctx); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "benchswarm: restart:", err)
	}
}
