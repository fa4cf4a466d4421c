package scenario

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// SwitchName is what the switch of StartSwitch calls itself.
const SwitchName = "sw-test"

// StartSwitch has the bridge that the machines hang on speak LLDP, as a switch does, until stop is called: lldpd, each of whose ports has
// the name of a machine's tap device.
func (c *Cluster) StartSwitch(ctx context.Context) (stop func(), err error) {
	conf := filepath.Join(c.Dir, "lldpd.conf")
	text := "configure system hostname " + SwitchName + "\nconfigure lldp portidsubtype ifname\n"
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, fmt.Errorf("switch: %w", err)
	}
	log, err := os.Create(filepath.Join(c.Dir, "lldpd.log"))
	if err != nil {
		return nil, fmt.Errorf("switch: %w", err)
	}
	defer log.Close() // lldpd has its own copy
	// /run is its own: lldpd puts there what another one on this host may have too.
	run := `mount -t tmpfs none /run && mkdir /run/lldpd && cp "$0" /run/conf && exec lldpd -d -u /run/socket -O /run/conf -M4 -I 'tap*'`
	cmd := c.net.Command(ctx, "sh", "-c", run, conf)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("switch: %w", err)
	}
	return func() {
		_ = cmd.Cancel() // it has ended, or will
		_ = cmd.Wait()   // how is no matter
	}, nil
}
