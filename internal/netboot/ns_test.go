package netboot

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"go.uber.org/goleak"

	"swarmboot/internal/tooltest"
)

// The test binary runs itself inside network namespaces: as the server, and as a DHCP client.
const roleVariable = "NETBOOT_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "server":
		os.Exit(roleServer())
	case "client":
		os.Exit(roleClient())
	case "storm":
		os.Exit(roleStorm())
	case "rival":
		os.Exit(roleRival())
	case "search":
		os.Exit(roleSearch())
	}
	goleak.VerifyTestMain(m)
}

const lookSoonInTests = 500 * time.Millisecond

// lan is two namespaces joined by cables s0-c0 and s1-c1. The server's side has
// 192.168.77.1/24 and 192.168.78.1/24.
type lan struct {
	server, client string
	lookSoon       time.Duration // of servers; 0: lookSoonInTests
	warnings       func() string // of the server that was started last
}

var lanCount atomic.Int32

func newLAN(t *testing.T) *lan {
	t.Helper()
	if testing.Short() {
		t.Skip("needs network namespaces")
	}
	id := fmt.Sprintf("sbnb%d-%d", os.Getpid(), lanCount.Add(1))
	l := &lan{server: id + "s", client: id + "c"}
	for _, ns := range []string{l.server, l.client} {
		t.Cleanup(func() { _ = exec.CommandContext(context.Background(), "ip", "netns", "delete", ns).Run() })
		ip(t, "netns", "add", ns)
		// No waiting for duplicate addresses on a cable that the test owns.
		command(t, "ip", "netns", "exec", ns, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.default.forwarding=0", "net.ipv6.conf.default.disable_ipv6=0")
		ip(t, "-n", ns, "link", "set", "lo", "up")
	}
	for i := range 2 {
		l.cable(t, i)
		l.address(t, i)
	}
	return l
}

// cable joins the namespaces by the interfaces with number i; address gives the server's side its address.
func (l *lan) cable(t *testing.T, i int) {
	t.Helper()
	s, c := fmt.Sprintf("s%d", i), fmt.Sprintf("c%d", i)
	ip(t, "link", "add", s, "netns", l.server, "type", "veth", "peer", "name", c, "netns", l.client)
	ip(t, "-n", l.server, "link", "set", s, "up")
	ip(t, "-n", l.client, "link", "set", c, "up")
}

func (l *lan) address(t *testing.T, i int) {
	t.Helper()
	ip(t, "-n", l.server, "address", "add", fmt.Sprintf("192.168.%d.1/24", 77+i), "dev", fmt.Sprintf("s%d", i))
}

func ip(t *testing.T, args ...string) string { t.Helper(); return command(t, "ip", args...) }

var command = tooltest.Run

// inNS is a command that runs in a namespace and is killed at the test's end.
func inNS(t *testing.T, ns string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute) // less than lookLater
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", ns}, args...)...)
}

// startServer runs Listen and Run in ns; Listen's error comes back.
func (l *lan) startServer(t *testing.T, o Options) error {
	t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := inNS(t, l.server, exe)
	cmd.Env = append(os.Environ(), roleVariable+"=server", "NETBOOT_TEST_OPTIONS="+string(b), "NETBOOT_TEST_LOOK_SOON="+cmp.Or(l.lookSoon, lookSoonInTests).String())
	var log strings.Builder
	cmd.Stderr = &log
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	first, err := r.ReadString('\n')
	if err != nil {
		_ = cmd.Wait()
		t.Fatalf("server said nothing: %v\n%s", err, log.String())
	}
	if msg, failed := strings.CutPrefix(strings.TrimSpace(first), "ERROR "); failed {
		_ = cmd.Wait()
		return errors.New(msg)
	}
	l.warnings = func() string {
		t.Helper()
		_, err := io.WriteString(in, "\n")
		if err != nil {
			t.Fatal(err)
		}
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("the server ended: %v\n%s", err, line)
		}
		return strings.TrimSpace(line)
	}
	t.Cleanup(func() {
		in.Close()
		rest, _ := io.ReadAll(r)
		if err := cmd.Wait(); err != nil || len(rest) > 0 {
			t.Errorf("server ended with %v: %s\n%s", err, rest, log.String())
		}
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return nil
}

// roleServer says READY or ERROR on stdout and serves until stdin ends. For every line there it says its warnings.
func roleServer() int {
	var o Options
	if err := json.Unmarshal([]byte(os.Getenv("NETBOOT_TEST_OPTIONS")), &o); err != nil {
		fmt.Println("ERROR", err)
		return 1
	}
	o.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	var err error
	if lookSoon, err = time.ParseDuration(os.Getenv("NETBOOT_TEST_LOOK_SOON")); err != nil {
		fmt.Println("ERROR", err)
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s, err := Listen(ctx, o)
	if err != nil {
		fmt.Println("ERROR", strings.ReplaceAll(err.Error(), "\n", " "))
		return 1
	}
	fmt.Println("READY")
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			fmt.Printf("%q\n", s.Warnings())
		}
		cancel()
	}()
	if err := s.Run(ctx); err != nil {
		fmt.Println("run:", err)
		return 1
	}
	if err := goleak.Find(); err != nil {
		fmt.Println("goroutines left:", err)
		return 1
	}
	return 0
}

// request is what roleClient asks for.
type request struct {
	Interface string
	MAC       string
	Options   map[uint8][]byte
	Has       string // address of a client that was started again: it asks for no other (RFC 2131, section 4.3.2, INIT-REBOOT)
	Tries     int    // a second each; 0: as many as a busy machine may need
}

// answer is the outcome for roleClient: an error, or the acknowledgement as on the wire.
type answer struct {
	Error string
	Offer []byte
	Ack   []byte
}

// ask runs a DHCP client in the client's namespace through DISCOVER, OFFER, REQUEST, ACK, or the last two.
func (l *lan) ask(t *testing.T, r request) (*dhcpv4.DHCPv4, error) {
	t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := inNS(t, l.client, exe)
	cmd.Env = append(os.Environ(), roleVariable+"=client", "NETBOOT_TEST_REQUEST="+string(b))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("client: %v\n%s", err, out)
	}
	var a answer
	if err := json.Unmarshal(out, &a); err != nil {
		t.Fatalf("client: %v\n%s", err, out)
	}
	if a.Error != "" {
		return nil, errors.New(a.Error)
	}
	ack, err := dhcpv4.FromBytes(a.Ack)
	if err != nil {
		t.Fatal(err)
	}
	return ack, nil
}

func roleClient() int {
	var r request
	a := answer{}
	err := json.Unmarshal([]byte(os.Getenv("NETBOOT_TEST_REQUEST")), &r)
	if err == nil {
		a.Ack, err = obtain(r)
	}
	if err != nil {
		a.Error = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
		return 1
	}
	return 0
}

func obtain(r request) ([]byte, error) {
	mac, err := net.ParseMAC(r.MAC)
	if err != nil {
		return nil, err
	}
	c, err := nclient4.New(r.Interface, nclient4.WithHWAddr(mac), nclient4.WithTimeout(time.Second), nclient4.WithRetry(cmp.Or(r.Tries, 60)))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var mods []dhcpv4.Modifier
	for code, value := range r.Options {
		mods = append(mods, dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(code), value))
	}
	if r.Has != "" {
		ask, err := dhcpv4.New(append(mods, dhcpv4.WithHwAddr(mac), dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest),
			dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(r.Has))))...)
		if err != nil {
			return nil, err
		}
		ack, err := c.SendAndRead(context.Background(), c.RemoteAddr(), ask, nil)
		switch {
		case err != nil:
			return nil, err
		case ack.MessageType() != dhcpv4.MessageTypeAck:
			return nil, fmt.Errorf("answered with %s", ack.MessageType())
		}
		return ack.ToBytes(), nil
	}
	lease, err := c.Request(context.Background(), mods...)
	if err != nil {
		return nil, err
	}
	return lease.ACK.ToBytes(), nil
}
