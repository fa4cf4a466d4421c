package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
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
)

// report tells the server that the node failed. It tries a few times and then gives up: the node's own action must not wait for long.
func report(cfg *params.Config, network *netup.Net, at event.Switch, failure error) error {
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails, see crypto/rand
	body, err := event.Progress{
		Node: nodeID(bootInterface(), network.MAC), Machine: machine.Read(machine.Sys), Run: hex.EncodeToString(id), Time: time.Now().UTC(), Image: cfg.Image, Switch: at,
		Phase: event.PhaseFailed, Error: failure.Error(), ExitCode: cli.Code(failure), Seconds: uptime().Seconds(),
	}.Body()
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		if err = post(cfg.Server+"/api/v1/nodes", body); err == nil || try == reportTries {
			return err
		}
		time.Sleep(spread.Around(reportPause, 2))
	}
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
