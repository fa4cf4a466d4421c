package netboot

import (
	"slices"
	"testing"
)

func TestWarnings(t *testing.T) {
	why := "interface eth1: another DHCP server"
	s := &Server{links: []*link{{}, {}, {}}}
	if w := s.Warnings(); len(w) != 0 {
		t.Errorf("%q", w)
	}
	s.links[1].silent.Store(&why)
	if w := s.Warnings(); !slices.Equal(w, []string{why}) {
		t.Errorf("%q", w)
	}
}
