package netboot

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

// storm is how many machines are switched on at the same moment.
const storm = 7000

// TestBootStorm: the first request of every one of thousands of machines is answered.
func TestBootStorm(t *testing.T) {
	l := newLAN(t)
	ip(t, "-n", l.server, "address", "flush", "dev", "s0")
	ip(t, "-n", l.server, "address", "add", "10.50.0.1/16", "dev", "s0")
	ip(t, "-n", l.client, "address", "add", "10.50.255.250/16", "dev", "c0")
	if err := l.startServer(t, Options{Interfaces: []string{"s0"}, Range: "10.50.1.0-10.50.200.0", HTTPPort: 8080}); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := inNS(t, l.client, exe)
	cmd.Env = append(os.Environ(), roleVariable+"=storm")
	out, err := cmd.CombinedOutput()
	if want := fmt.Sprintf("%d offers", storm); err != nil || strings.TrimSpace(string(out)) != want {
		t.Errorf("%v, %s, want %s", err, out, want)
	}
}

// roleStorm sends one DHCPDISCOVER for each machine, all at once, and says how many offers there were until no more came.
func roleStorm() int {
	offers, err := runStorm()
	if err != nil {
		fmt.Println("ERROR", err)
		return 1
	}
	fmt.Printf("%d offers\n", offers)
	return 0
}

func runStorm() (offers int, err error) {
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) (err error) {
		cerr := rc.Control(func(fd uintptr) {
			for _, o := range [][2]int{{unix.SO_BROADCAST, 1}, {unix.SO_RCVBUFFORCE, 64 << 20}} {
				if err == nil {
					err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, o[0], o[1])
				}
			}
			if err == nil {
				err = unix.BindToDevice(int(fd), "c0")
			}
		})
		if err == nil {
			err = cerr
		}
		return err
	}}
	c, err := lc.ListenPacket(context.Background(), "udp4", fmt.Sprintf("0.0.0.0:%d", dhcpv4.ClientPort))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	var requests [][]byte
	for i := range storm {
		d, err := dhcpv4.NewDiscovery(net.HardwareAddr{2, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)})
		if err != nil {
			return 0, err
		}
		requests = append(requests, d.ToBytes())
	}
	to := &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ServerPort}
	for _, b := range requests {
		if _, err := c.WriteTo(b, to); err != nil {
			return 0, err
		}
	}
	seen := map[string]bool{}
	buf := make([]byte, 4096)
	for len(seen) < storm {
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return 0, err
		}
		n, _, err := c.ReadFrom(buf)
		if err != nil {
			break // no more come
		}
		if m, err := dhcpv4.FromBytes(buf[:n]); err == nil && m.MessageType() == dhcpv4.MessageTypeOffer {
			seen[m.ClientHWAddr.String()] = true
		}
	}
	return len(seen), nil
}
