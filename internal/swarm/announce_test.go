package swarm

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseAnswer(t *testing.T) {
	a := netip.MustParseAddrPort
	cases := []struct {
		name, body string
		interval   time.Duration
		peers      []netip.AddrPort
		err        string
	}{
		{"compact", "d8:intervali7e5:peers12:\x7f\x00\x00\x01\x1a\xe1\x0a\x00\x00\x02\x00\x01e", 7 * time.Second, []netip.AddrPort{a("127.0.0.1:6881"), a("10.0.0.2:1")}, ""},
		{"both families", "d5:peers6:\x7f\x00\x00\x01\x1a\xe16:peers618:" + strings.Repeat("\x00", 15) + "\x01\x1a\xe1e", announceInterval, []netip.AddrPort{a("127.0.0.1:6881"), a("[::1]:6881")}, ""},
		{"list", "d5:peersld2:ip9:127.0.0.14:porti6881eed2:ip4:name4:porti1eed2:ip7:1.2.3.44:porti65536eeee", announceInterval, []netip.AddrPort{a("127.0.0.1:6881")}, ""},
		{"port 0 and a rest", "d5:peers8:\x7f\x00\x00\x01\x00\x00abe", announceInterval, nil, ""},
		{"none", "d8:intervali0ee", announceInterval, nil, ""},
		{"long interval", "d8:intervali999999999999ee", maxInterval, nil, ""},
		{"failure", "d14:failure reason3:whye", 0, nil, "the tracker says: why"},
		{"page", "<html>", 0, nil, "no tracker's"},
		{"peers", "d5:peersi1ee", 0, nil, "announce"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseAnswer([]byte(c.body))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error is %v, want %q", err, c.err)
				}
				return
			}
			if err != nil || got.interval != c.interval || !slices.Equal(got.peers, c.peers) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// TestAgain: the tracker can ask for one early announce, within bounds.
func TestAgain(t *testing.T) {
	for body, want := range map[string]time.Duration{
		"d8:intervali7ee":                            0,
		"d8:intervali7e8:sb_againi500ee":             500 * time.Millisecond,
		"d8:intervali7e8:sb_againi1ee":               minAgain,
		"d8:intervali7e8:sb_againi999999999999999ee": 7 * time.Second,
		"d8:intervali7e8:sb_againi-5ee":              0,
	} {
		if got, err := parseAnswer([]byte(body)); err != nil || got.again != want {
			t.Errorf("%s: %v, %v, want %v", body, got.again, err, want)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte("d8:intervali7e5:peers6:\x7f\x00\x00\x01\x1a\xe1e"))
	f.Add([]byte("d5:peersld2:ip9:127.0.0.14:porti6881eeee"))
	f.Add([]byte("d14:failure reason3:whye"))
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := parseAnswer(body)
		if err == nil && (a.interval < minInterval || a.interval > maxInterval) {
			t.Errorf("interval is %v", a.interval)
		}
		for _, p := range a.peers {
			if !p.IsValid() || p.Port() == 0 {
				t.Errorf("peer %v", p)
			}
		}
	})
}
