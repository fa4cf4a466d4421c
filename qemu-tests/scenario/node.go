package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"swarmboot/internal/web"
	"swarmboot/qemu-tests/lab"
)

// Spec is a machine of a scenario: one disk, booted from the network.
type Spec struct {
	Name    string
	Memory  int // MiB
	Chipset string
	NIC     string
	Bus     string // of the disk
	Format  string // of the disk: raw or qcow2
	Size    int64  // of the disk, bytes
	Disk    string // an existing disk file; "" makes a blank one

	MAC      string    // "": the next one of the cluster
	UEFI     *lab.UEFI // nil: a BIOS
	Restarts bool      // a restart does not end the machine
}

// Node is a machine of a cluster.
type Node struct {
	Spec
	VM      *lab.VM
	Started time.Time
}

// TwoNodes are the machines of the main job. They differ in what hardware they have.
func TwoNodes() []Spec {
	const size = 4 << 30 // larger than the disk of the image
	return []Spec{
		{Name: "node1", Memory: 512, Chipset: "pc", NIC: "virtio-net-pci", Bus: "virtio", Format: "qcow2", Size: size},
		{Name: "node2", Memory: 512, Chipset: "q35", NIC: "e1000", Bus: "nvme", Format: "raw", Size: size},
	}
}

// Boot starts a machine.
func (c *Cluster) Boot(ctx context.Context, s Spec) (*Node, error) {
	if s.Disk == "" {
		s.Disk = filepath.Join(c.Dir, s.Name+"."+s.Format)
		if err := os.RemoveAll(s.Disk); err != nil {
			return nil, fmt.Errorf("old disk: %w", err)
		}
		out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", s.Format, s.Disk, fmt.Sprint(s.Size)).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("make disk %s: %w: %s", s.Disk, err, out)
		}
	}
	if s.MAC == "" {
		s.MAC = fmt.Sprintf("52:54:00:5b:00:%02x", len(c.nodes)+1)
	}
	n := &Node{Spec: s, Started: time.Now()}
	var err error
	n.VM, err = c.net.Start(ctx, lab.Machine{
		Name: s.Name, MAC: s.MAC, Memory: s.Memory, Chipset: s.Chipset, NIC: s.NIC, UEFI: s.UEFI, Restarts: s.Restarts,
		Disks: []lab.Disk{{Path: s.Disk, Format: s.Format, Bus: s.Bus, Serial: "SB-" + strings.ToUpper(s.Name)}},
	}, c.Dir)
	if err != nil {
		return nil, err
	}
	c.nodes = append(c.nodes, n)
	return n, nil
}

// BootDirectly starts a machine with the nodes' kernel, which spares it the network ROM. Words are added to the kernel's command line.
func (c *Cluster) BootDirectly(ctx context.Context, m lab.Machine, words string) (*lab.VM, error) {
	m.NIC, m.Kernel, m.Initrd = "virtio-net-pci", c.Kernel, c.Initramfs
	m.Append = "console=ttyS0 quiet swarmboot.server=" + c.URL + " swarmboot.image=" + ImageName + " " + words
	return c.net.Start(ctx, m, c.Dir)
}

// WaitNode polls the server until it lists n and ok says so of what it knows.
func (c *Cluster) WaitNode(ctx context.Context, n *Node, ok func(web.Node) bool) (web.Node, error) {
	var last web.Node
	for stopped := false; ; {
		if nodes, err := c.Nodes(ctx); err == nil {
			for _, w := range nodes {
				if w.Node != n.MAC {
					continue
				}
				if last = w; ok(w) {
					return w, nil
				}
			}
		}
		if stopped {
			return last, fmt.Errorf("%s stopped in phase %q; console: %s", n.Name, last.Phase, n.VM.Log)
		}
		select {
		case <-n.VM.Done():
			stopped = true // its last report may have come after the look
		case <-c.exited:
			return last, fmt.Errorf("the server ended: %s", lab.Tail(c.ServerLog()))
		case <-ctx.Done():
			return last, fmt.Errorf("%s is still in phase %q: %w; console: %s", n.Name, last.Phase, context.Cause(ctx), n.VM.Log)
		case <-time.After(poll):
		}
	}
}

// Report is what a deployed system says of itself.
type Report struct {
	At                                                     time.Duration // since power-on
	RootPARTUUID, KnownSHA256, Hostname, Kernel, MultiUser string
	RootDevice                                             string // as it was mounted
}

var reportLine = regexp.MustCompile(`SWARMBOOT-TEST root=(\S*) sha256=(\S*) hostname=(\S*) kernel=(\S*) multi-user=(\S*)(?: device=(\S*))?`)

// WaitReport waits for the deployed system to print its report.
func (n *Node) WaitReport(ctx context.Context) (Report, error) {
	l, err := n.VM.Console.Wait(ctx, reportLine)
	if err != nil {
		return Report{}, fmt.Errorf("%s: %w; console: %s", n.Name, err, n.VM.Log)
	}
	m := reportLine.FindStringSubmatch(l.Text)
	return Report{l.At, m[1], m[2], m[3], m[4], m[5], m[6]}, nil
}

// Typed has the deployed Debian run a command in its shell on the console and returns what it prints.
func (n *Node) Typed(ctx context.Context, command string) (string, error) {
	if _, err := n.VM.Console.Wait(ctx, regexp.MustCompile("automatic login")); err != nil {
		return "", err
	}
	for try := time.Now().UnixMilli(); ; try++ { // what is typed before the shell is there gets lost
		if err := n.VM.Send(fmt.Sprintf("echo BEGIN-%d; %s; echo END-%d $?\n", try, command, try)); err != nil {
			return "", err
		}
		wait, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := n.VM.Console.Wait(wait, regexp.MustCompile(fmt.Sprintf("^END-%d 0$", try)))
		cancel()
		if err == nil {
			return between(n.VM.Console.Lines(), fmt.Sprintf("BEGIN-%d", try), fmt.Sprintf("END-%d 0", try)), nil
		}
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return "", err
		}
	}
}

func between(lines []lab.Line, begin, end string) string {
	var b strings.Builder
	in := false
	for _, l := range lines {
		switch {
		case l.Text == begin:
			in = true
		case l.Text == end:
			in = false
		case in:
			b.WriteString(l.Text + "\n")
		}
	}
	return b.String()
}

// Check says what in a report is not what was imaged.
func (f *Files) Check(r Report) error {
	switch {
	case r.RootPARTUUID != f.RootPARTUUID:
		return fmt.Errorf("the root is PARTUUID %q, want %q", r.RootPARTUUID, f.RootPARTUUID)
	case r.KnownSHA256 != f.KnownSHA256:
		return fmt.Errorf("the known file has SHA-256 %q, want %q", r.KnownSHA256, f.KnownSHA256)
	case r.Hostname != f.Hostname:
		return fmt.Errorf("the host name is %q, want %q", r.Hostname, f.Hostname)
	case r.MultiUser != "active":
		return fmt.Errorf("multi-user.target is %q", r.MultiUser)
	}
	return nil
}
