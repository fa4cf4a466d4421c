package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"swarmboot/internal/event"
	"swarmboot/internal/web"
	"swarmboot/qemu-tests/lab"
)

// Outcome is what became of a node.
type Outcome struct {
	Node     *Node
	Status   web.Node // the server's last word on it
	Report   Report
	Timeline *Timeline
}

// View is told what happens while nodes are deployed: after each look at the server all nodes, in the order of power-on.
type View func(outcomes []*Outcome, fresh map[*Node][]Moment)

// DeployAll boots the machines and waits until each deployed system has printed its report. It fails at the first failure of a node.
func (c *Cluster) DeployAll(ctx context.Context, specs []Spec, view View) ([]*Outcome, error) {
	var all []*Outcome
	for _, s := range specs {
		n, err := c.Boot(ctx, s)
		if err != nil {
			return all, err
		}
		all = append(all, &Outcome{Node: n, Timeline: NewTimeline(n)})
	}
	for {
		left, fresh, err := c.look(ctx, all)
		view(all, fresh)
		if err != nil {
			return all, err
		}
		if left == 0 {
			break
		}
		select {
		case <-c.exited:
			return all, fmt.Errorf("the server ended: %s", lab.Tail(c.ServerLog()))
		case <-ctx.Done():
			return all, fmt.Errorf("%d of %d nodes are not up: %w", left, len(all), context.Cause(ctx))
		case <-time.After(poll):
		}
	}
	for _, o := range all {
		var err error
		if o.Report, err = o.Node.WaitReport(ctx); err != nil {
			return all, err
		}
	}
	return all, nil
}

// look updates all outcomes and counts the nodes that are not up yet.
func (c *Cluster) look(ctx context.Context, all []*Outcome) (left int, fresh map[*Node][]Moment, err error) {
	fresh = map[*Node][]Moment{}
	// A server that does not answer once is not the end; one that has ended is noticed by the caller.
	nodes, _ := c.Nodes(ctx)
	for _, o := range all {
		for _, w := range nodes {
			if w.Node == o.Node.MAC {
				o.Status = w
			}
		}
		fresh[o.Node] = o.Timeline.Update(o.Status)
		if o.Status.Phase == event.PhaseFailed {
			return left, fresh, fmt.Errorf("%s failed: %s; console: %s", o.Node.Name, o.Status.Error, o.Node.VM.Log)
		}
		_, up := o.Timeline.At(MomentUser)
		if up && o.Status.Phase == event.PhaseDone {
			continue
		}
		left++
		select {
		case <-o.Node.VM.Done():
			return left, fresh, fmt.Errorf("%s stopped; console: %s", o.Node.Name, o.Node.VM.Log)
		default:
		}
		if l, ok := o.Node.VM.Console.Find(panics); ok {
			return left, fresh, errors.New(o.Node.Name + ": " + l.Text + "; console: " + o.Node.VM.Log)
		}
	}
	return left, fresh, nil
}
