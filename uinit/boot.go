package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"swarmboot/internal/netup"
	"swarmboot/internal/params"
)

// defaultPort is that of swarmboot serve.
const defaultPort = "8080"

// boot is the whole life of a node, one step after the other. It returns only when a rescue shell is all that is left.
func (n *node) boot() {
	ctx := context.Background()
	cfg := params.Default()
	err := n.setUp()
	if err == nil {
		cfg, err = readParams()
	}
	err = errors.Join(err, n.loadDrivers(ctx))
	if cfg.Action == params.ActionShell {
		n.shellOnly(ctx, cfg, err)
		return
	}
	network, netErr := n.network(ctx, cfg)
	if netErr != nil {
		n.fail(cfg, nil, errors.Join(err, fmt.Errorf("network: %w", netErr)), false)
		return
	}
	if cfg.Server == "" {
		cfg.Server = "http://" + net.JoinHostPort(network.Server.String(), defaultPort)
		n.say("server %s, from the DHCP server", cfg.Server)
	}
	n.server = cfg.Server
	if err != nil {
		n.fail(cfg, network, err, false)
		return
	}
	if told, err := n.deploy(cfg, network); err != nil {
		n.fail(cfg, network, err, told)
		return
	}
	n.finish(cfg)
}

// readParams reads the kernel command line. What it understood comes back beside an error.
func readParams() (*params.Config, error) {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return params.Default(), fmt.Errorf("read the kernel command line: %w", err)
	}
	cfg, err := params.ParseCmdline(strings.TrimSpace(string(line)))
	if cfg == nil {
		cfg = params.Default()
	}
	return cfg, err
}

func (n *node) network(ctx context.Context, cfg *params.Config) (*netup.Net, error) {
	heard := n.listen()
	network, err := netup.Up(ctx, netup.Options{
		NIC: cfg.NIC, First: bootInterface(), Carrier: cfg.Carrier, DHCP: cfg.DHCP, Log: n.say, Link: heard.Link,
	})
	if err != nil {
		heard.Close()
		return nil, err
	}
	heard.Use(network.Interface)
	n.say("network up: %s %s, address %s", network.Interface, network.MAC, &network.Addr)
	return network, nil
}

// bootInterface is the MAC address that the boot loader gives as BOOTIF=01-52-54-00-..: 01 is Ethernet's ARP
// hardware type (pxelinux IPAPPEND 2, iPXE scripts). nil when it gave none.
func bootInterface() net.HardwareAddr {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil
	}
	return parseBootif(line)
}

func parseBootif(line []byte) net.HardwareAddr {
	for _, word := range bytes.Fields(line) {
		if v, ok := bytes.CutPrefix(word, []byte("BOOTIF=01-")); ok {
			if mac, err := net.ParseMAC(string(v)); err == nil && len(mac) == 6 {
				return mac
			}
		}
	}
	return nil
}

// shellOnly is action=shell: errors are shown and do not matter.
func (n *node) shellOnly(ctx context.Context, cfg *params.Config, err error) {
	if err != nil {
		n.say("error: %v", err)
	}
	go n.guard("network", func() {
		if _, err := n.network(ctx, cfg); err != nil {
			n.say("network: %v", err)
		}
	})
	n.rescue()
}

// reading gives people time to read what is on the screen before the machine goes away.
const reading = 10 * time.Second
