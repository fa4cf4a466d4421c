package netboot

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
)

func TestARPProbe(t *testing.T) {
	a := &arp{mac: net.HardwareAddr{2, 0, 0, 0, 0, 1}}
	want := []byte{0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 168, 77, 50}
	if b := a.probe(netip.MustParseAddr("192.168.77.50")); !bytes.Equal(b, want) {
		t.Errorf("% x", b)
	}
}

func FuzzARP(f *testing.F) {
	f.Add([]byte{0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 1, 10, 0, 0, 9, 2, 0, 0, 0, 0, 2, 10, 0, 0, 1, 0, 0})
	f.Add([]byte{0, 1, 8, 0, 6, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		mac, ip, ok := parseARP(b)
		if ok && (len(mac) != 6 || !ip.Is4()) {
			t.Errorf("%v, %v", mac, ip)
		}
	})
}
