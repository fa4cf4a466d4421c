package web

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"swarmboot/internal/event"
)

// owner is the machine that first reported with a UUID.
type owner struct {
	id      string
	machine event.Machine
	several bool // others have it, too
}

// cleanMachine leaves what can be compared: at most event.MaxMACs addresses as ParseMAC writes them, and the UUID as ParseUUID does.
func cleanMachine(m *event.Machine) {
	var macs []string
	for _, s := range m.MACs {
		mac, err := ParseMAC(s)
		if err == nil && mac != "00:00:00:00:00:00" && mac != "ff:ff:ff:ff:ff:ff" && !slices.Contains(macs, mac) && len(macs) < event.MaxMACs {
			macs = append(macs, mac)
		}
	}
	m.MACs, m.UUID = macs, ParseUUID(m.UUID)
}

// ParseUUID returns an SMBIOS UUID in a form that can be compared, "" for what is none. SMBIOS before 2.6 does not say in which order
// the octets of the first three fields stand, and neither do iPXE and the kernel agree on it in all their versions: of the two orders the
// smaller one is taken. All zeros and all ones mean that the machine has no UUID (SMBIOS 7.2.1); makers write more that means the same: another
// octet sixteen times, ones from the fifth octet on, and the examples of BIOS vendors.
func ParseUUID(s string) string {
	if len(s) > 36 {
		return ""
	}
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 || bytes.Count(b, b[:1]) == 16 || bytes.Count(b[4:], []byte{0xff}) == 12 {
		return ""
	}
	other := slices.Clone(b)
	slices.Reverse(other[:4])
	slices.Reverse(other[4:6])
	slices.Reverse(other[6:8])
	if bytes.Compare(other, b) < 0 {
		b = other
	}
	uuid := fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	switch uuid {
	case "00020003-0004-0005-0006-000700080009", "01020907-0301-0103-0807-060504030201": // 03000200-0400-0500-... and 07090201-0103-0301-...
		return ""
	}
	return uuid
}

// sameMachine says whether two nodes are one machine that has booted by one card and by another. That they have any address in common
// does not say it: the network port that a management controller shows by USB has the same one in every machine of some makers.
func sameMachine(a string, am event.Machine, b string, bm event.Machine) bool {
	return a == b || slices.Contains(am.MACs, b) || slices.Contains(bm.MACs, a)
}

// anotherMachine says whether two UUIDs are of two machines; of one that is not known it says no.
func anotherMachine(a, b string) bool { return a != "" && b != "" && a != b }

// note learns of UUIDs that several machines have; with mu held.
func (t *Nodes) note(id string, m event.Machine) {
	if m.UUID == "" {
		return
	}
	o, known := t.owners[m.UUID]
	switch {
	case !known && len(t.owners) < maxDeployed:
		t.owners[m.UUID] = owner{id: id, machine: m}
	case known && len(t.byUUID[m.UUID]) == 0 && !t.running(o.id): // nothing is deployed: it may be one machine that tries with another adapter
		t.owners[m.UUID] = owner{id: id, machine: m, several: o.several}
	case known && !o.several && !sameMachine(o.id, o.machine, id, m) && !t.released(id, m.UUID):
		o.several = true
		t.owners[m.UUID] = o
		t.o.Logger.Warn("machines with the same SMBIOS UUID are told apart by their MAC addresses alone", "uuid", m.UUID, "node", o.id, "other", id)
	}
}

// released says whether that a node has its UUID, as another one has, does not show that these are two machines; with mu held.
func (t *Nodes) released(id, uuid string) bool {
	d := t.deployed[id]
	return t.again[id] == uuid || d.Again && d.UUID == uuid
}

// put adds a deployment, in place of those of the same machine that it covers; with mu held.
func (t *Nodes) put(id string, d Deployment) {
	if anotherMachine(t.deployed[id].UUID, d.UUID) {
		t.part(id, id)
	}
	if d.UUID == "" {
		d.UUID = t.deployed[id].UUID
	}
	d.Again = d.Again || d.UUID != "" && t.released(id, d.UUID)
	for _, mac := range t.deployed[id].MACs { // a card whose driver failed this time is still one of the machine's
		if !slices.Contains(d.MACs, mac) && len(d.MACs) < event.MaxMACs {
			d.MACs = append(d.MACs, mac)
		}
	}
	for _, old := range t.sameAs(id, d.Machine) {
		o := t.deployed[old].Machine
		missing := slices.ContainsFunc(o.MACs, func(mac string) bool { return !slices.Contains(d.MACs, mac) })
		if old == id || slices.Contains(d.MACs, old) && !missing && (o.UUID == "" || o.UUID == d.UUID) {
			t.drop(old)
		}
	}
	t.deployed[id] = d
	t.find(id, d)
	t.note(id, d.Machine)
}

// part takes a card out of the deployment of a machine, which stays: the card is another machine's now; with mu held.
func (t *Nodes) part(id, mac string) {
	d := t.deployed[id]
	t.drop(id)
	d.MACs = slices.DeleteFunc(slices.Clone(d.MACs), func(s string) bool { return s == mac })
	d.Again = true
	if id == mac {
		id = d.UUID + "." + mac
	}
	t.put(id, d)
}

// find enters a deployment where its addresses and its UUID are looked up; with mu held.
func (t *Nodes) find(id string, d Deployment) {
	for _, mac := range d.MACs {
		t.byMAC[mac] = append(t.byMAC[mac], id)
	}
	if d.UUID != "" {
		t.byUUID[d.UUID] = append(t.byUUID[d.UUID], id)
	}
}

// drop removes a deployment; with mu held.
func (t *Nodes) drop(id string) {
	remove := func(from map[string][]string, key string) {
		from[key] = slices.DeleteFunc(from[key], func(s string) bool { return s == id })
		if len(from[key]) == 0 {
			delete(from, key)
		}
	}
	d := t.deployed[id]
	for _, mac := range d.MACs {
		remove(t.byMAC, mac)
	}
	remove(t.byUUID, d.UUID)
	delete(t.deployed, id)
}

// sameAs returns the nodes with deployments that are the same machine as one, or have had its card; with mu held.
func (t *Nodes) sameAs(id string, m event.Machine) []string {
	ids := slices.Clone(t.byMAC[id])
	for _, other := range append([]string{id}, m.MACs...) {
		if _, ok := t.deployed[other]; ok && !slices.Contains(ids, other) {
			ids = append(ids, other)
		}
	}
	return ids
}

// lookUp finds the deployment of a machine by the name of the node or any of its addresses, else by its UUID; "" = none; with mu held.
func (t *Nodes) lookUp(id, uuid string) string {
	if _, ok := t.deployed[id]; ok {
		return id
	}
	ids := t.byMAC[id]
	if len(ids) == 0 && !t.owners[uuid].several {
		ids = t.byUUID[uuid]
	}
	if len(ids) == 0 {
		return ""
	}
	return ids[len(ids)-1]
}

// Deployed tells what was deployed to a machine, by the name of the node, any address that it has reported, or its UUID.
func (t *Nodes) Deployed(id, uuid string) (Deployment, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	uuid = ParseUUID(uuid)
	node := t.lookUp(id, uuid)
	if node == "" || uuid != "" && t.again[id] == uuid {
		return Deployment{}, false
	}
	if _, ok := t.asked[id]; ok || len(t.asked) < maxNodes {
		t.asked[id] = uuid
	}
	d := t.deployed[node]
	if node != id && !slices.Contains(d.MACs, id) {
		d.ByUUID = node
	}
	return d, true
}

// forget removes the deployments of a machine, or with "all" every one; it returns of how many machines.
func (t *Nodes) forget(id string) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if id == "all" {
		n := len(t.deployed)
		for node := range t.deployed {
			t.drop(node)
		}
		clear(t.again)
		t.changes++
		return n, nil
	}
	uuid := t.asked[id]
	own, others := t.having(id, uuid)
	certain := !slices.ContainsFunc(own, func(node string) bool {
		return !sameMachine(own[0], t.deployed[own[0]].Machine, node, t.deployed[node].Machine)
	})
	if !certain && uuid == "" {
		return 0, fmt.Errorf("%s is an address of several machines: %s", id, strings.Join(own, ", "))
	}
	n := 0
	for _, node := range others {
		t.part(node, id)
		n = 1
	}
	if certain {
		for _, node := range own {
			t.drop(node)
			n = 1
		}
	}
	t.changes += n
	if uuid != "" && len(others) == 0 && t.lookUp(id, uuid) != "" {
		// Known by its UUID. Whether the deployment that it has is of this machine is not certain: it stays, and does not count for this one.
		t.again[id] = uuid
		n = 1
	}
	if n == 0 {
		return 0, fmt.Errorf("node %.100q has no finished deployment", id)
	}
	return n, nil
}

// having returns the nodes with deployments that are the same machine as a node that asked with a UUID, and those of other machines that have had
// its card; with mu held.
func (t *Nodes) having(id, uuid string) (own, others []string) {
	m := t.deployed[id].Machine
	if anotherMachine(m.UUID, uuid) {
		m = event.Machine{} // the other cards of that one are none of this one's
	}
	for _, node := range t.sameAs(id, m) {
		if anotherMachine(t.deployed[node].UUID, uuid) {
			others = append(others, node)
		} else {
			own = append(own, node)
		}
	}
	return own, others
}
