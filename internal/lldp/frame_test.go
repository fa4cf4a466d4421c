package lldp

import (
	"slices"
	"testing"

	"swarmboot/internal/event"
)

// hear gives a Watch frames on two interfaces, of which it is told to use n1 after the given number of frames, and returns the IDs
// that it tells.
func hear(t *testing.T, useAfter int, frames ...string) (ids []string) {
	t.Helper()
	w := New(Options{Heard: func(s event.Switch) { ids = append(ids, s.Name+s.ID) }})
	for _, name := range []string{"n1", "n2"} {
		w.ports[name] = &port{name: name, stop: func() {}, up: make(chan struct{}), found: make(chan struct{})}
	}
	for i, f := range frames {
		if i == useAfter {
			w.Use("n1")
		}
		w.frame(w.ports[f[:2]], unhex(t, f[3:]))
	}
	if useAfter == len(frames) {
		w.Use("n1")
	}
	return ids
}

func TestWhichOneCounts(t *testing.T) {
	const (
		bridge  = head + "0204 07737731 0402 0737 0602 0078 0e04 00140004 0000"
		other   = head + "0204 07737732 0402 0737 0602 0078 0e04 00140004 0000"
		named   = head + "0204 07737731 0402 0737 0602 0078 0a01 6e 0e04 00140004 0000"
		silent  = head + "0204 07737733 0402 0737 0602 0078 0000"
		machine = head + "0204 07706331 0402 0737 0602 0078 0e04 00940080 0000"
		far     = "0180c2000000 00000000aaaa 88cc 0204 07666172 0402 0737 0602 0078 0e04 00140004 0000"
		farther = "0180c2000003 00000000aaaa 88cc 0204 07686166 0402 0737 0602 0078 0e04 00140004 0000"
	)
	for name, tt := range map[string]struct {
		useAfter int
		frames   []string
		want     []string
	}{
		"before the interface is in use":     {1, []string{"n1 " + bridge}, []string{"local:sw1"}},
		"after it":                           {0, []string{"n1 " + bridge}, []string{"local:sw1"}},
		"again":                              {0, []string{"n1 " + bridge, "n1 " + bridge}, []string{"local:sw1"}},
		"under another name":                 {0, []string{"n1 " + bridge, "n1 " + named}, []string{"local:sw1", "nlocal:sw1"}},
		"on the other interface":             {1, []string{"n2 " + bridge}, nil},
		"a machine at a hub":                 {0, []string{"n1 " + machine, "n1 " + bridge, "n1 " + machine}, []string{"local:sw1"}},
		"two alike: the first":               {0, []string{"n1 " + bridge, "n1 " + other}, []string{"local:sw1"}},
		"one that says that it is a switch":  {0, []string{"n1 " + silent, "n1 " + bridge, "n1 " + silent}, []string{"local:sw3", "local:sw1"}},
		"the nearer one":                     {0, []string{"n1 " + far, "n1 " + farther, "n1 " + bridge, "n1 " + far}, []string{"local:far", "local:haf", "local:sw1"}},
		"nearer, but not known for a switch": {0, []string{"n1 " + far, "n1 " + silent}, []string{"local:far"}},
		"no frame at all":                    {0, []string{"n1 " + head}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := hear(t, tt.useAfter, tt.frames...); !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// TestLinkWaitsForNobody: what is told of the link comes from DHCP's way; a console that hangs while the switch is shown on it, or an
// interface that is not there, must not hold that up.
func TestLinkWaitsForNobody(t *testing.T) {
	hangs, goOn, failed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	w := New(Options{
		Heard: func(event.Switch) { close(hangs); <-goOn },
		Log:   func(string, ...any) { close(failed) },
	})
	w.ports["n1"] = &port{name: "n1", stop: func() {}, up: make(chan struct{}), found: make(chan struct{})}
	w.used = "n1"
	go w.frame(w.ports["n1"], unhex(t, head+"0204 07737731 0402 0737 0602 0078 0e04 00140004 0000"))
	<-hangs
	w.Link("n1", nil, true)
	w.used = ""
	w.Link("sb-none", nil, false) // hangs for ever where it would wait
	<-failed
	close(goOn)
	w.Close()
}
