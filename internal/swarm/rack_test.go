package swarm

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"swarmboot/imagefmt"
)

// TestRackThatIsKnownLate: a node that has no piece yet moves to its rack; once it has one it stays where it is.
func TestRackThatIsKnownLate(t *testing.T) {
	r := newRig(t, makeImage(t, 8<<20, 256<<10, imagefmt.Packed), SeederOptions{})
	r.tracker.SetSeeder(0) // no pieces yet
	racks := make(chan string, 100)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if q := req.URL.Query(); q.Get("event") != "stopped" {
			racks <- q.Get("sb_rack")
		}
		r.tracker.ServeHTTP(w, req)
	}))
	defer front.Close()
	var rack atomic.Value
	rack.Store("")
	s := r.join(1, r.im.blank(), func(o *NodeOptions) {
		o.Rack, o.Announce = func() string { return rack.Load().(string) }, front.URL+"/announce"
	})
	if got := <-racks; got != "" {
		t.Errorf("first announce: rack %q", got)
	}
	rack.Store("mac:02:00:00:00:00:51")
	for got := ""; got != "mac:02:00:00:00:00:51"; got = <-racks {
		if got != "" {
			t.Fatalf("rack %q", got)
		}
	}
	r.tracker.SetSeeder(r.seeder.Port())
	mustWait(t, s)
	rack.Store("other")
	for len(racks) > 0 {
		<-racks
	}
	if got := <-racks; got != "mac:02:00:00:00:00:51" {
		t.Errorf("with pieces: rack %q", got)
	}
}
