package netup

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
)

// The tests run Up in a network namespace of its own, by starting this test program again with runInNamespace set, against
// a real DHCP server in another.
const runInNamespace = "NETUP_TEST_OPTIONS"

func TestMain(m *testing.M) {
	if o := os.Getenv(runInNamespace); o != "" {
		os.Exit(helper(o))
	}
	goleak.VerifyTestMain(m)
}

type helperOptions struct {
	Options
	First string
	Stay  bool // until standard input ends
	Renew time.Duration
	Fail  map[string]int // how often an interface cannot be brought up
}

// helper prints messages, then the result as JSON.
func helper(text string) int {
	var o helperOptions
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Println("error:", err)
		return 1
	}
	if o.First != "" {
		o.Options.First, _ = net.ParseMAC(o.First)
	}
	o.renewAfter = o.Renew
	var mu sync.Mutex
	o.bringUp = func(l netlink.Link) error {
		mu.Lock()
		defer mu.Unlock()
		if o.Fail[l.Attrs().Name] > 0 {
			o.Fail[l.Attrs().Name]--
			return syscall.ENOENT
		}
		return netlink.LinkSetUp(l)
	}
	started := time.Now()
	o.Log = func(format string, args ...any) {
		fmt.Printf("log %5.1f: %s\n", time.Since(started).Seconds(), fmt.Sprintf(format, args...))
	}
	o.Link = func(name string, mac net.HardwareAddr, carrier bool) { o.Log("link %s %s %v", name, mac, carrier) }
	n, err := Up(context.Background(), o.Options)
	if err != nil {
		fmt.Println("error:", strings.ReplaceAll(err.Error(), "\n", " | "))
		return 1
	}
	fmt.Printf("up %s %s via %v server %v boot %s\n", n.Interface, &n.Addr, n.Gateway, n.Server, n.BootFile)
	if o.Stay {
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
	_ = n.Close()
	fmt.Println("closed")
	return 0
}

var labs atomic.Int32

// lab is a client namespace and a server namespace with virtual cables between them.
type lab struct {
	t              *testing.T
	client, server string
	stop           func() // ends the server started last
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if testing.Short() {
		t.Skip("needs network namespaces")
	}
	id := fmt.Sprintf("%d-%d", os.Getpid(), labs.Add(1))
	l := &lab{t: t, client: "sbnu-c-" + id, server: "sbnu-s-" + id}
	for _, ns := range []string{l.client, l.server} {
		l.ip("netns", "add", ns)
		t.Cleanup(func() { l.ip("netns", "del", ns) })
	}
	return l
}

func (l *lab) ip(args ...string) {
	l.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		l.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// cable makes client interface cN with the given MAC address, its other end sN in the server namespace; up: with a carrier.
func (l *lab) cable(n int, up bool) {
	l.t.Helper()
	c, s := fmt.Sprintf("c%d", n), fmt.Sprintf("s%d", n)
	l.ip("link", "add", c, "netns", l.client, "address", mac(n), "type", "veth", "peer", "name", s, "netns", l.server)
	l.ip("-n", l.server, "addr", "add", fmt.Sprintf("10.77.%d.1/24", n), "dev", s)
	if up {
		l.ip("-n", l.server, "link", "set", s, "up")
	}
}

func mac(n int) string { return fmt.Sprintf("02:00:00:00:00:%02x", n) }

// serve starts dnsmasq on interface sN and returns a function that shows its log.
func (l *lab) serve(n int, extra ...string) func() string {
	l.t.Helper()
	log := filepath.Join(l.t.TempDir(), "dnsmasq.log")
	args := append([]string{"netns", "exec", l.server, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--no-ping",
		"--log-dhcp", "--log-facility=" + log, "--dhcp-authoritative", "--leasefile-ro", "--pid-file=", "--bind-interfaces",
		fmt.Sprintf("--interface=s%d", n), "--except-interface=lo"}, extra...)
	cmd := exec.Command("ip", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	l.t.Cleanup(l.stop)
	show := func() string {
		b, _ := os.ReadFile(log)
		return string(b)
	}
	l.await(show, "DHCP, ")
	return show
}

// await waits until show has a text in it.
func (l *lab) await(show func() string, text string) {
	l.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(show(), text); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("no %q in: %s", text, show())
		}
	}
}

func span(n int, lease string) string {
	return fmt.Sprintf("--dhcp-range=10.77.%d.10,10.77.%d.99,255.255.255.0,%s", n, n, lease)
}

// run runs Up in the client namespace and returns what it printed.
func (l *lab) run(o helperOptions) string {
	l.t.Helper()
	_, end := l.start(o)
	return end()
}

// start runs Up in the client namespace. said is what it has printed so far; end lets it end and returns all that.
func (l *lab) start(o helperOptions) (said, end func() string) {
	l.t.Helper()
	o.Resolv = filepath.Join(l.t.TempDir(), "resolv.conf")
	text, err := json.Marshal(o)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	cmd := exec.CommandContext(ctx, "ip", "netns", "exec", l.client, os.Args[0])
	cmd.Env = append(os.Environ(), runInNamespace+"="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out output
	cmd.Stdout, cmd.Stderr = &out, &out
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		l.t.Fatal(err)
	}
	wait := sync.OnceFunc(func() {
		_ = in.Close()
		_ = cmd.Wait() // its failure is in the output
		cancel()
	})
	l.t.Cleanup(wait)
	return out.String, func() string {
		wait()
		if resolv, err := os.ReadFile(o.Resolv); err == nil {
			fmt.Fprint(&out, "resolv: "+strings.ReplaceAll(string(resolv), "\n", " "))
		}
		return out.String()
	}
}

// output is what a process prints, to be read while it does.
type output struct {
	mu   sync.Mutex
	text []byte
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, b...)
	return len(b), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}

func wantAll(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("no %q in:\n%s", p, text)
		}
	}
}

func (l *lab) show(args ...string) string {
	l.t.Helper()
	out, err := exec.Command("ip", append([]string{"-n", l.client}, args...)...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("ip %v: %v: %s", args, err, out)
	}
	return string(out)
}

func TestLeaseIsConfigured(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.cable(1, true)
	log := l.serve(1, span(1, "1h"), "--dhcp-option=option:router,10.77.1.1", "--dhcp-option=option:dns-server,10.77.1.53",
		"--dhcp-option=option:domain-name,example.test", "--dhcp-boot=boot.file,srv,10.77.1.2")
	out := l.run(helperOptions{})
	wantAll(t, out, "up c1 10.77.1.", "/24 via 10.77.1.1 server 10.77.1.2 boot boot.file", "search example.test nameserver 10.77.1.53", "closed")
	wantAll(t, l.show("route"), "default via 10.77.1.1 dev c1")
	wantAll(t, l.show("addr", "show", "dev", "c1"), "inet 10.77.1.")
	wantAll(t, log(), "vendor class: swarmboot", "DHCPACK(s1)", mac(1))
}

func TestFirstNICWithALeaseIsUsed(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.cable(1, false) // no carrier
	l.cable(2, true)  // nobody answers
	l.cable(3, true)
	l.serve(3, span(3, "1h"))
	out := l.run(helperOptions{})
	wantAll(t, out, "up c3 10.77.3.")
}

func TestErrorNamesEveryNIC(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.cable(1, false)
	l.cable(2, true)
	out := l.run(helperOptions{Options: Options{Carrier: 3 * time.Second, DHCP: 6 * time.Second}})
	wantAll(t, out, "error: c1 ("+mac(1)+"): no carrier", "| c2 ("+mac(2)+"): no offer from a DHCP server", "log")
}

func TestCarrierThatComesLate(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.cable(1, false)
	l.serve(1, span(1, "1h"))
	said, end := l.start(helperOptions{Options: Options{Carrier: 2 * time.Minute}})
	l.await(said, "link c1 "+mac(1)+" false\n")
	l.ip("-n", l.server, "link", "set", "s1", "up")
	out := end()
	wantAll(t, out, "up c1 10.77.1.")
	// Who listens on the link must be there before it can carry anything.
	_, after, _ := strings.Cut(out, "link c1 "+mac(1)+" false\n")
	wantAll(t, after, "link c1 "+mac(1)+" true\n", "c1: link up")
	if n := strings.Count(out, "link c1 "); n != 2 {
		t.Errorf("told of the link %d times:\n%s", n, out)
	}
}

func TestNICThatAppearsLate(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	_, end := l.start(helperOptions{Options: Options{Carrier: 2 * time.Minute}})
	time.Sleep(time.Second) // the program says nothing of a card that is not there
	l.cable(1, true)
	l.serve(1, span(1, "1h"))
	wantAll(t, end(), "up c1 10.77.1.")
}

// A card without its firmware fails at once; the one that the node boots through may be found later.
func TestNICThatFailsAtOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.cable(1, true)
	said, end := l.start(helperOptions{Options: Options{Carrier: 2 * time.Minute}, Fail: map[string]int{"c1": 1000}})
	l.await(said, "c1: bring up: no such file or directory")
	l.cable(2, true)
	l.serve(2, span(2, "1h"))
	wantAll(t, end(), "up c2 10.77.2.")
}

func TestNICThatFailsAtFirst(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.cable(1, true)
	l.serve(1, span(1, "1h"))
	wantAll(t, l.run(helperOptions{Options: Options{Carrier: 2 * time.Minute}, Fail: map[string]int{"c1": 2}}), "up c1 10.77.1.")
}

func TestNICThatNeverComesUp(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.cable(1, true)
	wantAll(t, l.run(helperOptions{Options: Options{Carrier: time.Second}, Fail: map[string]int{"c1": 1000}}), "error: c1 ("+mac(1)+"): bring up: no such file")
}

// Drivers that are bound anew take their cards away and bring them back, under the old names.
func TestNICThatComesBack(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.cable(1, false)
	said, end := l.start(helperOptions{Options: Options{Carrier: 2 * time.Minute}})
	l.await(said, "link c1 "+mac(1)+" false\n")
	l.ip("-n", l.client, "link", "del", "c1")
	l.await(said, "look at link: ")
	l.cable(1, true)
	l.serve(1, span(1, "1h"))
	wantAll(t, end(), "up c1 10.77.1.")
}

func TestOnlyTheNICNamed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"c2", strings.ToUpper(mac(2))} {
		l := newLab(t)
		l.cable(1, true)
		l.cable(2, true)
		l.serve(1, span(1, "1h"))
		l.serve(2, span(2, "1h"))
		wantAll(t, l.run(helperOptions{Options: Options{NIC: name}}), "up c2 10.77.2.")
	}
}

func TestBootInterfaceGoesFirst(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.cable(1, true)
	l.cable(2, true)
	l.serve(1, span(1, "1h"))
	l.serve(2, span(2, "1h"))
	wantAll(t, l.run(helperOptions{First: mac(2)}), "up c2 10.77.2.")
}

func TestNoNICAtAll(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	wantAll(t, l.run(helperOptions{Options: Options{Carrier: time.Second}}), "error: no network interface after 1s")
}

// The renewal is brought forward: dnsmasq grants no lease shorter than two minutes.
func TestLeaseIsRenewed(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.cable(1, true)
	log := l.serve(1, span(1, "2m"))
	_, end := l.start(helperOptions{Stay: true, Renew: 2 * time.Second})
	after := func() string {
		_, after, _ := strings.Cut(log(), "DHCPACK(s1)")
		return after
	}
	l.await(func() string {
		_, second, _ := strings.Cut(after(), "DHCPACK(s1)") // of two renewals
		return second
	}, "DHCPACK(s1)")
	out := end()
	wantAll(t, out, "up c1 10.77.1.", "closed")
	if strings.Contains(after(), "DHCPDISCOVER(s1)") {
		t.Errorf("a renewal started over:\n%s\n%s", out, log())
	}
}

// A server that was set up anew refuses the old address: the node takes the new one, and keeps no other.
func TestRefusedLeaseIsReplaced(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.cable(1, true)
	log := l.serve(1, span(1, "2m"))
	said, end := l.start(helperOptions{Stay: true, Renew: 2 * time.Second})
	l.await(log, "DHCPACK(s1)")
	l.stop()
	log = l.serve(1, "--dhcp-range=10.77.1.150,10.77.1.199,255.255.255.0,2m")
	l.await(log, "DHCPACK(s1) 10.77.1.1")
	addr := func() string { return l.show("-4", "addr", "show", "dev", "c1") }
	l.await(addr, "inet 10.77.1.1")
	if n := strings.Count(addr(), "inet "); n != 1 {
		t.Errorf("%d addresses:\n%s", n, addr())
	}
	wantAll(t, log(), "DHCPNAK(s1)")
	l.await(said, "address changed from 10.77.1.")
	wantAll(t, end(), "up c1 10.77.1.", "address changed from 10.77.1.", "closed")
}
