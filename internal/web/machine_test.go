package web

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// counts says of which machines the table, and after a restart the file, know that they are deployed.
func counts(t *testing.T, n *Nodes, want bool, asks ...[2]string) {
	t.Helper()
	again, _, _ := table(t, n.o.File)
	for _, ask := range asks {
		if _, ok := n.Deployed(ask[0], ask[1]); ok != want {
			t.Errorf("%s with UUID %q counts as deployed: %v", ask[0], ask[1], ok)
		}
		if _, ok := again.Deployed(ask[0], ask[1]); ok != want {
			t.Errorf("%s with UUID %q counts as deployed, after a restart: %v", ask[0], ask[1], ok)
		}
	}
}

func redeploy(t *testing.T, n *Nodes, id string) {
	t.Helper()
	if k, err := n.Redeploy(id); k != 1 || err != nil {
		t.Errorf("redeploy %s: %d, %v", id, k, err)
	}
}

// Network adapters of USB, and cards, go from one machine to another.
const (
	adapter  = "52:54:00:00:0a:01"
	adapter2 = "52:54:00:00:0a:02"
	adapter3 = "52:54:00:00:0a:03"
)

func TestAdapterThatAnotherMachineHas(t *testing.T) {
	for _, asked := range []bool{true, false} {
		n, _, _ := table(t, filepath.Join(t.TempDir(), "nodes.json"))
		update(t, n, done(adapter, uuidA, adapter, macA))
		if asked {
			counts(t, n, true, [2]string{adapter, uuidB})
			redeploy(t, n, adapter)
			counts(t, n, false, [2]string{adapter, uuidB}, [2]string{adapter, ""})
			counts(t, n, true, [2]string{adapter2, uuidA}, [2]string{macA, ""}, [2]string{adapter, uuidA})
		}
		p := done(adapter, uuidB, adapter, macB)
		p.Run = "r2"
		update(t, n, p)
		counts(t, n, true, [2]string{adapter2, uuidA}, [2]string{macA, ""}, [2]string{adapter, uuidB}, [2]string{adapter2, uuidB}, [2]string{macB, ""})
		if d, _ := n.Deployed(adapter, uuidB); len(d.MACs) != 2 || d.MACs[1] != macB {
			t.Errorf("%+v", d)
		}
		redeploy(t, n, macB)
		counts(t, n, true, [2]string{adapter2, uuidA}, [2]string{macA, uuidA})
		counts(t, n, false, [2]string{macB, uuidB}, [2]string{adapter2, uuidB})
	}
}

// One of several cards of a machine that is named by another one.
func TestSecondCardThatAnotherMachineHas(t *testing.T) {
	n, _, _ := table(t, filepath.Join(t.TempDir(), "nodes.json"))
	update(t, n, done(macA, uuidA, macA, adapter))
	counts(t, n, true, [2]string{adapter, uuidB})
	redeploy(t, n, adapter)
	counts(t, n, false, [2]string{adapter, uuidB})
	counts(t, n, true, [2]string{macA, ""}, [2]string{adapter2, uuidA})
}

func TestMachineWithAnotherAdapter(t *testing.T) {
	n, _, log := table(t, filepath.Join(t.TempDir(), "nodes.json"))
	update(t, n, done(adapter, uuidA, adapter, macA))
	if d, ok := n.Deployed(adapter2, uuidA); !ok || d.ByUUID != adapter {
		t.Errorf("%v %+v", ok, d)
	}
	if d, ok := n.Deployed(macA, uuidA); !ok || d.ByUUID != "" {
		t.Errorf("%v %+v", ok, d)
	}
	redeploy(t, n, adapter2)
	if _, ok := n.Deployed(adapter2, uuidA); ok {
		t.Error("it cannot be deployed again")
	}
	p := done(adapter2, uuidA, adapter2, macA)
	p.Phase = event.PhaseFetch
	update(t, n, p)
	for range 2 { // the answer to the first one was lost
		update(t, n, done(adapter2, uuidA, adapter2, macA))
		counts(t, n, true, [2]string{adapter3, uuidA}, [2]string{adapter2, uuidA}, [2]string{adapter, uuidA})
	}
	if strings.Contains(log.String(), "same SMBIOS UUID") {
		t.Errorf("%s", log)
	}
	// The first adapter goes to another machine, and the second one once more to be deployed by.
	counts(t, n, true, [2]string{adapter, uuidB})
	redeploy(t, n, adapter)
	counts(t, n, true, [2]string{adapter3, uuidA})
	counts(t, n, false, [2]string{adapter, uuidB})
	redeploy(t, n, adapter2)
	if _, ok := n.Deployed(adapter2, uuidA); ok {
		t.Error("it cannot be deployed a third time")
	}
	p.Run = "r2"
	update(t, n, p)
	p.Phase = event.PhaseDone
	update(t, n, p)
	counts(t, n, true, [2]string{adapter3, uuidA})
}

// The first deployment is forgotten, and the second one done by a new card.
func TestCardIsReplacedBetweenDeployments(t *testing.T) {
	n, _, _ := table(t, filepath.Join(t.TempDir(), "nodes.json"))
	update(t, n, done(adapter, uuidA, adapter, macA))
	redeploy(t, n, adapter)
	update(t, n, done(adapter2, uuidA, adapter2, macA))
	counts(t, n, true, [2]string{adapter3, uuidA})
}

// "Deploy again" is said of a machine, and not of the adapter that it has at the time.
func TestRedeployIsOfTheMachineThatAsked(t *testing.T) {
	n, _, _ := table(t, filepath.Join(t.TempDir(), "nodes.json"))
	update(t, n, done(adapter, uuidA, adapter))
	update(t, n, done(macB, uuidB, macB))
	counts(t, n, true, [2]string{adapter2, uuidA})
	redeploy(t, n, adapter2)
	counts(t, n, true, [2]string{adapter2, uuidB})
	for _, mac := range []string{adapter2, adapter3} {
		if mac == adapter3 {
			counts(t, n, true, [2]string{adapter3, uuidA})
			redeploy(t, n, adapter3)
		}
		if _, ok := n.Deployed(mac, uuidA); ok {
			t.Errorf("it cannot be deployed by %s", mac)
		}
	}
	update(t, n, done(adapter3, uuidA, adapter3))
	counts(t, n, true, [2]string{adapter2, uuidA}, [2]string{adapter3, uuidA}, [2]string{adapter2, uuidB}, [2]string{macB, uuidB})
}

// A node that could not read its UUID this time is still the machine with that one.
func TestUUIDThatIsNotReadAgain(t *testing.T) {
	n, _, _ := table(t, filepath.Join(t.TempDir(), "nodes.json"))
	update(t, n, done(macA, uuidA, macA))
	p := done(macA, "", macA)
	p.Run = "r2"
	update(t, n, p)
	counts(t, n, true, [2]string{macB, uuidA})
}

// Laptops with a few adapters between them, and an admin who has the one deployed again that is in front of him: none is overwritten otherwise,
// and none has to be asked for more than twice.
func TestLaptopsAndAdapters(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		file := filepath.Join(t.TempDir(), "nodes.json")
		n, _, _ := table(t, file)
		keep, story := map[int]bool{}, ""
		for step := range 60 {
			laptop, by := r.IntN(4), []string{adapter, adapter2, adapter3}[r.IntN(3)]
			uuid := fmt.Sprintf("4c4c4544-%04d-3510-8052-b4c04f4d3732", laptop)
			boots := func() bool { _, ok := n.Deployed(by, uuid); return !ok }
			story += fmt.Sprintf("laptop %d by %s\n", laptop, by)
			deploy := boots()
			if deploy && keep[laptop] {
				t.Fatalf("seed %d: it is overwritten:\n%s", seed, story)
			}
			for asked := 0; !deploy && r.IntN(2) == 0; asked++ {
				if asked == 2 {
					t.Fatalf("seed %d: it cannot be deployed:\n%s", seed, story)
				}
				story += "asked for\n"
				redeploy(t, n, by)
				keep[laptop] = false
				deploy = boots()
			}
			if deploy {
				p := done(by, uuid, by, fmt.Sprintf("52:54:00:00:0b:%02x", laptop))
				p.Run = fmt.Sprint("r", step)
				p.Phase = event.PhaseFetch
				update(t, n, p)
				p.Phase = event.PhaseFailed
				if keep[laptop] = r.IntN(4) > 0; keep[laptop] {
					p.Phase = event.PhaseDone
				}
				update(t, n, p)
				story += fmt.Sprintln("deployed:", keep[laptop])
			}
			if r.IntN(8) == 0 {
				story += "restart\n"
				n, _, _ = table(t, file)
			}
		}
	}
}

// Nor must a run that failed with one adapter say that the machine is several ones.
func TestAdapterIsChangedAfterAFailure(t *testing.T) {
	n, now, _ := table(t, filepath.Join(t.TempDir(), "nodes.json"))
	p := done(adapter, uuidA, adapter, macA)
	for _, p.Phase = range []event.Phase{event.PhaseFailed, event.PhaseFetch} {
		update(t, n, p)
		p.Node, p.MACs = adapter2, []string{adapter2, macA}
	}
	*now = now.Add(LostAfter + time.Second)
	update(t, n, done(adapter3, uuidA, adapter3, macA))
	counts(t, n, true, [2]string{adapter, uuidA}, [2]string{adapter2, uuidA})
}
