package main

import (
	"encoding/json"
	"os"

	"swarmboot/internal/event"
	"swarmboot/internal/lldp"
)

// defaultSwitchPath is where the node engine finds at which switch the machine is, once that is known. The engine does not wait for it.
const defaultSwitchPath = "/run/swarmboot.switch"

// listen hears of switches until the machine goes away: of the one that the node is at and reports.
func (n *node) listen() *lldp.Watch {
	return lldp.New(lldp.Options{
		Heard: n.atSwitch, Log: n.say, Guard: func(f func()) { n.guard("LLDP", f) },
	})
}

// atSwitch notes the switch for the engine, for reports and for people.
func (n *node) atSwitch(s event.Switch) {
	n.switchMu.Lock()
	n.switchAt = s
	n.switchMu.Unlock()
	n.say("at switch %s", s)
	if err := writeSwitch(n.switchPath, s); err != nil {
		n.say("tell the engine of the switch: %v", err)
	}
}

func (n *node) where() event.Switch {
	n.switchMu.Lock()
	defer n.switchMu.Unlock()
	return n.switchAt
}

// writeSwitch puts the file there whole: the engine may read at any moment.
func writeSwitch(path string, s event.Switch) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", b, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
