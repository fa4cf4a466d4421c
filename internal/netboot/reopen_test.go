package netboot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// An interface that is removed is missed at once, and served as before when it is back: by DHCP from the same pool, by TFTP, and with an
// eye on addresses that are in use.
func TestInterfaceIsMadeAnew(t *testing.T) {
	t.Parallel()
	for _, force := range []bool{false, true} {
		t.Run(fmt.Sprintf("force %v", force), func(t *testing.T) {
			t.Parallel()
			l := newLAN(t)
			dir, efi := ipxeDir(t)
			if err := l.startServer(t, Options{Interfaces: []string{"s0", "s1"}, HTTPPort: 8080, IPXEDir: dir, Force: force}); err != nil {
				t.Fatal(err)
			}
			given := nodeRequest(macA)
			given.Has = "192.168.77.99" // not where the search for a free one starts
			if _, err := l.ask(t, given); err != nil {
				t.Fatal(err)
			}
			l.warns(t, "")
			ip(t, "-n", l.server, "link", "delete", "s0")
			l.warns(t, "interface s0 was removed")
			l.cable(t, 0)
			l.warns(t, "does not have that address")
			other := nodeRequest(macA)
			other.Interface = "c1"
			if _, err := l.ask(t, other); err != nil {
				t.Errorf("the other interface is not served meanwhile: %v", err)
			}
			l.address(t, 0)
			l.warns(t, "")
			if ack, err := l.ask(t, nodeRequest(macA)); err != nil || ack.YourIPAddr.String() != given.Has {
				t.Errorf("the machine that had %s: %v, %v", given.Has, ack, err)
			}
			mac, err := net.ParseMAC(macB)
			if err != nil {
				t.Fatal(err)
			}
			inUse, err := newPool(netip.MustParseAddr("192.168.77.1"), netip.MustParseAddr("192.168.77.254")).offer(mac, netip.Addr{})
			if err != nil {
				t.Fatal(err)
			}
			ip(t, "-n", l.client, "address", "add", inUse.String()+"/24", "dev", "c0")
			if ack, err := l.ask(t, nodeRequest(macB)); err != nil || toAddr(ack.YourIPAddr) == inUse {
				t.Errorf("%s is in use: %v, %v", inUse, ack, err)
			}
			got, err := inNS(t, l.client, "curl", "-sS", "--max-time", "20", "tftp://192.168.77.1/undionly.kpxe").Output()
			if err != nil || !bytes.Equal(got, efi[:70000]) {
				t.Errorf("TFTP: %v, %d bytes", err, len(got))
			}
			ip(t, "-n", l.server, "link", "delete", "s0") // and back before anybody has looked
			l.cable(t, 0)
			l.address(t, 0)
			if ack, err := l.ask(t, nodeRequest(macA)); err != nil || ack.YourIPAddr.String() != given.Has {
				t.Errorf("the machine that had %s: %v, %v", given.Has, ack, err)
			}
		})
	}
}

// The socket is closed as soon as the context has ended. A context made from it ends later, the more so the more of them there are.
func TestEndIsNoFailure(t *testing.T) {
	t.Parallel()
	served := map[string]func(*link, context.Context) error{"DHCP": (*link).serveDHCP, "TFTP": (*link).serveTFTP}
	for name, serve := range served {
		for range 20 {
			l := &link{Link: Link{Interface: "lo", Addr: netip.MustParseAddr("127.0.0.1")}, log: slog.New(slog.DiscardHandler)}
			c, err := l.listen(netip.AddrPortFrom(l.Addr, 0))
			if err != nil {
				t.Fatal(err)
			}
			l.dhcp, l.tftp = c, c
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- serve(l, ctx) }()
			go func() {
				<-ctx.Done()
				l.close()
			}()
			for range 10000 {
				_, end := context.WithCancel(ctx)
				defer end()
			}
			cancel()
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Fatalf("%s ended with %v", name, err)
			}
		}
	}
}

// An interface may be back at another network: before anybody is answered there, it is looked for another DHCP server.
func TestInterfaceIsBackElsewhere(t *testing.T) {
	t.Parallel()
	l := newLAN(t)
	l.lookSoon = time.Hour
	if err := l.startServer(t, Options{Interfaces: []string{"s0"}, HTTPPort: 8080}); err != nil {
		t.Fatal(err)
	}
	ip(t, "-n", l.server, "link", "delete", "s0")
	l.warns(t, "interface s0 was removed")
	l.cable(t, 0)
	ip(t, "-n", l.client, "address", "add", "192.168.77.200/24", "dev", "c0")
	l.startRival(t, "OOO") // a search that is cut short is made again
	l.address(t, 0)
	l.warns(t, "another DHCP server")
	r := nodeRequest(macA)
	r.Tries = 2
	if _, err := l.ask(t, r); err == nil {
		t.Error("answers beside another DHCP server")
	}
}

// warns waits until the server's warnings contain the text, or there are none if it is "".
func (l *lan) warns(t *testing.T, text string) {
	t.Helper()
	for now := l.warnings(); text == "" && now != "[]" || !strings.Contains(now, text); now = l.warnings() {
		time.Sleep(tick / 10)
	}
}
