package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"swarmboot/internal/event"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRead(t *testing.T) {
	sys := t.TempDir()
	net := filepath.Join(sys, "class/net")
	for _, i := range []struct {
		name, address, assign string
		physical              bool
	}{{"eth0", "52:54:00:00:00:0A", "0", true}, {"eth1", "52:54:00:00:00:0b", "0", true}, {"br0", "52:54:00:00:00:0c", "0", false}, {"usb0", "52:54:00:00:00:0d", "1", true}} {
		write(t, filepath.Join(net, i.name, "address"), i.address+"\n")
		write(t, filepath.Join(net, i.name, "addr_assign_type"), i.assign+"\n")
		if i.physical {
			write(t, filepath.Join(net, i.name, "device", "uevent"), "")
		}
	}
	if m := Read(sys); !slices.Equal(m.MACs, []string{"52:54:00:00:00:0a", "52:54:00:00:00:0b"}) || m.UUID != "" {
		t.Errorf("%+v", m)
	}
	write(t, filepath.Join(sys, "class/dmi/id/product_uuid"), "4C4C4544-0043-3510-8052-B4C04F4D3732\n")
	for i := range 2 * event.MaxMACs {
		write(t, filepath.Join(net, fmt.Sprint("port", i), "address"), fmt.Sprintf("52:54:00:00:01:%02x", i))
		write(t, filepath.Join(net, fmt.Sprint("port", i), "device", "uevent"), "")
	}
	if m := Read(sys); len(m.MACs) != event.MaxMACs || m.UUID != "4c4c4544-0043-3510-8052-b4c04f4d3732" {
		t.Errorf("%d addresses, %q", len(m.MACs), m.UUID)
	}
}
