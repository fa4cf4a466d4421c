package deploy

import (
	"testing"

	"swarmboot/internal/event"
	"swarmboot/internal/params"
)

// A person's word on the rack, on the command line or in a profile, comes before what the switch says.
func TestRack(t *testing.T) {
	at := func() event.Switch { return event.Switch{ID: "mac:02:00:00:00:00:51"} }
	profile := &params.Profile{Parameters: map[string]string{"rack": "r7"}}
	for _, tt := range []struct {
		o       Options
		profile *params.Profile
		want    string
	}{
		{Options{}, nil, ""},
		{Options{Switch: at}, nil, "mac:02:00:00:00:00:51"},
		{Options{Switch: func() event.Switch { return event.Switch{Name: "sw"} }}, nil, ""},
		{Options{Switch: at}, profile, "r7"},
		{Options{Switch: at, Rack: "r8", Given: map[string]bool{"rack": true}}, profile, "r8"},
	} {
		tt.o.Verify, tt.o.Grow, tt.o.BootEntry = params.VerifyWrite, params.GrowNone, params.BootEntryNone
		e := &engine{o: tt.o}
		if tt.profile != nil {
			if err := e.settle(tt.profile); err != nil {
				t.Fatal(err)
			}
		}
		if got := e.rack(); got != tt.want {
			t.Errorf("%+v: rack %q, want %q", tt.o, got, tt.want)
		}
	}
}
