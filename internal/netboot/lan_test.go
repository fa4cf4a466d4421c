package netboot

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	macA = "52:54:00:00:00:0a"
	macB = "52:54:00:00:00:0b"
)

// nodeRequest asks as our initramfs does.
func nodeRequest(mac string) request {
	return request{Interface: "c0", MAC: mac, Options: map[uint8][]byte{60: []byte(NodeClass)}}
}

func TestLeaseOverTheWire(t *testing.T) {
	t.Parallel()
	l := newLAN(t)
	if err := l.startServer(t, Options{Interfaces: []string{"s0"}, HTTPPort: 8080}); err != nil {
		t.Fatal(err)
	}
	subnet := netip.MustParsePrefix("192.168.77.0/24")
	var given []netip.Addr
	for _, mac := range []string{macA, macB, macA} {
		ack, err := l.ask(t, nodeRequest(mac))
		if err != nil {
			t.Fatal(err)
		}
		addr := toAddr(ack.YourIPAddr)
		if !subnet.Contains(addr) || addr == netip.MustParseAddr("192.168.77.1") {
			t.Errorf("%s was given %s", mac, addr)
		}
		if ack.BootFileName != "" || ack.BootFileNameOption() != "" {
			t.Errorf("a node was given boot file %q", ack.BootFileName)
		}
		if got := toAddr(ack.ServerIdentifier()); got != netip.MustParseAddr("192.168.77.1") {
			t.Errorf("server identifier %s", got)
		}
		given = append(given, addr)
	}
	if given[0] != given[2] {
		t.Errorf("%s was given %s, then %s", macA, given[0], given[2])
	}
	if given[0] == given[1] {
		t.Errorf("two machines were given %s", given[0])
	}
	ipxe := nodeRequest(macA)
	ipxe.Options = map[uint8][]byte{77: []byte("iPXE"), 55: {1, 3, 67}}
	ack, err := l.ask(t, ipxe)
	if err != nil {
		t.Fatal(err)
	}
	if want := "http://192.168.77.1:8080/boot/script"; ack.BootFileName != want {
		t.Errorf("iPXE was given boot file %q, not %q", ack.BootFileName, want)
	}
}

func TestOnlyNamedInterfacesAnswer(t *testing.T) {
	t.Parallel()
	l := newLAN(t)
	if err := l.startServer(t, Options{Interfaces: []string{"s1"}, HTTPPort: 8080}); err != nil {
		t.Fatal(err)
	}
	r := nodeRequest(macA)
	r.Tries = 2
	if ack, err := l.ask(t, r); err == nil {
		t.Errorf("an interface that was not named answered: %s", ack.Summary())
	}
	r.Interface, r.Tries = "c1", 0
	ack, err := l.ask(t, r)
	if err != nil {
		t.Fatalf("the named interface does not answer: %v", err)
	}
	if got := toAddr(ack.YourIPAddr); !netip.MustParsePrefix("192.168.78.0/24").Contains(got) {
		t.Errorf("given %s from the other interface's subnet", got)
	}
}

// startDnsmasq runs dnsmasq as a DHCP server in ns until stop is called or the test ends.
func startDnsmasq(t *testing.T, ns, iface, first, last string) (stop func()) {
	t.Helper()
	cmd := inNS(t, ns, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface="+iface, "--bind-interfaces",
		"--dhcp-range="+first+","+last, "--dhcp-leasefile="+filepath.Join(t.TempDir(), "leases"), "--log-facility=-", "--user=root")
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	t.Cleanup(stop)
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		out, err := inNS(t, ns, "ss", "-lunH", "sport", "=", ":67").Output()
		if err == nil && len(out) > 0 {
			return stop
		}
		if time.Now().After(deadline) {
			t.Fatalf("dnsmasq does not listen: %v", err)
		}
	}
}

func TestForeignServerIsNoticed(t *testing.T) {
	t.Parallel()
	l := newLAN(t)
	ip(t, "-n", l.client, "address", "add", "192.168.77.200/24", "dev", "c0")
	startDnsmasq(t, l.client, "c0", "192.168.77.210", "192.168.77.220")
	o := Options{Interfaces: []string{"s0"}, HTTPPort: 8080}
	err := l.startServer(t, o)
	if err == nil {
		t.Fatal("served beside another DHCP server")
	}
	for _, want := range []string{"s0", "192.168.77.200", "--force-dhcp"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	o.Interfaces = []string{"s1"}
	if err := l.startServer(t, o); err != nil {
		t.Errorf("an interface without another server was refused: %v", err)
	}
	o.Interfaces, o.Force = []string{"s0"}, true
	if err := l.startServer(t, o); err != nil {
		t.Errorf("force did not force: %v", err)
	}
}

// A DHCP server that appears later, or was behind a port that was dark, has the network to itself.
func TestForeignServerAppears(t *testing.T) {
	t.Parallel()
	l := newLAN(t)
	ip(t, "-n", l.client, "address", "add", "192.168.77.200/24", "dev", "c0")
	if err := l.startServer(t, Options{Interfaces: []string{"s0"}, HTTPPort: 8080}); err != nil {
		t.Fatal(err)
	}
	r := nodeRequest(macA)
	if _, err := l.ask(t, r); err != nil {
		t.Fatal(err)
	}
	stop := startDnsmasq(t, l.client, "c0", "192.168.77.210", "192.168.77.220")
	// The client is on dnsmasq's own interface, which does not hear it: it gets no answer at all.
	r.Tries = 2
	for end := time.Now().Add(40 * time.Second); ; time.Sleep(tick) {
		if _, err := l.ask(t, r); err != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("answers beside another DHCP server")
		}
	}
	stop()
	r.Tries = 0
	if _, err := l.ask(t, r); err != nil {
		t.Errorf("the other server is gone: %v", err)
	}
}

// Two interfaces at one network are one server: neither takes the other for a rival.
func TestTwoInterfacesAtOneNetwork(t *testing.T) {
	t.Parallel()
	l := newLAN(t)
	ip(t, "-n", l.client, "link", "add", "sw", "type", "bridge")
	for _, port := range []string{"c0", "c1"} {
		ip(t, "-n", l.client, "link", "set", port, "master", "sw")
	}
	ip(t, "-n", l.client, "link", "set", "sw", "up")
	// The server's log, which has why it would be silent, is shown if a client gets no answer.
	if err := l.startServer(t, Options{Interfaces: []string{"s0", "s1"}, HTTPPort: 8080}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(8 * lookSoonInTests); time.Now().Before(end); time.Sleep(lookSoonInTests) {
		r := nodeRequest(macA)
		r.Interface, r.Tries = "sw", 4 // less than a search takes: two that are silent find nobody, and answer again
		if _, err := l.ask(t, r); err != nil {
			t.Fatal(err)
		}
	}
}

// startsAt is the address of a card for which the search in a pool of first to last starts at first.
func startsAt(t *testing.T, first, last netip.Addr) string {
	t.Helper()
	for i := range byte(255) {
		mac := net.HardwareAddr{2, 0, 0, 0, 0, i}
		if a, err := newPool(first, last).offer(mac, netip.Addr{}); err == nil && a == first {
			return mac.String()
		}
	}
	t.Fatal("no address of a card begins there")
	return ""
}

// An address that somebody else has, by whatever way, is not handed out.
func TestAddressInUse(t *testing.T) {
	t.Parallel()
	l := newLAN(t)
	ip(t, "-n", l.client, "address", "add", "192.168.77.50/24", "dev", "c0")
	ip(t, "-n", l.server, "address", "add", "192.168.77.51/24", "dev", "s0")
	if err := l.startServer(t, Options{Interfaces: []string{"s0"}, HTTPPort: 8080, Range: "192.168.77.50-192.168.77.52"}); err != nil {
		t.Fatal(err)
	}
	first := netip.MustParseAddr("192.168.77.50")
	r := nodeRequest(startsAt(t, first, first.Next().Next()))
	if ack, err := l.ask(t, r); err != nil || ack.YourIPAddr.String() != "192.168.77.52" {
		t.Errorf("%v, %v", ack, err)
	}
	// The one that has it may have been given it before the server was started: to it the address is granted, and to nobody else.
	mac := strings.TrimSpace(command(t, "ip", "netns", "exec", l.client, "cat", "/sys/class/net/c0/address"))
	for mac, want := range map[string]bool{mac: true, macA: false} {
		r := nodeRequest(mac)
		r.Has = "192.168.77.50"
		if _, err := l.ask(t, r); (err == nil) != want {
			t.Errorf("%s: %v", mac, err)
		}
	}
}

// An address that the client itself has is its own.
func TestOwnAddressIsNotInUse(t *testing.T) {
	t.Parallel()
	l := newLAN(t)
	ip(t, "-n", l.client, "address", "add", "192.168.77.50/24", "dev", "c0")
	if err := l.startServer(t, Options{Interfaces: []string{"s0"}, HTTPPort: 8080, Range: "192.168.77.50-192.168.77.50"}); err != nil {
		t.Fatal(err)
	}
	mac := strings.TrimSpace(command(t, "ip", "netns", "exec", l.client, "cat", "/sys/class/net/c0/address"))
	if ack, err := l.ask(t, nodeRequest(mac)); err != nil || ack.YourIPAddr.String() != "192.168.77.50" {
		t.Errorf("%v, %v", ack, err)
	}
}

func TestServerOfThisHostIsNoticed(t *testing.T) {
	t.Parallel()
	l := newLAN(t)
	startDnsmasq(t, l.server, "s0", "192.168.77.210", "192.168.77.220")
	err := l.startServer(t, Options{Interfaces: []string{"s0"}, HTTPPort: 8080})
	if err == nil || !strings.Contains(err.Error(), "another server of this host has the port") {
		t.Errorf("with a DHCP server on the same interface: %v", err)
	}
}

func TestInterfaceWithoutAddress(t *testing.T) {
	t.Parallel()
	l := newLAN(t)
	ip(t, "-n", l.server, "address", "flush", "dev", "s0", "scope", "global")
	err := l.startServer(t, Options{Interfaces: []string{"s0"}, HTTPPort: 8080})
	if err == nil || !strings.Contains(err.Error(), "ip address add") {
		t.Errorf("without an address: %v", err)
	}
	if err := l.startServer(t, Options{Interfaces: []string{"none0"}, HTTPPort: 8080}); err == nil || !strings.Contains(err.Error(), "none0") {
		t.Errorf("without an interface: %v", err)
	}
}

// ipxeDir is a directory like Debian's, with a link for ipxe.efi and one out of it.
func ipxeDir(t *testing.T) (dir string, efi []byte) {
	t.Helper()
	dir = t.TempDir()
	efi = make([]byte, 1<<20+17)
	rand.Read(efi) // never fails
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("undionly.kpxe", efi[:70000])
	write("ipxe-amd64.efi", efi)
	write("secret", []byte("secret"))
	for link, to := range map[string]string{"ipxe.efi": "ipxe-amd64.efi", "snponly.efi": "/etc/passwd"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	return dir, efi
}

func TestTFTP(t *testing.T) {
	t.Parallel()
	l := newLAN(t)
	dir, efi := ipxeDir(t)
	if err := l.startServer(t, Options{Interfaces: []string{"s0"}, HTTPPort: 8080, IPXEDir: dir}); err != nil {
		t.Fatal(err)
	}
	ip(t, "-n", l.client, "address", "add", "192.168.77.50/24", "dev", "c0")
	get := func(args ...string) ([]byte, error) {
		args = append([]string{"curl", "-sS", "--max-time", "20"}, args...)
		return inNS(t, l.client, args...).Output()
	}
	const url = "tftp://192.168.77.1/"
	for _, packet := range []string{`\x00\x01`, `\x00\x01snponly.efi`, `\x00\x01ipxe.efi\x00octet\x00windowsize\x000\x00`} {
		command(t, "ip", "netns", "exec", l.client, "bash", "-c", "printf '"+packet+"' >/dev/udp/192.168.77.1/69")
	}
	for _, test := range []struct {
		name string
		args []string
		want []byte
	}{
		{"default block size", []string{url + "undionly.kpxe"}, efi[:70000]},
		{"large blocks", []string{"--tftp-blksize", "1428", url + "ipxe.efi"}, efi},
		{"no options", []string{"--tftp-no-options", url + "undionly.kpxe"}, efi[:70000]},
		{"slash in front", []string{url + "/undionly.kpxe"}, efi[:70000]},
	} {
		got, err := get(test.args...)
		if err != nil || !bytes.Equal(got, test.want) {
			t.Errorf("%s: %v, %d bytes, want %d", test.name, err, len(got), len(test.want))
		}
	}
	for _, name := range []string{"secret", "../../etc/passwd", "%2fetc%2fpasswd", "snponly.efi", "."} {
		if got, err := get("--path-as-is", url+name); err == nil {
			t.Errorf("%q was served: %.40q", name, got)
		}
	}
	up := filepath.Join(t.TempDir(), "up")
	if err := os.WriteFile(up, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := get("-T", up, url+"undionly.kpxe"); err == nil {
		t.Error("a file was taken")
	}
	if b, err := os.ReadFile(filepath.Join(dir, "undionly.kpxe")); err != nil || !bytes.Equal(b, efi[:70000]) {
		t.Errorf("the boot file was changed: %v", err)
	}
}

func TestRouterAdvertisement(t *testing.T) {
	t.Parallel()
	l := newLAN(t)
	if err := l.startServer(t, Options{Interfaces: []string{"s0"}, HTTPPort: 8080}); err != nil {
		t.Fatal(err)
	}
	// tcpdump checks the checksum, too. The client's kernel solicits when its link comes up.
	dump := inNS(t, l.client, "tcpdump", "-l", "-n", "-vv", "-c", "1", "-i", "c0", "icmp6 and ip6[40] == 134")
	var out bytes.Buffer
	dump.Stdout = &out
	errs, err := dump.StderrPipe()
	if err == nil {
		err = dump.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	says := bufio.NewReader(errs)
	for line := ""; !strings.Contains(line, "listening on"); {
		if line, err = says.ReadString('\n'); err != nil {
			t.Fatalf("tcpdump: %v %s", err, line)
		}
	}
	start := time.Now()
	command(t, "ip", "netns", "exec", l.client, "sysctl", "-qw", "net.ipv6.conf.c0.disable_ipv6=1", "net.ipv6.conf.c0.accept_ra=2", "net.ipv6.conf.c0.disable_ipv6=0")
	if err := dump.Wait(); err != nil {
		t.Fatalf("no router advertisement: %v\n%s", err, out.String())
	}
	if d := time.Since(start); d > 4*time.Second {
		t.Errorf("the solicitation was answered after %v", d)
	}
	text := out.String()
	for _, want := range []string{"router lifetime 0s", "hlim 255", "[icmp6 sum ok]", "source link-address option", "Flags [none]"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
	if routes := ip(t, "-n", l.client, "-6", "route", "show", "default"); strings.TrimSpace(routes) != "" {
		t.Errorf("the client took a default route: %s", routes)
	}
}

// Not one of the tests may leave a namespace behind.
func TestNamespacesAreRemoved(t *testing.T) {
	var name string
	t.Run("lan", func(t *testing.T) { name = newLAN(t).server })
	if out, err := exec.CommandContext(t.Context(), "ip", "netns", "list").Output(); err != nil || name != "" && strings.Contains(string(out), name) {
		t.Errorf("namespace %s is left: %v", name, err)
	}
}
