package netboot

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// testLink is a link with no sockets at 192.168.77.1/24 and both iPXE binaries.
func testLink(t testing.TB, names ...string) *link {
	t.Helper()
	l := &link{subnet: netip.MustParsePrefix("192.168.77.1/24"), port: 8080, log: slog.New(slog.DiscardHandler)}
	l.Interface, l.Addr = "lan0", l.subnet.Addr()
	first, last, err := subnetRange(l.subnet)
	if err != nil {
		t.Fatal(err)
	}
	l.First, l.Last = first, last
	l.pool = newPool(first, last, l.Addr)
	if len(names) > 0 {
		dir := t.TempDir()
		for _, n := range names {
			if err := os.WriteFile(filepath.Join(dir, n), []byte(n), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if l.files, err = openIPXE(dir); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.files.root.Close() })
	}
	return l
}

func discover(t testing.TB, options map[uint8]string) *dhcpv4.DHCPv4 {
	t.Helper()
	mac, _ := net.ParseMAC(macA)
	req, err := dhcpv4.NewDiscovery(mac)
	if err != nil {
		t.Fatal(err)
	}
	req.Options = dhcpv4.Options{}
	req.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeDiscover))
	for code, value := range options {
		req.UpdateOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(code), []byte(value)))
	}
	return req
}

// bootText writes down what matters of an offer for booting.
func bootText(resp *dhcpv4.DHCPv4) string {
	var b strings.Builder
	fmt.Fprintf(&b, "siaddr=%s file=%s", resp.ServerIPAddr, resp.BootFileName)
	var codes []uint8
	for code := range resp.Options {
		codes = append(codes, code)
	}
	slices.Sort(codes)
	for _, code := range codes {
		switch code {
		case 43, 97, 175:
			fmt.Fprintf(&b, " %d=%s", code, hex.EncodeToString(resp.Options[code]))
		case 60, 66, 67:
			fmt.Fprintf(&b, " %d=%s", code, resp.Options[code])
		}
	}
	return b.String()
}

func TestBootAnswers(t *testing.T) {
	const pxe, uuid = "PXEClient:Arch:%05d:UNDI:003001", "\x00UUIDUUIDUUIDUUID"
	all := "\x01\x03\x3c\x42\x43"
	class := func(arch int) string { return fmt.Sprintf(pxe, arch) }
	both := []string{"undionly.kpxe", "ipxe.efi", "snponly.efi"}
	for _, test := range []struct {
		name    string
		files   []string
		options map[uint8]string
		kind    kind
		want    string
	}{
		{"operating system", both, map[uint8]string{60: "MSFT 5.0"}, kindOther, "siaddr=192.168.77.1 file="},
		{"no class", both, nil, kindOther, "siaddr=192.168.77.1 file="},
		{"our node", both, map[uint8]string{60: "swarmboot", 93: "\x00\x07", 55: all}, kindNode, "siaddr=192.168.77.1 file="},
		{"iPXE by user class", nil, map[uint8]string{60: class(0), 77: "iPXE", 93: "\x00\x00"}, kindIPXE,
			"siaddr=192.168.77.1 file=http://192.168.77.1:8080/boot/script 175=b00101"},
		{"iPXE by user class with length", nil, map[uint8]string{77: "\x04iPXE"}, kindIPXE,
			"siaddr=192.168.77.1 file=http://192.168.77.1:8080/boot/script 175=b00101"},
		{"iPXE by option 175, EFI", both, map[uint8]string{60: class(7), 175: "\xb1\x05\x01\x80\x86\x10\x0e", 93: "\x00\x07", 55: all}, kindIPXE,
			"siaddr=192.168.77.1 file=http://192.168.77.1:8080/boot/script 67=http://192.168.77.1:8080/boot/script 175=b00101"},
		{"BIOS ROM", both, map[uint8]string{60: class(0), 93: "\x00\x00", 97: uuid}, kindBIOS,
			"siaddr=192.168.77.1 file=undionly.kpxe 43=060108ff 60=PXEClient 97=" + hex.EncodeToString([]byte(uuid))},
		{"BIOS ROM that asks for options 66 and 67", both, map[uint8]string{60: class(0), 93: "\x00\x00", 55: all}, kindBIOS,
			"siaddr=192.168.77.1 file=undionly.kpxe 43=060108ff 60=PXEClient 66=192.168.77.1 67=undionly.kpxe"},
		{"BIOS ROM, no binary", nil, map[uint8]string{60: class(0), 93: "\x00\x00"}, kindBIOS, "siaddr=192.168.77.1 file="},
		{"EFI type 7", both, map[uint8]string{60: class(7), 93: "\x00\x07"}, kindEFI, "siaddr=192.168.77.1 file=snponly.efi 43=060108ff 60=PXEClient"},
		{"EFI type 9", both, map[uint8]string{60: class(9), 93: "\x00\x09"}, kindEFI, "siaddr=192.168.77.1 file=snponly.efi 43=060108ff 60=PXEClient"},
		{"EFI, only ipxe.efi", []string{"ipxe.efi"}, map[uint8]string{60: class(7), 93: "\x00\x07"}, kindEFI, "siaddr=192.168.77.1 file=ipxe.efi 43=060108ff 60=PXEClient"},
		{"EFI, type only in the class", both, map[uint8]string{60: class(7)}, kindEFI, "siaddr=192.168.77.1 file=snponly.efi 43=060108ff 60=PXEClient"},
		{"EFI HTTP boot", both, map[uint8]string{60: "HTTPClient:Arch:00016:UNDI:003001", 93: "\x00\x10", 55: all}, kindHTTP,
			"siaddr=192.168.77.1 file=http://192.168.77.1:8080/boot/ipxe/snponly.efi 60=HTTPClient 67=http://192.168.77.1:8080/boot/ipxe/snponly.efi"},
		{"EFI HTTP boot, no binary", []string{"undionly.kpxe"}, map[uint8]string{60: "HTTPClient:Arch:00016", 93: "\x00\x10"}, kindHTTP, "siaddr=192.168.77.1 file="},
		{"32-bit EFI", both, map[uint8]string{60: class(6), 93: "\x00\x06"}, kindUnsupported, "siaddr=192.168.77.1 file="},
		{"ARM64 EFI", both, map[uint8]string{60: class(11), 93: "\x00\x0b"}, kindUnsupported, "siaddr=192.168.77.1 file="},
		{"PXE without a type", both, map[uint8]string{60: "PXEClient"}, kindUnsupported, "siaddr=192.168.77.1 file="},
		{"type option cut short", both, map[uint8]string{60: "PXEClient", 93: "\x00"}, kindUnsupported, "siaddr=192.168.77.1 file="},
	} {
		t.Run(test.name, func(t *testing.T) {
			req := discover(t, test.options)
			if _, asks := test.options[55]; !asks { // without the list it would ask for everything
				req.UpdateOption(dhcpv4.OptParameterRequestList(dhcpv4.OptionSubnetMask))
			}
			if got := classify(req); got != test.kind {
				t.Errorf("kind %v, want %v", got, test.kind)
			}
			l := testLink(t, test.files...)
			resp := l.answer(req)
			if resp == nil {
				t.Fatal("no answer")
			}
			if got := bootText(resp); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestOpenIPXERefuses(t *testing.T) {
	if _, err := openIPXE(t.TempDir()); err == nil || !strings.Contains(err.Error(), "undionly.kpxe") {
		t.Errorf("empty directory: %v", err)
	}
	if _, err := openIPXE("/none"); err == nil {
		t.Error("a directory that is not there was opened")
	}
}

// wire is a message of a client as on the wire.
func wire(t testing.TB, mt dhcpv4.MessageType, set func(*dhcpv4.DHCPv4)) []byte {
	req := discover(t, nil)
	req.UpdateOption(dhcpv4.OptMessageType(mt))
	if set != nil {
		set(req)
	}
	return req.ToBytes()
}

func TestRequests(t *testing.T) {
	addr := func(s string) net.IP { return net.ParseIP(s).To4() }
	us, other := dhcpv4.OptServerIdentifier(addr("192.168.77.1")), dhcpv4.OptServerIdentifier(addr("192.168.77.2"))
	want := func(s string) dhcpv4.Option { return dhcpv4.OptRequestedIPAddress(addr(s)) }
	for _, test := range []struct {
		name  string
		force bool
		set   func(*dhcpv4.DHCPv4)
		reply dhcpv4.MessageType // 0 = silence
		to    string
	}{
		{"takes an offer", false, func(r *dhcpv4.DHCPv4) { r.UpdateOption(us); r.UpdateOption(want("192.168.77.9")) }, dhcpv4.MessageTypeAck, "255.255.255.255"},
		{"takes another server's offer", false, func(r *dhcpv4.DHCPv4) { r.UpdateOption(other); r.UpdateOption(want("192.168.77.9")) }, 0, ""},
		{"wants an address of another", false, func(r *dhcpv4.DHCPv4) { r.UpdateOption(us); r.UpdateOption(want("192.168.77.66")) }, dhcpv4.MessageTypeNak, "255.255.255.255"},
		{"wants the server's address", false, func(r *dhcpv4.DHCPv4) { r.UpdateOption(us); r.UpdateOption(want("192.168.77.1")) }, dhcpv4.MessageTypeNak, "255.255.255.255"},
		{"wants the broadcast address", false, func(r *dhcpv4.DHCPv4) { r.UpdateOption(us); r.UpdateOption(want("192.168.77.255")) }, dhcpv4.MessageTypeNak, "255.255.255.255"},
		{"remembers an address", false, func(r *dhcpv4.DHCPv4) { r.UpdateOption(want("192.168.77.9")) }, dhcpv4.MessageTypeAck, "255.255.255.255"},
		{"remembers one from elsewhere", false, func(r *dhcpv4.DHCPv4) { r.UpdateOption(want("10.0.0.9")) }, dhcpv4.MessageTypeNak, "255.255.255.255"},
		{"remembers one from elsewhere, beside another server", true, func(r *dhcpv4.DHCPv4) { r.UpdateOption(want("10.0.0.9")) }, 0, ""},
		{"renews", false, func(r *dhcpv4.DHCPv4) { r.ClientIPAddr = addr("192.168.77.9") }, dhcpv4.MessageTypeAck, "192.168.77.9"},
		{"renews what is another's", false, func(r *dhcpv4.DHCPv4) { r.ClientIPAddr = addr("192.168.77.66") }, dhcpv4.MessageTypeNak, "255.255.255.255"},
		{"asks for nothing", false, nil, dhcpv4.MessageTypeNak, "255.255.255.255"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := testLink(t)
			l.force = test.force
			someone, _ := net.ParseMAC(macB)
			if !l.pool.take(someone, netip.MustParseAddr("192.168.77.66")) {
				t.Fatal("address 66 is not to be had")
			}
			req, err := parse(wire(t, dhcpv4.MessageTypeRequest, test.set))
			if err != nil {
				t.Fatal(err)
			}
			resp := l.answer(req)
			if resp == nil {
				if test.reply != 0 {
					t.Fatal("no answer")
				}
				return
			}
			if resp.MessageType() != test.reply || destination(resp).Addr().String() != test.to {
				t.Errorf("%v to %v, want %v to %s", resp.MessageType(), destination(resp), test.reply, test.to)
			}
		})
	}
}

func TestDeclinedAndReleased(t *testing.T) {
	l := testLink(t)
	send := func(mt dhcpv4.MessageType, set func(*dhcpv4.DHCPv4)) *dhcpv4.DHCPv4 {
		req, err := parse(wire(t, mt, set))
		if err != nil {
			t.Fatal(err)
		}
		return l.answer(req)
	}
	first := toAddr(send(dhcpv4.MessageTypeDiscover, nil).YourIPAddr)
	send(dhcpv4.MessageTypeDecline, func(r *dhcpv4.DHCPv4) { r.UpdateOption(dhcpv4.OptRequestedIPAddress(first.AsSlice())) })
	second := toAddr(send(dhcpv4.MessageTypeDiscover, nil).YourIPAddr)
	if first == second {
		t.Errorf("%s was offered again after it was declined", first)
	}
	send(dhcpv4.MessageTypeRelease, func(r *dhcpv4.DHCPv4) { r.ClientIPAddr = second.AsSlice() })
	mac, _ := net.ParseMAC(macB)
	if !l.pool.take(mac, second) {
		t.Errorf("%s is not free after its release", second)
	}
	inform := send(dhcpv4.MessageTypeInform, func(r *dhcpv4.DHCPv4) { r.ClientIPAddr = net.IPv4(192, 168, 77, 40).To4() })
	if inform.MessageType() != dhcpv4.MessageTypeAck || !unspecified(inform.YourIPAddr) || inform.Options.Has(dhcpv4.OptionIPAddressLeaseTime) {
		t.Errorf("answer to INFORM gives an address: %s", inform.Summary())
	}
}

func TestParseRefuses(t *testing.T) {
	for name, set := range map[string]func(*dhcpv4.DHCPv4){
		"reply":         func(r *dhcpv4.DHCPv4) { r.OpCode = dhcpv4.OpcodeBootReply },
		"infiniband":    func(r *dhcpv4.DHCPv4) { r.HWType = 32 },
		"group address": func(r *dhcpv4.DHCPv4) { r.ClientHWAddr = net.HardwareAddr{1, 0, 0, 0, 0, 1} },
		"short address": func(r *dhcpv4.DHCPv4) { r.ClientHWAddr = net.HardwareAddr{2, 0} },
		"relayed":       func(r *dhcpv4.DHCPv4) { r.GatewayIPAddr = net.IPv4(10, 0, 0, 1) },
	} {
		if _, err := parse(wire(t, dhcpv4.MessageTypeDiscover, set)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := parse([]byte("x")); err == nil {
		t.Error("garbage: taken")
	}
}

// FuzzAnswer: whatever comes in, the answer is well-formed, offers only
// addresses of the range, and never sends a boot file to our node.
func FuzzAnswer(f *testing.F) {
	f.Add(wire(f, dhcpv4.MessageTypeDiscover, nil))
	f.Add(wire(f, dhcpv4.MessageTypeRequest, func(r *dhcpv4.DHCPv4) { r.ClientIPAddr = net.IPv4(192, 168, 77, 9).To4() }))
	for _, o := range []map[uint8]string{
		{60: "PXEClient:Arch:00000:UNDI:002001", 93: "\x00\x00", 97: "\x00123", 55: "\x42\x43"},
		{60: "HTTPClient:Arch:00016", 93: "\x00\x10"}, {77: "iPXE"}, {175: "\x01"}, {60: "swarmboot"}, {82: "\x01\x02ab", 61: "\x01abcdef"},
	} {
		f.Add(discover(f, o).ToBytes())
	}
	l := testLink(f, "undionly.kpxe", "snponly.efi")
	f.Fuzz(func(t *testing.T, b []byte) {
		req, err := parse(b)
		if err != nil {
			return
		}
		resp := l.answer(req)
		if resp == nil {
			return
		}
		back, err := dhcpv4.FromBytes(resp.ToBytes())
		if err != nil {
			t.Fatalf("answer cannot be read: %v", err)
		}
		if a := toAddr(back.YourIPAddr); !a.IsUnspecified() && (a.Less(l.First) || l.Last.Less(a) || a == l.Addr) {
			t.Fatalf("address %s", a)
		}
		if req.ClassIdentifier() == NodeClass && (back.BootFileName != "" || back.Options.Has(dhcpv4.OptionBootfileName)) {
			t.Fatalf("a node was given boot file %q", back.BootFileName)
		}
	})
}
