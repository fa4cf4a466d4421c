package tracker

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anacrolix/torrent/bencode"
)

// every has each parameter that setOwn and parseAnnounce know, so that a fuzzer need not guess their names.
var every = query("every", "sb_node", "n", "sb_run", "1", "sb_rack", "switch", "sb_done", "12", "sb_stall", "1", "sb_busy", "1",
	"sb_speed", "1000", "sb_rate", "100000000", "sb_disk", "3000000", "sb_lost", "10.0.0.1:6881", "left", "1000", "downloaded", "2000", "event", "started", "numwant", "20", "compact", "0") +
	"&sb_bad=10.0.0.3%3A6881&sb_lost=%5B2001%3Adb8%3A%3A1%5D%3A6881&sb_lost=%5B%3A%3Affff%3A10.0.0.2%5D%3A1"

func addQueries(f *testing.F) {
	f.Add(query("a"))
	f.Add(query("a", "sb_node", "n", "sb_done", "12", "sb_stall", "1", "event", "started"))
	f.Add(every)
	f.Add(query("a", "sb_node", "n", "left", "0", "event", "completed"))
	f.Add(query("a", "sb_node", "n", "event", "stopped"))
	f.Add(query("a", "sb_node", "n", "sb_speed", "9223372036854775807", "sb_rate", "9223372036854775807", "sb_done", "9223372036854775807", "sb_disk", "9223372036854775807"))
	f.Add(query("a", "sb_node", "n", "downloaded", "9223372036854775807", "left", "1", "sb_done", "3"))
	f.Add("info_hash=%00%ff&peer_id=%%%&port=1&left=9223372036854775808")
	f.Add("&&&===;info_hash=+")
}

// TestEveryParameter: the seed of the fuzz targets sets every field of a request.
func TestEveryParameter(t *testing.T) {
	r, err := parseAnnounce(every)
	if err != nil {
		t.Fatal(err)
	}
	if r.node != "n" || r.run != "1" || r.rack != "switch" || r.done != 12 || !r.stalled || !r.busy || r.speed != 1000 || r.rate != 1e8 || r.disk != 3e6 ||
		len(r.lost) != 3 || len(r.bad) != 1 || r.bad[0] != netip.MustParseAddrPort("10.0.0.3:6881") || r.lost[2] != netip.MustParseAddrPort("10.0.0.2:1") || r.left != 1000 || r.received != 2000 || r.event != "started" || r.numWant != 20 || r.compact {
		t.Errorf("%+v", r)
	}
}

func FuzzParseAnnounce(f *testing.F) {
	addQueries(f)
	f.Fuzz(func(t *testing.T, raw string) {
		r, err := parseAnnounce(raw)
		if err == nil {
			checkRequest(t, r)
		}
		hashes, err := parseScrape(raw)
		if len(hashes) > maxScrape || (errors.Is(err, errQuery) && len(raw) <= maxQuery && len(hashes) < maxScrape && strings.Count(raw, "&") < maxParams) {
			t.Errorf("scrape: %d hashes, %v", len(hashes), err)
		}
		// Whatever was escaped by a client comes back.
		if len(raw) == 20 {
			if r, err := parseAnnounce(query("a", "info_hash", raw)); err != nil || string(r.infoHash[:]) != raw {
				t.Errorf("info-hash %q became %q, %v", raw, r.infoHash, err)
			}
		}
	})
}

func checkRequest(t *testing.T, r request) {
	if r.port == 0 || r.left < -1 || r.received < 0 || r.done < 0 || r.numWant < 0 || r.numWant > maxNumWant || r.speed < 0 || r.speed > maxSpeed || r.rate < 0 || r.rate > maxRate || r.disk < 0 || r.disk > maxRate {
		t.Errorf("accepted %+v", r)
	}
	if len(r.node) > maxName || len(r.run) > maxName || len(r.rack) > maxName || len(r.lost) > maxLost || len(r.bad) > maxLost {
		t.Errorf("accepted %+v", r)
	}
	for _, a := range slices.Concat(r.lost, r.bad) {
		if a.Addr().Zone() != "" || a.Addr().Is4In6() {
			t.Errorf("lost %v: no address is told like that", a)
		}
	}
}

// FuzzAnnounce: whatever one node says, among others, every answer is bencoded and the books agree.
func FuzzAnnounce(f *testing.F) {
	addQueries(f)
	f.Fuzz(func(t *testing.T, raw string) {
		now := epoch
		tr := New(Options{Now: func() time.Time { now = now.Add(700 * time.Millisecond); return now }})
		tr.Register(testHash, 40)
		tr.SetSeeder(6000)
		for _, q := range []string{query("a", "sb_node", "a"), query("b", "sb_node", "b"), raw, query("b", "sb_node", "b", "sb_done", "5"), raw, query("c", "sb_node", "c", "left", "0"), raw} {
			checkAnswer(t, ask(t, tr, q))
		}
		checkBooks(t, tr.images[testHash].nodes)
	})
}

// ask sends a query past the parts of net/http that would refuse it.
func ask(t *testing.T, tr *Tracker, raw string) []byte {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/announce", nil)
	r.URL.RawQuery = raw
	r.RemoteAddr = "10.0.0.9:7000"
	local := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 8080}
	w := httptest.NewRecorder()
	tr.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local)))
	return w.Body.Bytes()
}

func checkAnswer(t *testing.T, body []byte) {
	var a struct {
		Failure    string        `bencode:"failure reason"`
		Interval   int64         `bencode:"interval"`
		Complete   int64         `bencode:"complete"`
		Incomplete int64         `bencode:"incomplete"`
		Peers      bencode.Bytes `bencode:"peers"`
	}
	if err := bencode.Unmarshal(body, &a); err != nil {
		t.Fatalf("answer %q: %v", body, err)
	}
	if a.Failure == "" && (a.Interval < 1 || a.Complete < 1 || a.Incomplete < 0 || len(a.Peers) == 0) {
		t.Errorf("answer %q", body)
	}
}
