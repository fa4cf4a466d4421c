package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"swarmboot/internal/cli"
	"swarmboot/internal/event"
	"swarmboot/internal/machine"
	"swarmboot/internal/netup"
	"swarmboot/internal/params"
	"swarmboot/internal/spread"
)

const (
	reportTries   = 3
	reportTimeout = 5 * time.Second
	reportPause   = 2 * time.Second // half of it at least: nodes that failed together must not come back together each time
	reportLongest = time.Minute     // it grows to that while nothing waits for it
)

// failure is the report of a node that failed before the engine could say so itself.
func failure(cfg *params.Config, network *netup.Net, at event.Switch, err error) *event.Progress {
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails, see crypto/rand
	return &event.Progress{
		Node: nodeID(bootInterface(), network.MAC), Machine: machine.Read(machine.Sys), Run: hex.EncodeToString(id), Time: time.Now().UTC(), Image: cfg.Image, Switch: at,
		Phase: event.PhaseFailed, Error: err.Error(), ExitCode: cli.Code(err), Seconds: uptime().Seconds(),
	}
}

// tell sends n.unsent, which is nil then. It tries a few times and then gives up: the node's own action must not wait for long.
func (n *node) tell(tries int, wait time.Duration) error {
	for {
		err := n.send(n.unsent)
		if err == nil {
			n.unsent = nil
			return nil
		}
		if tries--; tries == 0 {
			return err
		}
		time.Sleep(spread.Around(wait, 2))
	}
}

// tellOn sends p until the server has it, however long that is away: it would show the node at work for ever. A deployment that somebody
// starts by hand speaks for the node from then on.
func (n *node) tellOn(p *event.Progress, wait time.Duration, byHand func() bool) {
	for {
		time.Sleep(spread.Around(wait, 2))
		if byHand() {
			return
		}
		if n.send(p) == nil {
			n.say("the server was told")
			return
		}
		wait = min(2*wait, reportLongest)
	}
}

// deploysByHand says whether an engine runs.
func deploysByHand() bool {
	names, _ := filepath.Glob("/proc/[0-9]*/comm") // the pattern is a good one
	return slices.ContainsFunc(names, func(name string) bool {
		b, _ := os.ReadFile(name) // it may have ended
		return strings.TrimSpace(string(b)) == filepath.Base(enginePath)
	})
}

func (n *node) send(p *event.Progress) error {
	body, err := p.Body()
	if err != nil {
		return err
	}
	return post(n.server+"/api/v1/nodes", body)
}

func post(url string, body []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), reportTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("POST %s: %s", url, resp.Status)
	}
	return nil
}
