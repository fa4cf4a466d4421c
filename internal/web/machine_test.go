package web

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swarmboot/internal/event"
)

const (
	macB  = "52:54:00:00:00:0b"
	macC  = "52:54:00:00:00:0c"
	bmc   = "b0:3a:f2:b6:05:9f" // of a management controller's port, in every machine of its maker
	uuidA = "4c4c4544-0043-3510-8052-b4c04f4d3732"
	uuidB = "4c4c4544-0044-3510-8052-b4c04f4d3732"
)

func done(node, uuid string, macs ...string) event.Progress {
	return event.Progress{Node: node, Run: "r", Phase: event.PhaseDone, Machine: event.Machine{UUID: uuid, MACs: macs}}
}

// A machine must not be overwritten because it comes by another of its cards.
func TestMachineIsKnownByAnyCard(t *testing.T) {
	for _, tt := range []struct {
		name    string
		done    []event.Progress
		asks    string // MAC
		uuid    string
		is      bool
		restart bool // the same holds for a server that was started again
	}{
		{"second card", []event.Progress{done(macA, "", macA, macB)}, macB, "", true, true},
		{"second card, written otherwise", []event.Progress{done(macA, "", strings.ReplaceAll(strings.ToUpper(macB), ":", "-"))}, macB, "", true, true},
		{"another machine", []event.Progress{done(macA, uuidA, macA, macB)}, macC, uuidB, false, true},
		{"UUID only", []event.Progress{done(macA, uuidA, macA)}, macB, uuidA, true, true},
		{"UUID in upper case", []event.Progress{done(macA, uuidA, macA)}, macB, strings.ToUpper(uuidA), true, true},
		{"UUID in the other order of octets", []event.Progress{done(macA, uuidA, macA)}, macB, "44454c4c-4300-1035-8052-b4c04f4d3732", true, true},
		{"UUID of zeros", []event.Progress{done(macA, "00000000-0000-0000-0000-000000000000", macA)}, macB, "00000000-0000-0000-0000-000000000000", false, true},
		{"UUID of ones", []event.Progress{done(macA, "ffffffff-ffff-ffff-ffff-ffffffffffff", macA)}, macB, "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", false, true},
		{"UUID of an example", []event.Progress{done(macA, "03000200-0400-0500-0006-000700080009", macA)}, macB, "03000200-0400-0500-0006-000700080009", false, true},
		{"no UUID", []event.Progress{done(macA, "", macA)}, macB, "", false, true},
		{"UUID of two deployed machines", []event.Progress{done(macA, uuidA, macA, bmc), done(macB, uuidA, macB, bmc)}, macC, uuidA, false, true},
		{"UUID of another machine that has reported", []event.Progress{done(macA, uuidA, macA), {Node: macB, Run: "r", Phase: event.PhaseFetch,
			Machine: event.Machine{UUID: uuidA, MACs: []string{macB}}}}, macB, uuidA, false, false},
		{"one machine by one card and then by the other", []event.Progress{done(macA, uuidA, macA, macB), done(macB, uuidA, macA, macB)}, macC, uuidA, true, true},
		{"a node that does not tell its cards", []event.Progress{done(macA, "")}, macA, uuidA, true, true},
		{"a driver failed the second time", []event.Progress{done(macA, "", macA, macB), {Node: macA, Run: "r2", Phase: event.PhaseDone}}, macB, "", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "nodes.json")
			n, _, _ := table(t, file)
			for _, p := range tt.done {
				update(t, n, p)
			}
			if _, got := n.Deployed(tt.asks, tt.uuid); got != tt.is {
				t.Errorf("deployed: %v", got)
			}
			n, _, _ = table(t, file)
			if _, got := n.Deployed(tt.asks, tt.uuid); tt.restart && got != tt.is {
				t.Errorf("deployed, after a restart: %v", got)
			}
		})
	}
}

func TestRedeployByAnyName(t *testing.T) {
	for _, name := range []string{macA, macB, "52-54-00-00-00-0B"} {
		n, _, _ := table(t, "")
		update(t, n, done(macA, uuidA, macA, macB))
		update(t, n, done(macC, uuidB, macC))
		if k, err := n.Redeploy(name); k != 1 || err != nil {
			t.Errorf("%s: %d, %v", name, k, err)
		}
		for _, mac := range []string{macA, macB} {
			if _, ok := n.Deployed(mac, uuidA); ok {
				t.Errorf("%s: %s still counts as deployed", name, mac)
			}
		}
		if _, ok := n.Deployed(macC, uuidB); !ok {
			t.Errorf("%s: another machine is deployed again", name)
		}
	}
}

// What two machines have in common must not make one of them lose its data for the other.
func TestRedeployOfOneMachineOnly(t *testing.T) {
	n, _, _ := table(t, "")
	update(t, n, done(macA, uuidA, macA, bmc))
	update(t, n, done(macB, uuidB, macB, bmc))
	if _, err := n.Redeploy(bmc); err == nil || !strings.Contains(err.Error(), "several machines") {
		t.Errorf("an address of two machines: %v", err)
	}
	if k, err := n.Redeploy(macA); k != 1 || err != nil {
		t.Errorf("%d, %v", k, err)
	}
	if _, ok := n.Deployed(macB, uuidB); !ok {
		t.Error("the other machine is deployed again")
	}

	// macC looks like macB by its UUID alone. It can be deployed, and macB stays.
	if _, ok := n.Deployed(macC, uuidB); !ok {
		t.Error("a UUID does not count")
	}
	if k, err := n.Redeploy(macC); k != 1 || err != nil {
		t.Errorf("%d, %v", k, err)
	}
	if _, ok := n.Deployed(macC, uuidB); ok {
		t.Error("macC cannot be deployed")
	}
	if _, ok := n.Deployed(macB, uuidB); !ok {
		t.Error("macB is deployed again")
	}
}

func TestMachineIsBounded(t *testing.T) {
	n, _, _ := table(t, "")
	p := done(macA, "not a UUID", "x", "00:00:00:00:00:00", macB, macB)
	for i := range 2 * event.MaxMACs {
		p.MACs = append(p.MACs, fmt.Sprintf("52:54:00:00:01:%02x", i))
	}
	update(t, n, p)
	if l := n.List(); l[0].UUID != "" || len(l[0].MACs) != event.MaxMACs || l[0].MACs[0] != macB || l[0].MACs[1] != "52:54:00:00:01:00" {
		t.Errorf("%+v", l[0].Machine)
	}
}

func TestOldListIsRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nodes.json")
	if err := os.WriteFile(file, []byte(`{"`+macA+`":{"image":"debian","run":"r","time":"2026-01-02T03:04:05Z"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	n, _, _ := table(t, file)
	if d, ok := n.Deployed(macA, uuidA); !ok || d.Image != "debian" {
		t.Errorf("%+v, %v", d, ok)
	}
	if k, err := n.Redeploy(macA); k != 1 || err != nil {
		t.Errorf("%d, %v", k, err)
	}
}

// UUIDs that makers leave as they found them are of many machines, from the first one on.
func TestUUIDsOfNobody(t *testing.T) {
	for _, s := range []string{"03000200-0400-0500-0006-000700080009", "00020003-0004-0005-0006-000700080009", "FEFEFEFE-FEFE-FEFE-FEFE-FEFEFEFEFEFE",
		"07090201-0103-0301-0807-060504030201", "01020907-0301-0103-0807-060504030201", "11111111-1111-1111-1111-111111111111",
		"12345678-ffff-ffff-ffff-ffffffffffff", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"} {
		if got := ParseUUID(s); got != "" {
			t.Errorf("%s counts as %s", s, got)
		}
	}
	for _, s := range []string{uuidA, "00000000-0000-0000-0000-ac1f6b000001"} { // the second as one maker writes it: its end is a MAC address
		if ParseUUID(s) == "" {
			t.Errorf("%s does not count", s)
		}
	}

	file := filepath.Join(t.TempDir(), "nodes.json")
	if err := os.WriteFile(file, []byte(`{"`+macA+`":{"image":"debian","uuid":"00020003-0004-0005-0006-000700080009"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	n, _, log := table(t, file)
	update(t, n, done(macB, "03000200-0400-0500-0006-000700080009", macB))
	if d, ok := n.Deployed(macA, ""); !ok || d.UUID != "" || log.String() == "" || strings.Contains(log.String(), "same SMBIOS UUID") {
		t.Errorf("%+v %v\n%s", d, ok, log)
	}
}
