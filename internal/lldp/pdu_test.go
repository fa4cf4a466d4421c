package lldp

import (
	"encoding/hex"
	"net"
	"strings"
	"testing"
	"unicode/utf8"

	"swarmboot/internal/event"
)

// fromLLDPD is a frame of lldpd 1.0.16 on a port of a Linux bridge.
const fromLLDPD = "0180c200000e 020000000051 88cc 0207 04020000000051 0404 07312f37 0602 0078 0a05 73772d7237" +
	"0c12 61207377697463682066 6f72207465737473 0e04 009c0004 1018 1102fe800000000000000000" +
	"00fffe000051020000000200 0807 6e6f6465203432 fe09 00120f030100000000" +
	"fe09 00120f01008000 0036 fe07 0012bb01003f04 0000"

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// head is what stands before the TLVs in frames to the nearest bridge.
const head = "0180c200000e 00000000aaaa 88cc "

func TestSwitches(t *testing.T) {
	long := strings.Repeat("61", 200)
	for name, tt := range map[string]struct {
		frame string
		trust trust
		want  event.Switch
	}{
		"lldpd": {fromLLDPD, forwards, event.Switch{ID: "mac:02:00:00:00:00:51", Name: "sw-r7", Port: "1/7", PortDescription: "node 42"}},
		"name of the port and its description are one": {head + "0207 04001b21aabbcc 0408 05 47693 1 2f302f 37 0602 0078 0808 4769 312f302f37 00 0a03 73 7731 0e04 00140014 0000", forwards,
			event.Switch{ID: "mac:00:1b:21:aa:bb:cc", Name: "sw1", Port: "Gi1/0/7"}},
		"nothing but what must be there": {head + "0207 04001b21aabbcc 0402 0737 0602 0078 0000", unknown, event.Switch{ID: "mac:00:1b:21:aa:bb:cc", Port: "7"}},
		"no end":                         {head + "0207 04001b21aabbcc 0402 0737 0602 0078", unknown, event.Switch{ID: "mac:00:1b:21:aa:bb:cc", Port: "7"}},
		"padding behind the end":         {head + "0207 04001b21aabbcc 0402 0737 0602 0078 0000 ffffffff", unknown, event.Switch{ID: "mac:00:1b:21:aa:bb:cc", Port: "7"}},
		"port with a MAC address":        {head + "0207 04001b21aabbcc 0407 03001b21aabb01 0602 0078 0000", unknown, event.Switch{ID: "mac:00:1b:21:aa:bb:cc", Port: "00:1b:21:aa:bb:01"}},
		"IPv4 address":                   {head + "0206 0501c0000207 0402 0737 0602 0078 0000", unknown, event.Switch{ID: "address:192.0.2.7", Port: "7"}},
		"local name":                     {head + "0204 07737731 0402 0737 0602 0078 0000", unknown, event.Switch{ID: "local:sw1", Port: "7"}},
		"bytes that are no text":         {head + "0204 07ff0a31 0402 0737 0602 0078 0000", unknown, event.Switch{ID: "local:0xff0a31", Port: "7"}},
		"unknown kind":                   {head + "0203 09737 7 0402 0737 0602 0078 0000", unknown, event.Switch{ID: "subtype-9:sw", Port: "7"}},
		"long name": {head + "02c9 07" + long + "0402 0737 0602 0078 0000", unknown,
			event.Switch{ID: "local:sha256:c2a908d98f5df987ade41b5fce213067", Port: "7"}},
		"address that was never given":   {head + "0207 04000000000000 0402 0737 0602 0078 0a03 737731 0000", unknown, event.Switch{Name: "sw1", Port: "7"}},
		"address of ones":                {head + "0207 04ffffffffffff 0402 0737 0602 0078 0a03 737731 0000", unknown, event.Switch{Name: "sw1", Port: "7"}},
		"text that steers a terminal":    {head + "0207 04001b21aabbcc 0402 0737 0602 0078 0a0c 731b5b324a0a e280ae 7702 00 0000", unknown, event.Switch{ID: "mac:00:1b:21:aa:bb:cc", Name: "s[2J w", Port: "7"}},
		"goodbye":                        {head + "0207 04001b21aabbcc 0402 0737 0602 0000 0000", notASwitch, event.Switch{ID: "mac:00:1b:21:aa:bb:cc", Port: "7"}},
		"machine":                        {head + "0207 04001b21aabbcc 0402 0737 0602 0078 0e04 009c0080 0000", notASwitch, event.Switch{ID: "mac:00:1b:21:aa:bb:cc", Port: "7"}},
		"telephone":                      {head + "0207 04001b21aabbcc 0402 0737 0602 0078 0e04 00240024 0000", notASwitch, event.Switch{ID: "mac:00:1b:21:aa:bb:cc", Port: "7"}},
		"two-port relay":                 {head + "0207 04001b21aabbcc 0402 0737 0602 0078 0e04 04000400 0000", notASwitch, event.Switch{ID: "mac:00:1b:21:aa:bb:cc", Port: "7"}},
		"wrong capabilities are skipped": {head + "0207 04001b21aabbcc 0402 0737 0602 0078 0e02 0004 0000", unknown, event.Switch{ID: "mac:00:1b:21:aa:bb:cc", Port: "7"}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := parse(unhex(t, tt.frame))
			if err != nil {
				t.Fatal(err)
			}
			if got := p.asSwitch(); got != tt.want || p.trust() != tt.trust {
				t.Errorf("%+v, trust %d, want %+v, %d", got, p.trust(), tt.want, tt.trust)
			}
		})
	}
}

func TestRefusedFrames(t *testing.T) {
	for name, tt := range map[string]struct{ frame, want string }{
		"empty":                   {"", "ends within"},
		"header":                  {head, "ends within"},
		"other type":              {"0180c200000e 00000000aaaa 0800 0207 04001b21aabbcc 0402 0737 0602 0078", "its type is 0x0800"},
		"to somebody":             {"020000000001 00000000aaaa 88cc 0207 04001b21aabbcc 0402 0737 0602 0078", "it was sent to 02:00:00:00:00:01"},
		"no time to live":         {head + "0207 04001b21aabbcc 0402 0737 0000", "no chassis ID, port ID and time to live"},
		"ends before":             {head + "0207 04001b21aabbcc 0402 0737", "no chassis ID, port ID and time to live"},
		"other order":             {head + "0402 0737 0207 04001b21aabbcc 0602 0078 0000", "TLV of type 2 at place 1"},
		"two chassis":             {head + "0207 04001b21aabbcc 0402 0737 0602 0078 0207 04001b21aabbcc 0000", "TLV of type 1 at place 4"},
		"chassis ID of nothing":   {head + "0201 04 0402 0737 0602 0078 0000", "TLV of type 1: an ID of 1 octets"},
		"port ID of 257 octets":   {head + "0207 04001b21aabbcc 0501 07" + strings.Repeat("37", 256) + "0602 0078 0000", "TLV of type 2: an ID of 257 octets"},
		"time to live of 1 octet": {head + "0207 04001b21aabbcc 0402 0737 0601 78 0000", "TLV of type 3"},
		"TLV beyond the end":      {head + "0207 04001b21aabbcc 0402 0737 0602 0078 0aff 7377", "ends within"},
		"half a TLV's head":       {head + "0207 04001b21aabbcc 0402 0737 0602 0078 0a", "ends within"},
	} {
		t.Run(name, func(t *testing.T) {
			if p, err := parse(unhex(t, tt.frame)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%+v, %v, want an error with %q", p, err, tt.want)
			}
		})
	}
}

// What a node says of itself can be read, and no other node takes it for a switch.
func TestOwnFrame(t *testing.T) {
	mac, err := net.ParseMAC(nodeMAC)
	if err != nil {
		t.Fatal(err)
	}
	p, err := parse(self{mac: mac, port: "eth0-1", name: "eth0"}.frame())
	if err != nil {
		t.Fatal(err)
	}
	want := event.Switch{ID: "mac:" + nodeMAC, Name: "swarmboot-020000000001", Port: "eth0-1", PortDescription: "eth0"}
	if got := p.asSwitch(); got != want || p.ttl != ttl || p.trust() != notASwitch {
		t.Errorf("%+v, for %d s, trust %d", got, p.ttl, p.trust())
	}
}

// FuzzParse: nothing that comes over the cable may end process 1 or reach people or the tracker other than bounded and printable.
func FuzzParse(f *testing.F) {
	f.Add(unhex(f, fromLLDPD))
	f.Add(self{mac: nearestBridge, port: "eth0-1", name: "eth0"}.frame())
	f.Add(unhex(f, head+"02c9 07"+strings.Repeat("e9", 200)+"0402 0737 0602 0078 0000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parse(b)
		if err != nil {
			return
		}
		p.trust()
		s := p.asSwitch()
		if len(s.ID) > event.MaxSwitchID || len(s.Name) > event.MaxSwitchText || len(s.Port) > event.MaxSwitchText || len(s.PortDescription) > event.MaxSwitchText {
			t.Errorf("too long: %+v", s)
		}
		for _, text := range []string{s.ID, s.Name, s.Port, s.PortDescription} {
			if !utf8.ValidString(text) || text != clean([]byte(text)) {
				t.Errorf("%q", text)
			}
		}
	})
}
