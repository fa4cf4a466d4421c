package tracker

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/anacrolix/torrent/bencode"
)

var testHash = [20]byte{'&', '=', '%', '+', ' ', 0, 0xff, 'a', '\n', ';', '#'}

func newRand(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// reading is what a client sees in an answer, read by the BitTorrent library's decoder.
type reading struct {
	Failure    string        `bencode:"failure reason"`
	Complete   int           `bencode:"complete"`
	Downloaded int           `bencode:"downloaded"`
	Incomplete int           `bencode:"incomplete"`
	Interval   int           `bencode:"interval"`
	Peers      bencode.Bytes `bencode:"peers"`
	Peers6     string        `bencode:"peers6"`
	Again      int           `bencode:"sb_again"`
}

type server struct {
	*Tracker
	t   *testing.T
	url string
	now time.Time
}

func startServer(t *testing.T, o Options) *server {
	s := &server{t: t, now: epoch}
	o.Now = func() time.Time { return s.now }
	s.Tracker = New(o)
	s.Register(testHash, 10)
	hs := httptest.NewServer(s.Tracker)
	t.Cleanup(hs.Close)
	s.url = hs.URL
	return s
}

func (s *server) do(path string) *http.Response {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp
}

func (s *server) get(path string) []byte {
	s.t.Helper()
	resp := s.do(path)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s %v", path, resp.Status, err)
	}
	return body
}

func query(id string, more ...string) string {
	v := url.Values{
		"info_hash": {string(testHash[:])},
		"peer_id":   {fmt.Sprintf("-XX0001-%012s", id)},
		"port":      {"7000"},
		"left":      {"100"},
		"compact":   {"1"},
	}
	for i := 0; i < len(more); i += 2 {
		v.Set(more[i], more[i+1])
	}
	return v.Encode()
}

func (s *server) announce(id string, more ...string) reading {
	s.t.Helper()
	var r reading
	if err := bencode.Unmarshal(s.get("/announce?"+query(id, more...)), &r); err != nil {
		s.t.Fatal(err)
	}
	return r
}

func compactOf(t *testing.T, addrs ...string) string {
	t.Helper()
	s := ""
	for _, a := range addrs {
		ap := netip.MustParseAddrPort(a)
		s += string(ap.Addr().AsSlice()) + string([]byte{byte(ap.Port() >> 8), byte(ap.Port())})
	}
	return fmt.Sprintf("%d:%s", len(s), s)
}

func TestNodeGetsItsUpstream(t *testing.T) {
	s := startServer(t, Options{})
	s.SetSeeder(6000)
	r := s.announce("a", "sb_node", "n1", "sb_run", "1", "port", "7001", "event", "started")
	if want := compactOf(t, "127.0.0.1:6000"); string(r.Peers) != want {
		t.Errorf("head: peers are %q, want the seeder %q", r.Peers, want)
	}
	if r.Interval != 1 || r.Complete != 1 || r.Incomplete != 1 {
		t.Errorf("head: %+v", r)
	}
	r = s.announce("b", "sb_node", "n2", "sb_run", "1", "port", "7002", "event", "started")
	if want := compactOf(t, "127.0.0.1:7001"); string(r.Peers) != want {
		t.Errorf("second: peers are %q, want the head %q", r.Peers, want)
	}
	s.announce("a", "sb_node", "n1", "sb_run", "1", "port", "7001", "sb_done", "5")
	s.announce("b", "sb_node", "n2", "sb_run", "1", "port", "7002", "sb_stall", "1")
	r = s.announce("b", "sb_node", "n2", "sb_run", "1", "port", "7002", "sb_stall", "1")
	if want := compactOf(t, "127.0.0.1:7001", "127.0.0.1:6000"); string(r.Peers) != want {
		t.Errorf("stalled: peers are %q, want the head, then the seeder %q", r.Peers, want)
	}
	if !s.Needed(testHash, "n1") || s.Needed(testHash, "n2") || s.Needed([20]byte{}, "n1") {
		t.Error("Needed is wrong")
	}
	s.announce("a", "sb_node", "n1", "sb_run", "1", "port", "7001", "event", "stopped")
	r = s.announce("c", "sb_node", "n3", "sb_run", "1", "port", "7003", "sb_done", "10")
	if r.Complete != 2 || r.Incomplete != 1 || len(r.Peers) != len("0:") {
		t.Errorf("complete node: %+v", r)
	}
}

// TestServerStartedAgain: until the nodes of before have announced nobody is sent away; a swarm that began with this server waits
// for nothing.
func TestServerStartedAgain(t *testing.T) {
	needed := func(s *server, node string, want bool) {
		t.Helper()
		if s.Needed(testHash, node) != want {
			t.Errorf("%s is needed: %v", node, !want)
		}
	}
	tell := func(s *server, node string, more ...string) {
		s.announce(node, append([]string{"sb_node", node, "sb_run", "1"}, more...)...)
	}
	s := startServer(t, Options{})
	tell(s, "1", "event", "started")
	tell(s, "1", "sb_done", "10", "left", "0", "event", "completed")
	needed(s, "1", false)
	needed(s, "9", true) // it never announced here, so it has its pieces from before
	tell(s, "2", "sb_done", "10", "left", "0")
	needed(s, "2", true)
	needed(s, "1", true) // those of before may be told to take from it
	s.now = s.now.Add(rejoin)
	for _, node := range []string{"1", "2", "9"} {
		needed(s, node, false)
	}

	s = startServer(t, Options{})
	tell(s, "1", "event", "started")
	tell(s, "2", "event", "started")
	needed(s, "1", true)
	tell(s, "2", "event", "stopped")
	needed(s, "1", false)
	needed(s, "2", false)
}

// TestPortParameters: what a node tells of its port reaches the topology, within bounds, and what the tracker wants
// confirmed soon it says.
func TestPortParameters(t *testing.T) {
	s := startServer(t, Options{})
	tell := func(i int, more ...string) reading {
		n := fmt.Sprint(i)
		return s.announce(n, append([]string{"sb_node", n, "sb_run", "1", "port", fmt.Sprint(7000 + i), "sb_rate", "99999999999999999", "sb_speed", "999999999999", "downloaded", "50"}, more...)...)
	}
	for i := range 3 {
		tell(i)
	}
	nodes := s.images[testHash].nodes
	for _, n := range nodes.all {
		if n.Rate != maxRate || n.Speed != maxSpeed || n.Left != 100 || n.Received != 50 || n.Rack != "127.0.0.0/24" {
			t.Errorf("%+v", n.Report)
		}
	}
	tell(2, "sb_rack", "r7")
	if n := nodes.nodes["2"]; n.Rack != "r7" {
		t.Errorf("rack %q", n.Rack)
	}
	s.now = s.now.Add(900 * time.Millisecond)
	if r := tell(1, "sb_stall", "1"); r.Again != 500 {
		t.Errorf("come again in %d ms", r.Again)
	}
	if r := tell(1, "downloaded", "x"); r.Failure != "" || nodes.nodes["1"].Received != 0 {
		t.Errorf("downloaded=x: %+v", r)
	}
	for _, bad := range []string{"sb_rate", "sb_speed"} {
		for _, v := range []string{"-1", "x", "1e3"} {
			if r := tell(1, bad, v); !strings.Contains(r.Failure, bad) {
				t.Errorf("%s=%s: %q", bad, v, r.Failure)
			}
		}
	}
}

func TestOrdinaryClient(t *testing.T) {
	s := startServer(t, Options{})
	s.SetSeeder(6000)
	for i := range 20 {
		s.announce(fmt.Sprint(i), "port", fmt.Sprint(8000+i))
	}
	r := s.announce("x", "sb_node", "n1", "sb_run", "1")
	if want := compactOf(t, "127.0.0.1:6000"); string(r.Peers) != want {
		t.Errorf("a node is sent to ordinary clients: %q", r.Peers)
	}
	r = s.announce("x", "sb_node", "n1", "sb_run", "1", "sb_stall", "1")
	if len(r.Peers) != len("30:")+(1+helpers)*6 {
		t.Errorf("a stalled node is not sent to ordinary clients: %q", r.Peers)
	}
	r = s.announce("y", "port", "9000", "numwant", "7", "event", "started")
	if len(r.Peers) != len("42:")+7*6 || !strings.HasSuffix(string(r.Peers), "\x7f\x00\x00\x01\x17\x70") {
		t.Errorf("want 7 peers, the seeder among them: %q", r.Peers)
	}
	if r.Interval != 30 {
		t.Errorf("interval is %d", r.Interval)
	}
	r = s.announce("y", "port", "9000", "numwant", "200")
	if len(r.Peers) != len("132:")+22*6 { // 20 others, the node, the seeder, not itself
		t.Errorf("want 22 peers, got %d bytes", len(r.Peers))
	}
	r = s.announce("y", "port", "9000", "left", "0", "event", "completed")
	if r.Complete != 2 || r.Downloaded != 1 || r.Incomplete != 21 {
		t.Errorf("counts: %+v", r)
	}
	r = s.announce("y", "port", "9000", "event", "stopped")
	if r.Complete != 1 || len(r.Peers) != len("0:") {
		t.Errorf("after goodbye: %+v", r)
	}
	s.now = s.now.Add(2 * time.Minute)
	if r = s.announce("y", "port", "9000"); r.Incomplete != 1 {
		t.Errorf("%d peers after all were silent", r.Incomplete)
	}
}

func TestNotCompact(t *testing.T) {
	s := startServer(t, Options{})
	s.SetSeeder(6000)
	r := s.announce("y", "compact", "0")
	var list []struct {
		IP   string `bencode:"ip"`
		Port int    `bencode:"port"`
	}
	if err := bencode.Unmarshal(r.Peers, &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0].IP != "127.0.0.1" || list[0].Port != 6000 {
		t.Errorf("peers are %+v", list)
	}
}

func TestIPv6(t *testing.T) {
	s := startServer(t, Options{})
	s.SetSeeder(6000)
	req, err := parseAnnounce(query("a"))
	if err != nil {
		t.Fatal(err)
	}
	rep, err := s.Tracker.announce(req, netip.MustParseAddrPort("[2001:db8::7]:7000"), netip.MustParseAddr("2001:db8::1"))
	if err != nil {
		t.Fatal(err)
	}
	var r reading
	if err := bencode.Unmarshal(rep.encode(true), &r); err != nil {
		t.Fatal(err)
	}
	want := netip.MustParseAddr("2001:db8::1").As16()
	if r.Peers6 != string(want[:])+"\x17\x70" || string(r.Peers) != "0:" {
		t.Errorf("peers6 is %q, peers %q", r.Peers6, r.Peers)
	}
}

func TestRefusals(t *testing.T) {
	s := startServer(t, Options{MaxPeers: 2})
	cases := []struct{ name, query, want string }{
		{"unknown image", query("a", "info_hash", strings.Repeat("u", 20)), errUnknown.Error()},
		{"no query", "", "info_hash is not 20 bytes"},
		{"short hash", query("a", "info_hash", "u"), "info_hash is not 20 bytes"},
		{"long hash", query("a", "info_hash", strings.Repeat("u", 21)), "info_hash is not 20 bytes"},
		{"short id", query("a", "peer_id", "u"), "peer_id is not 20 bytes"},
		{"no port", query("a", "port", "0"), "no port"},
		{"port", query("a", "port", "65536"), "malformed port"},
		{"left", query("a", "left", "-1"), "malformed left"},
		{"done", query("a", "sb_done", "x"), "malformed sb_done"},
		{"escape", "info_hash=%zz", "malformed info_hash"},
		{"long node", query("a", "sb_node", strings.Repeat("n", 65)), "sb_node is longer"},
		{"long query", query("a", "x", strings.Repeat("n", maxQuery)), errQuery.Error()},
		{"many", strings.Repeat("a=b&", maxParams+1), errQuery.Error()},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var r reading
			if err := bencode.Unmarshal(s.get("/announce?"+c.query), &r); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(r.Failure, c.want) {
				t.Errorf("failure is %q, want %q", r.Failure, c.want)
			}
		})
	}
	for i := range 3 {
		r := s.announce(fmt.Sprint(i))
		n := s.announce(fmt.Sprint(i), "sb_node", fmt.Sprint(i))
		if full := i == 2; full != (r.Failure == errFull.Error()) || full != (n.Failure == errFull.Error()) {
			t.Errorf("peer %d: %q, node: %q", i, r.Failure, n.Failure)
		}
	}
	resp := s.do("/other")
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("other path: %s", resp.Status)
	}
}

func TestScrape(t *testing.T) {
	s := startServer(t, Options{})
	s.SetSeeder(6000)
	second := [20]byte{1}
	s.Register(second, 1)
	s.announce("a", "left", "0", "event", "completed")
	s.announce("b")
	type scraped struct {
		Files map[string]struct {
			Complete   int `bencode:"complete"`
			Downloaded int `bencode:"downloaded"`
			Incomplete int `bencode:"incomplete"`
		} `bencode:"files"`
	}
	read := func(q string) (r scraped) {
		t.Helper()
		if err := bencode.Unmarshal(s.get("/scrape"+q), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := read(""); len(r.Files) != 2 {
		t.Errorf("all: %+v", r)
	}
	q := url.QueryEscape(string(testHash[:]))
	r := read("?info_hash=" + q + "&info_hash=" + strings.Repeat("u", 20))
	if f, ok := r.Files[string(testHash[:])]; len(r.Files) != 1 || !ok || f.Complete != 2 || f.Downloaded != 1 || f.Incomplete != 1 {
		t.Errorf("one: %+v", r)
	}
	s.Unregister(testHash)
	if r := read("?info_hash=" + q); len(r.Files) != 0 {
		t.Errorf("unregistered: %+v", r)
	}
}
