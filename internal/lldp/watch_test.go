package lldp

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"swarmboot/internal/event"
)

// The tests have a Watch in a network namespace of its own, by starting this test program again with runInNamespace set, and
// lldpd, as the switch, in another.
const runInNamespace = "LLDP_TEST_INTERFACE"

func TestMain(m *testing.M) {
	if name := os.Getenv(runInNamespace); name != "" {
		os.Exit(helper(name))
	}
	goleak.VerifyTestMain(m)
}

// helper prints, as JSON, what a Watch is told on an interface, until its standard input ends.
func helper(name string) int {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	w := New(Options{
		Heard: func(s event.Switch) { _ = json.NewEncoder(os.Stdout).Encode(s) },
		Log:   func(format string, args ...any) { fmt.Printf("error: "+format+"\n", args...) },
	})
	defer w.Close()
	w.Link(name, ifi.HardwareAddr, false)
	w.Link(name, ifi.HardwareAddr, true)
	w.Use(name)
	_, _ = os.Stdin.Read(make([]byte, 1))
	return 0
}

// lab is a node's namespace and a switch's, with a virtual cable between a port of a bridge and the node.
type lab struct {
	t           *testing.T
	node, swtch string
	socket      string // of lldpd's control
}

const nodeMAC, switchMAC = "02:00:00:00:00:01", "02:00:00:00:00:51"

func newLab(t *testing.T) *lab {
	t.Helper()
	if testing.Short() {
		t.Skip("needs network namespaces")
	}
	dir, err := os.MkdirTemp("", "sblldp") // lldpcli gives up its rights, and must reach the socket in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano()%100000)
	l := &lab{t: t, node: "sblldp-n-" + id, swtch: "sblldp-s-" + id, socket: filepath.Join(dir, "socket")}
	for _, ns := range []string{l.node, l.swtch} {
		l.ip("netns", "add", ns)
		t.Cleanup(func() { l.ip("netns", "del", ns) })
	}
	l.ip("link", "add", "n1", "netns", l.node, "address", nodeMAC, "type", "veth", "peer", "name", "s1", "netns", l.swtch)
	l.ip("-n", l.swtch, "link", "set", "s1", "address", switchMAC)
	l.ip("-n", l.node, "link", "set", "n1", "up")
	return l
}

// bridge makes the other end of the cable a port of a bridge.
func (l *lab) bridge() {
	l.ip("-n", l.swtch, "link", "add", "br0", "type", "bridge")
	l.ip("-n", l.swtch, "link", "set", "s1", "master", "br0")
	l.ip("-n", l.swtch, "link", "set", "br0", "up")
}

func (l *lab) ip(args ...string) {
	l.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		l.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// lldpd starts the switch's daemon, which otherwise speaks every 30 s, and waits until it has spoken once: a node that comes
// now has missed that.
func (l *lab) lldpd(args ...string) {
	l.t.Helper()
	conf := filepath.Join(filepath.Dir(l.socket), "conf")
	text := "configure system hostname sw-r7\nconfigure system description \"a switch for tests\"\n" +
		"configure lldp portidsubtype local 1/7 description \"node 42\"\n"
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		l.t.Fatal(err)
	}
	run := `mount -t tmpfs none /run && mkdir /run/lldpd && exec lldpd -d -u "$0" -O "$1" -I s1 "$2"`
	cmd := exec.Command("ip", append([]string{"netns", "exec", l.swtch, "sh", "-c", run, l.socket, conf}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	l.ip("-n", l.swtch, "link", "set", "s1", "up")
	l.await(func() string { return l.lldpcli("show", "interfaces", "-f", "keyvalue") }, "lldp.s1.port.descr=node 42")
	l.await(func() string { return l.lldpcli("show", "statistics", "-f", "keyvalue") }, "lldp.s1.tx.tx=1")
}

// lldpcli asks the switch; it says nothing while that does not run yet.
func (l *lab) lldpcli(args ...string) string {
	out, _ := exec.Command("lldpcli", append([]string{"-u", l.socket}, args...)...).CombinedOutput()
	return string(out)
}

func (l *lab) await(show func() string, text string) {
	l.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(show(), text); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("no %q in: %s", text, show())
		}
	}
}

// start starts a node and returns what it says, a line each.
func (l *lab) start() <-chan string {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	cmd := exec.CommandContext(ctx, "ip", "netns", "exec", l.node, os.Args[0])
	cmd.Env = append(os.Environ(), runInNamespace+"=n1")
	in, err := cmd.StdinPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	lines, read := make(chan string, 100), make(chan struct{})
	go func() {
		defer close(read)
		defer close(lines)
		d := json.NewDecoder(out)
		for {
			var raw json.RawMessage
			if d.Decode(&raw) != nil {
				return
			}
			lines <- string(raw)
		}
	}()
	l.t.Cleanup(func() {
		in.Close()
		<-read
		if err := cmd.Wait(); err != nil {
			l.t.Errorf("node: %v", err)
		}
		cancel()
	})
	return lines
}

// A real LLDP daemon takes the part of a switch that spoke just before the node came, and is not due again for half a minute.
func TestSwitchAnswersAtOnce(t *testing.T) {
	l := newLab(t)
	l.bridge()
	l.lldpd("-M4")
	begin := time.Now()
	want := `{"id":"mac:` + switchMAC + `","name":"sw-r7","port":"1/7","portDescription":"node 42"}`
	if got := <-l.start(); got != want {
		t.Errorf("heard %s, want %s", got, want)
	}
	if took := time.Since(begin); took > slowInterval/2 {
		t.Errorf("heard after %s: when the switch spoke by itself", took)
	}
	// And the switch shows to people at which port the node is.
	var shown struct {
		LLDP struct {
			Interface map[string]struct {
				Chassis map[string]struct {
					ID struct{ Type, Value string }
				}
				Port struct{ Descr string }
			}
		}
	}
	text := l.lldpcli("show", "neighbors", "-f", "json")
	if err := json.Unmarshal([]byte(text), &shown); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	n := shown.LLDP.Interface["s1"]
	if id := n.Chassis["swarmboot-020000000001"].ID; id.Type != "mac" || id.Value != nodeMAC || n.Port.Descr != "n1" {
		t.Errorf("the switch shows: %s", text)
	}
	if text := l.lldpcli("show", "neighbors", "details"); !strings.Contains(text, "Generic Endpoint (Class I)") || !strings.Contains(text, "Station, on") {
		t.Errorf("the switch shows: %s", text)
	}
}
