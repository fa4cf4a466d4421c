package netboot

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
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

// startRival runs a DHCP server on the client's side that makes offers as the script says; search waits until the search with that
// number, from 1, has reached it.
func (l *lan) startRival(t *testing.T, script string) (search func(number int)) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := inNS(t, l.client, exe)
	cmd.Env = append(os.Environ(), roleVariable+"=rival", "NETBOOT_TEST_SCRIPT="+script)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	r := bufio.NewReader(out)
	search = func(number int) {
		t.Helper()
		for line := ""; strings.TrimSpace(line) != fmt.Sprint(number); {
			if line, err = r.ReadString('\n'); err != nil {
				t.Fatalf("no search %d: %v %s", number, err, line)
			}
		}
	}
	search(0)
	return search
}

// roleRival makes an offer in those searches for which the script has an O, and no other. It says the number of each that begins, and
// 0 when it listens.
func roleRival() int {
	c, err := (&link{Link: Link{Interface: "c0"}}).listen(netip.AddrPortFrom(netip.IPv4Unspecified(), dhcpv4.ServerPort))
	if err != nil {
		fmt.Println("ERROR", err)
		return 1
	}
	defer c.Close()
	fmt.Println(0)
	script, number := os.Getenv("NETBOOT_TEST_SCRIPT"), 0
	var last dhcpv4.TransactionID
	for buf := make([]byte, 4096); ; {
		n, _, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			fmt.Println("ERROR", err)
			return 1
		}
		req, err := parse(buf[:n])
		if err != nil || req.MessageType() != dhcpv4.MessageTypeDiscover {
			continue
		}
		if number == 0 || req.TransactionID != last {
			number++
			last = req.TransactionID
			fmt.Println(number)
		}
		if number > len(script) || script[number-1] != 'O' {
			continue
		}
		offer, err := dhcpv4.NewReplyFromRequest(req, dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer),
			dhcpv4.WithServerIP(net.IPv4(192, 168, 77, 200)), dhcpv4.WithYourIP(net.IPv4(192, 168, 77, 210)))
		if err == nil {
			_, err = c.WriteToUDPAddrPort(offer.ToBytes(), destination(offer))
		}
		if err != nil {
			fmt.Println("ERROR", err)
			return 1
		}
	}
}

// Another server that is not heard for a short while still has the network to itself, and one that was gone for longer may come back.
func TestForeignServerMissesSearches(t *testing.T) {
	t.Parallel()
	l := newLAN(t)
	ip(t, "-n", l.client, "address", "add", "192.168.77.200/24", "dev", "c0")
	if err := l.startServer(t, Options{Interfaces: []string{"s0"}, HTTPPort: 8080}); err != nil {
		t.Fatal(err)
	}
	const often = "OOOOOO"
	if len(often) < looksSoon {
		t.Fatal("too few searches")
	}
	search := l.startRival(t, often+"--O---O")
	search(len(often) + 2) // the one before found nobody
	r := nodeRequest(macA)
	r.Tries = 1
	if _, err := l.ask(t, r); err == nil {
		t.Error("one search that found nobody was enough to answer")
	}
	search(len(often) + 3)
	search(len(often) + 7) // after three that found nobody
}

// A search during which the interface cannot have heard anybody says so.
func TestSearchWhileInterfaceIsDown(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		iface string
		flap  func(l *lan) []string
	}{
		// The carrier of a macvlan stays while it is down: only the socket knows.
		"down":       {"m0", func(l *lan) []string { return []string{"-n", l.server, "link", "set", "m0"} }},
		"no carrier": {"s0", func(l *lan) []string { return []string{"-n", l.client, "link", "set", "c0"} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLAN(t)
			ip(t, "-n", l.server, "link", "add", "m0", "link", "s0", "type", "macvlan", "mode", "bridge")
			ip(t, "-n", l.server, "link", "set", "m0", "up")
			search := l.startRival(t, "")
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := inNS(t, l.server, exe)
			cmd.Env = append(os.Environ(), roleVariable+"=search", "NETBOOT_TEST_INTERFACE="+test.iface)
			var out strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			search(1)
			ip(t, append(test.flap(l), "down")...)
			ip(t, append(test.flap(l), "up")...)
			const want = "the interface went down meanwhile"
			if err := cmd.Wait(); err != nil || strings.TrimSpace(out.String()) != want {
				t.Errorf("%v: %s, want %s", err, out.String(), want)
			}
		})
	}
}

// roleSearch searches for other servers once, for long enough that something can be done meanwhile, and says the error.
func roleSearch() int {
	probeTime = 20 * time.Second
	offer, err := (&link{Link: Link{Interface: os.Getenv("NETBOOT_TEST_INTERFACE")}}).rival(context.Background())
	if offer != nil {
		fmt.Print("an offer ")
	}
	fmt.Println(err)
	return 0
}
