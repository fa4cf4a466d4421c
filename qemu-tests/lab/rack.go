package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// Rack is a bridge in a namespace of its own with hosts on it, each in its own namespace, behind a
// port whose rate is limited in both directions. Host 0 is meant for the server. Close removes all of it.
type Rack struct {
	fabric string
	hosts  []*Network
}

// rackPrefix is the network of a rack: host i has address 10.98.0.(i+1).
const rackPrefix = "10.98.0."

// maxHosts keeps the hosts inside rackPrefix/24.
const maxHosts = 253

// NewRack makes hosts hosts with ports of rateMbit Mbit/s. Their Command method runs programs on them.
func NewRack(ctx context.Context, hosts, rateMbit int) (*Rack, error) {
	if hosts < 1 || hosts > maxHosts {
		return nil, fmt.Errorf("rack of %d hosts: want 1 to %d", hosts, maxHosts)
	}
	removeStale(ctx)
	r := &Rack{fabric: fmt.Sprintf("%s%d-%d", nsPrefix, os.Getpid(), counter.Add(1))}
	if err := r.build(ctx, hosts, rateMbit); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Rack) build(ctx context.Context, hosts, rateMbit int) error {
	if err := addNamespace(ctx, r.fabric); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"link", "add", Bridge, "type", "bridge", "stp_state", "0", "forward_delay", "0"},
		{"link", "set", Bridge, "up"},
	} {
		if err := run(ctx, "ip", append([]string{"-n", r.fabric}, args...)...); err != nil {
			return err
		}
	}
	// Where the host has loaded br_netfilter, each frame would go through its packet filter: a tenth of all CPU time.
	filter := "net.bridge.bridge-nf-call-iptables"
	if err := run(ctx, "ip", "netns", "exec", r.fabric, "sysctl", "-q", "-e", "-w", filter+"=0"); err != nil {
		return err
	}
	for i := range hosts {
		if err := r.addHost(ctx, i); err != nil {
			return err
		}
		if err := r.SetRate(ctx, i, rateMbit); err != nil {
			return err
		}
	}
	return nil
}

func (r *Rack) addHost(ctx context.Context, i int) error {
	h := &Network{name: fmt.Sprintf("%s-h%d", r.fabric, i)}
	if err := addNamespace(ctx, h.name); err != nil {
		return err
	}
	r.hosts = append(r.hosts, h)
	for _, args := range [][]string{
		{"-n", r.fabric, "link", "add", port(i), "type", "veth", "peer", "name", "eth0", "netns", h.name},
		{"-n", r.fabric, "link", "set", port(i), "master", Bridge, "up"},
		{"-n", h.name, "link", "set", "lo", "up"},
		{"-n", h.name, "address", "add", r.Address(i) + "/24", "brd", "+", "dev", "eth0"}, // udpcast finds its receivers by broadcast
		{"-n", h.name, "link", "set", "eth0", "up"},
		// Multicast tools want a route for their group.
		{"-n", h.name, "route", "add", "224.0.0.0/4", "dev", "eth0"},
		// The kernel's own default, which nodes have whatever this machine was told (bbr, with which 24 nodes took 4.1 to 4.9 CPU s each in place of 3.6 to 4.4).
		{"netns", "exec", h.name, "sysctl", "-q", "-w", "net.ipv4.tcp_congestion_control=cubic"},
	} {
		if err := run(ctx, "ip", args...); err != nil {
			return err
		}
	}
	return nil
}

func port(i int) string { return "p" + strconv.Itoa(i) }

// SetRate limits host i's port to rateMbit Mbit/s each way, with a queue of 20 ms as a switch port has.
func (r *Rack) SetRate(ctx context.Context, i, rateMbit int) error {
	for _, end := range []struct{ ns, dev string }{{r.fabric, port(i)}, {r.hosts[i].name, "eth0"}} {
		// What the kernel hands over at once, up to 64 KiB and its headers, has to fit into the bucket: tbf cuts up what
		// does not, packet by packet, on this machine's processors, which no network card leaves to them.
		if err := run(ctx, "ip", "netns", "exec", end.ns, "tc", "qdisc", "replace", "dev", end.dev, "root",
			"tbf", "rate", fmt.Sprintf("%dmbit", rateMbit), "burst", "128kb", "latency", "20ms"); err != nil {
			return err
		}
	}
	return nil
}

// SetLink takes host i's port down or up, as a pulled cable does.
func (r *Rack) SetLink(ctx context.Context, i int, up bool) error {
	state := "down"
	if up {
		state = "up"
	}
	return run(ctx, "ip", "-n", r.fabric, "link", "set", port(i), state)
}

// Address is the IPv4 address of host i.
func (r *Rack) Address(i int) string { return rackPrefix + strconv.Itoa(i+1) }

// Host is the namespace of host i.
func (r *Rack) Host(i int) *Network { return r.hosts[i] }

// Sent returns the bytes that host i has put on its port, headers included.
func (r *Rack) Sent(ctx context.Context, i int) (int64, error) {
	out, err := exec.CommandContext(ctx, "ip", "-n", r.hosts[i].name, "-s", "-j", "link", "show", "eth0").Output()
	if err != nil {
		return 0, fmt.Errorf("counters of host %d: %w", i, err)
	}
	var links []struct {
		Stats struct {
			Tx struct {
				Bytes int64 `json:"bytes"`
			} `json:"tx"`
		} `json:"stats64"`
	}
	if err := json.Unmarshal(out, &links); err != nil {
		return 0, fmt.Errorf("counters of host %d: %w", i, err)
	}
	if len(links) != 1 {
		return 0, fmt.Errorf("counters of host %d: %d links called eth0", i, len(links))
	}
	return links[0].Stats.Tx.Bytes, nil
}

// Close removes the namespaces. Processes that run in them must have ended.
func (r *Rack) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	for _, h := range r.hosts {
		errs = append(errs, h.Close())
	}
	return errors.Join(append(errs, deleteNamespace(ctx, r.fabric))...)
}
