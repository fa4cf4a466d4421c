// Package machine tells by what a server knows this machine, whichever of its cards it boots by.
package machine

import (
	"os"
	"path/filepath"
	"strings"

	"swarmboot/internal/event"
)

// Sys is where the kernel shows devices.
const Sys = "/sys"

// Read returns the MAC addresses of the network cards that the kernel shows below sys, and the machine's SMBIOS UUID. What cannot be
// read is left out: a virtual machine may have no SMBIOS, and only root may read the UUID.
func Read(sys string) (m event.Machine) {
	cards, _ := filepath.Glob(filepath.Join(sys, "class/net/*/device")) // bridges, VLANs and the like have none
	for _, card := range cards {
		dir := filepath.Dir(card)
		// NET_ADDR_RANDOM of <linux/netdevice.h>: a card without an address has another one at every start.
		if mac := text(filepath.Join(dir, "address")); mac != "" && text(filepath.Join(dir, "addr_assign_type")) != "1" && len(m.MACs) < event.MaxMACs {
			m.MACs = append(m.MACs, mac)
		}
	}
	m.UUID = text(filepath.Join(sys, "class/dmi/id/product_uuid"))
	return m
}

func text(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.ToLower(strings.TrimSpace(string(b)))
}
