package web

import (
	"encoding/json"
	"strings"
	"testing"

	"swarmboot/internal/event"
)

// People find a machine by the switch and the port that it hangs on. Whatever a node says there is bounded and stays text.
func TestSwitchIsShown(t *testing.T) {
	nodes, s := testServer(t, nil)
	long := strings.Repeat("é", event.MaxSwitchText)
	for _, p := range []event.Progress{
		{Node: "a", Switch: event.Switch{ID: "mac:02:00:00:00:00:51", Name: "sw-r7", Port: "Ethernet1/7", PortDescription: "node 42"}},
		{Node: "b", Switch: event.Switch{ID: "local:x", Port: "<script>alert(1)</script>"}},
		{Node: "c", Switch: event.Switch{ID: long, Name: "x" + long, Port: "x" + long, PortDescription: "x" + long}},
		{Node: "d"},
	} {
		p.Run, p.Phase = "r", event.PhaseFetch
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if status, body, _ := call(t, "POST", s.URL+"/api/v1/nodes", string(b)); status != 200 {
			t.Fatalf("%d: %s", status, body)
		}
	}
	l := nodes.List()
	if want := (event.Switch{ID: "mac:02:00:00:00:00:51", Name: "sw-r7", Port: "Ethernet1/7", PortDescription: "node 42"}); l[0].Switch != want {
		t.Errorf("%+v", l[0].Switch)
	}
	if c := l[2].Switch; len(c.ID) != event.MaxSwitchID || len(c.Name) != event.MaxSwitchText-1 || len(c.Port) != event.MaxSwitchText-1 || len(c.PortDescription) != event.MaxSwitchText-1 {
		t.Errorf("not cut at the end of a character: %d, %d, %d, %d bytes", len(c.ID), len(c.Name), len(c.Port), len(c.PortDescription))
	}
	_, page, _ := call(t, "GET", s.URL+"/", "")
	for _, want := range []string{"<td>sw-r7 Ethernet1/7 (node 42)</td>", "<td>local:x &lt;script&gt;alert(1)&lt;/script&gt;</td>"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in the page:\n%s", want, page)
		}
	}
	_, api, _ := call(t, "GET", s.URL+"/api/v1/nodes", "")
	var shown []struct{ Node, Addr string }
	if err := json.Unmarshal([]byte(api), &shown); err != nil || len(shown) != 4 {
		t.Fatalf("%v, %+v", err, shown)
	}
	if !strings.Contains(api, `"portDescription": "node 42"`) || strings.Count(api, `"switch"`) != 3 {
		t.Errorf("API:\n%s", api)
	}
}
