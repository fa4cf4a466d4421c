package lab

import (
	"strings"
	"testing"
)

func TestRackTCP(t *testing.T) {
	if testing.Short() {
		t.Skip("needs root and network namespaces")
	}
	r, err := NewRack(t.Context(), 2, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	for i := range 2 {
		out, err := r.Host(i).Command(t.Context(), "cat", "/proc/sys/net/ipv4/tcp_congestion_control").Output()
		if got := strings.TrimSpace(string(out)); got != "cubic" || err != nil {
			t.Errorf("host %d: TCP is %q, %v: nodes' kernels have cubic", i, got, err)
		}
	}
}
