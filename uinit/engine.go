package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"swarmboot/internal/cli"
	"swarmboot/internal/event"
	"swarmboot/internal/netup"
	"swarmboot/internal/params"
)

const (
	enginePath  = "/bbin/deploy"
	settledPath = "/run/swarmboot.settled"

	lastWords = 5 * time.Second // for what the engine printed before it ended
	// zombieLook is how often it is looked whether the engine has ended without a way to reap it.
	zombieLook = 5 * time.Second
)

// deploy runs the node engine and waits for it. told says whether the engine has told the server of its failure; what it could not
// tell is in n.unsent.
func (n *node) deploy(cfg *params.Config, network *netup.Net) (told bool, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return false, err
	}
	defer r.Close()
	cmd := exec.Command(enginePath, "--cmdline", "--server", cfg.Server, "--node", nodeID(bootInterface(), network.MAC), "--settled", settledPath, "--switch", n.switchPath)
	cmd.Env = environment
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = w, w
	ended, err := n.children.start(cmd)
	w.Close()
	if err != nil {
		return false, err
	}
	lines := make(chan string, 1)
	go func() {
		var last string
		defer func() { lines <- last }()
		n.guard("console", func() { last = n.con.copy(r) })
	}()
	status := await(ended, cmd.Process.Pid, zombieLook)
	s := settle(cfg, settledPath)
	if s != nil && status.Exited() {
		n.unsent = s.Unsent
	}
	last := "unknown"
	select {
	case last = <-lines:
	case <-time.After(lastWords): // somebody else still holds the pipe
	}
	return verdict(status, s, last)
}

// nodeID is what the server calls this machine: by the interface that the firmware booted from, where that is known, because
// by this one the boot script asks next time, whichever interface had a lease first this time. Under another name the
// server would take the machine for a new one and deploy it again.
func nodeID(boot, lease net.HardwareAddr) string {
	if len(boot) > 0 {
		return boot.String()
	}
	return lease.String()
}

// settle takes over what the node's profile on the server makes of then=, onerror= and action=, and returns the engine's words. Without
// them, as after a crash of the engine, it is nil, and the command line holds.
func settle(cfg *params.Config, path string) *event.Settled {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var s event.Settled
	if err := json.Unmarshal(b, &s); err != nil {
		return nil
	}
	p := params.Profile{Parameters: map[string]string{}}
	for name, v := range map[string]string{"then": s.Then, "onerror": s.OnError, "action": s.Action} {
		if v != "" {
			p.Parameters[name] = v
		}
	}
	_ = p.Apply(cfg, nil) // values that are none leave the command line's
	return &s
}

// verdict turns the engine's end into an error; s is what it has settled, nil when it did not come so far: parameters that are none, or
// a crash. last is the last line that it printed.
func verdict(status unix.WaitStatus, s *event.Settled, last string) (told bool, err error) {
	switch {
	case status.Signaled():
		return false, fmt.Errorf("deploy was killed by signal %d (%s); last line: %s", status.Signal(), status.Signal(), last)
	case status.ExitStatus() == cli.CodeDone:
		return true, nil
	}
	return s != nil && s.Unsent == nil, cli.WithCode(status.ExitStatus(), fmt.Errorf("deploy ended with code %d: %s", status.ExitStatus(), last))
}
