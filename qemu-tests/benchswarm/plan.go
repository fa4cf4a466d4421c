package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// fault is WHO@VALUE[+DOWN] of a command-line flag. WHO is a node, counted from 1.
type fault struct {
	who         int
	value, down float64
	set         bool
}

func (f *fault) String() string {
	if f == nil || !f.set {
		return ""
	}
	return fmt.Sprintf("%d@%g+%g", f.who, f.value, f.down)
}

// Set parses the flag.
func (f *fault) Set(s string) error {
	who, rest, ok := strings.Cut(s, "@")
	if !ok {
		return fmt.Errorf("%q: want WHO@VALUE or WHO@VALUE+DOWN", s)
	}
	value, down, hasDown := strings.Cut(rest, "+")
	var err error
	if f.who, err = strconv.Atoi(who); err != nil {
		return fmt.Errorf("%q: %w", who, err)
	}
	if f.value, err = strconv.ParseFloat(value, 64); err != nil {
		return fmt.Errorf("%q: %w", value, err)
	}
	if hasDown {
		if f.down, err = strconv.ParseFloat(down, 64); err != nil {
			return fmt.Errorf("%q: %w", down, err)
		}
	}
	f.set = true
	return nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// plan is what happens in one run, and when.
type plan struct {
	starts    []time.Duration // of node 1, 2, ...
	kill      map[int]time.Duration
	cut       []int
	cutAt     time.Duration
	cutFor    time.Duration
	serverAt  time.Duration // 0 is never
	serverFor time.Duration
	slowNode  int
	slowNodes int   // one after another from slowNode on
	slowRate  int   // Mbit/s of its port, 0 if that is not what is slow
	slowDisk  int64 // bytes a second of its disk
	restart   int   // node that is killed and started again on the same disk
	restartAt time.Duration
	foreign   int // of the last nodes are ordinary clients
	late      time.Duration
	inRack    int
	seed      int64
}

func (o *options) plan(round int) *plan {
	p := &plan{starts: make([]time.Duration, o.nodes), kill: map[int]time.Duration{}}
	for i := range p.starts {
		p.starts[i] = o.stagger * time.Duration(i) / time.Duration(o.nodes)
	}
	p.foreign, p.late, p.inRack = o.foreign, o.late, o.inRack
	p.starts[o.nodes-1] += o.late
	if o.kill.set {
		p.kill[o.kill.who] = seconds(o.kill.value)
	}
	if o.cut.set {
		for i := 1; i <= min(o.cut.who, o.nodes); i++ {
			p.cut = append(p.cut, i)
		}
		p.cutAt, p.cutFor = seconds(o.cut.value), seconds(o.cut.down)
	}
	if o.server.set {
		p.serverAt, p.serverFor = seconds(o.server.value), seconds(o.server.down)
	}
	if o.slow.set {
		p.slowNode, p.slowNodes, p.slowRate = o.slow.who, max(1, o.slowPorts), int(o.slow.value)
	}
	if o.slowDisk.set {
		p.slowNode, p.slowNodes, p.slowDisk = o.slowDisk.who, 1, int64(o.slowDisk.value*1e6)
	}
	if o.restart.set {
		p.restart, p.restartAt = o.restart.who, seconds(o.restart.value)
	}
	if o.seed != 0 {
		p.randomize(o, o.seed+int64(round))
	}
	return p
}

// randomize draws starts within 20 s, up to two killed nodes and a third of the nodes cut off once.
func (p *plan) randomize(o *options, seed int64) {
	p.seed = seed
	rng := rand.New(rand.NewPCG(uint64(seed), 0))
	for i := range p.starts {
		p.starts[i] = seconds(rng.Float64() * 20)
	}
	for range rng.IntN(3) {
		p.kill[1+rng.IntN(o.nodes)] = seconds(5 + rng.Float64()*35)
	}
	if rng.IntN(2) == 0 {
		for _, i := range rng.Perm(o.nodes)[:(o.nodes+2)/3] {
			p.cut = append(p.cut, i+1)
		}
		p.cutAt, p.cutFor = seconds(5+rng.Float64()*30), 10*time.Second
	}
}

func (p *plan) String() string {
	var s []string
	if p.seed != 0 {
		s = append(s, fmt.Sprintf("seed %d", p.seed))
	}
	if p.late > 0 {
		s = append(s, fmt.Sprintf("the last node starts %s later", p.late.Round(time.Second)))
	} else if last := p.starts[len(p.starts)-1]; last > 0 && p.seed == 0 {
		s = append(s, fmt.Sprintf("starts over %s", last.Round(time.Second)))
	}
	if p.foreign > 0 {
		s = append(s, fmt.Sprintf("the last %d are aria2c", p.foreign))
	}
	if p.inRack > 0 {
		s = append(s, fmt.Sprintf("racks of %d", p.inRack))
	}
	for n, at := range p.kill {
		s = append(s, fmt.Sprintf("node %d killed at %s", n, at.Round(time.Second)))
	}
	if len(p.cut) > 0 {
		s = append(s, fmt.Sprintf("nodes %v cut at %s for %s", p.cut, p.cutAt.Round(time.Second), p.cutFor))
	}
	if p.serverAt > 0 {
		s = append(s, fmt.Sprintf("server killed at %s for %s", p.serverAt, p.serverFor))
	}
	if p.slowDisk > 0 {
		s = append(s, fmt.Sprintf("node %d's disk takes %.0f MB/s", p.slowNode, float64(p.slowDisk)/1e6))
	}
	if p.restart > 0 {
		s = append(s, fmt.Sprintf("node %d restarted at %s", p.restart, p.restartAt.Round(time.Second)))
	}
	if p.slowRate > 0 {
		last := ""
		if p.slowNodes > 1 {
			last = fmt.Sprintf(" to %d", p.slowNode+p.slowNodes-1)
		}
		s = append(s, fmt.Sprintf("node %d%s at %d Mbit/s", p.slowNode, last, p.slowRate))
	}
	return strings.Join(s, "; ")
}

// ports sets the port rates that differ.
func (p *plan) ports(ctx context.Context, r *rig) error {
	if last := p.slowNode + p.slowNodes - 1; last > r.o.nodes {
		return fmt.Errorf("node %d is to be slow: there are %d nodes", last, r.o.nodes)
	}
	if p.slowRate == 0 {
		return nil
	}
	for i := range p.slowNodes {
		if err := r.rack.SetRate(ctx, p.slowNode+i, p.slowRate); err != nil {
			return err
		}
	}
	return nil
}

// isSlow says whether a node, counted from 1, has a slow port or disk.
func (p *plan) isSlow(node int) bool { return node >= p.slowNode && node < p.slowNode+p.slowNodes }
