package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"swarmboot/imagefmt"
	"swarmboot/internal/catalog"
	"swarmboot/internal/netboot"
	"swarmboot/internal/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type diskSource struct{ *bytes.Reader }

func (s diskSource) Extents() []imagefmt.Extent {
	return []imagefmt.Extent{{Off: 0, Len: s.Size()}}
}

// makeImage writes an image of random bytes and returns its info-hash.
func makeImage(t *testing.T, dir, name string) [20]byte {
	t.Helper()
	b := make([]byte, 1<<20)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	f, err := os.Create(filepath.Join(dir, name+".payload"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	res, err := imagefmt.Write(t.Context(), f, diskSource{bytes.NewReader(b)}, name, imagefmt.WriterOptions{PieceLength: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	m := &imagefmt.Manifest{FormatVersion: imagefmt.FormatVersion, Name: name, Created: time.Unix(1e9, 0).UTC(), DiskSize: 1 << 20,
		MinDiskSize: 1 << 20, SectorSize: 512, Table: imagefmt.Table{Kind: imagefmt.TableNone}}
	res.Fill(m)
	j, err := m.Marshal()
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".torrent"), res.Metainfo, 0o644)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".json"), j, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return res.InfoHash
}

// launch runs a server on loopback and returns its URL, what ends it, and how it has ended.
func launch(t *testing.T, o Options) (base string, cancel func(), done chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	up, done := make(chan net.Addr, 1), make(chan error, 1)
	o.HTTP, o.BTListen = "127.0.0.1:0", "127.0.0.1:0"
	o.Poll, o.Settle = 10*time.Millisecond, time.Hour
	o.Logger = slog.New(slog.DiscardHandler)
	o.Listening = func(a net.Addr) { up <- a }
	go func() { done <- Run(ctx, o) }()
	select {
	case a := <-up:
		return "http://" + a.String(), cancel, done
	case err := <-done:
		t.Fatalf("server did not start: %v", err)
	}
	return "", nil, nil
}

// start runs a server on loopback and returns its URL; it is ended and must
// have ended well when the test is over, or when stop is called.
func start(t *testing.T, o Options) (base string, stop func()) {
	t.Helper()
	base, cancel, done := launch(t, o)
	var ended bool
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server ended with: %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	}
	t.Cleanup(stop)
	return base, stop
}

func get(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func post(t *testing.T, url, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 {
		t.Fatalf("POST %s: %d %s %v", url, resp.StatusCode, b, err)
	}
}

// waitFor asks until part is in the answer.
func waitFor(t *testing.T, url, part string) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		got := get(t, url)
		if strings.Contains(got, part) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %q is not in:\n%s", url, part, got)
		}
	}
}

func TestScriptsFollowTheCatalogAndTheNodes(t *testing.T) {
	dir := t.TempDir()
	base, stop := start(t, Options{Images: dir, Args: netboot.Args{Then: "reboot"}})
	const node = "52:54:00:00:00:0a"
	script := base + "/boot/script?mac=52-54-00-00-00-0a"
	waitFor(t, base+"/boot/script", "chain --replace "+base+"/boot/script?mac=${netX/mac:hexhyp}")
	waitFor(t, script, "no image is ready")
	makeImage(t, dir, "debian")
	waitFor(t, script, "swarmboot.image=debian swarmboot.then=reboot")

	report := `{"node":"` + node + `","run":"1","image":"debian","phase":"done","seconds":9}`
	post(t, base+"/api/v1/nodes", report)
	waitFor(t, script, "sanboot")
	waitFor(t, base+"/boot/script?mac=525400000001", "swarmboot.image=debian") // another machine is not affected
	const uuid = "4c4c4544-0043-3510-8052-b4c04f4d3732"
	post(t, base+"/api/v1/nodes", `{"node":"52:54:00:00:00:0b","run":"1","image":"debian","phase":"done","seconds":9,"uuid":"`+uuid+`"}`)
	waitFor(t, base+"/boot/script?mac=525400000002&uuid="+uuid, "debian was deployed to the machine with this SMBIOS UUID, then 52:54:00:00:00:0b, on ")

	stop()
	base, _ = start(t, Options{Images: dir})
	script = base + "/boot/script?mac=52-54-00-00-00-0a"
	waitFor(t, base+"/api/v1/images", `"ready"`)
	waitFor(t, script, "sanboot")
	post(t, base+"/api/v1/nodes/"+node+"/redeploy", "")
	waitFor(t, script, "swarmboot.image=debian")

	makeImage(t, dir, "windows")
	waitFor(t, script, "choose --default local")
	// The one that is left does not become every machine's fate.
	if err := os.Remove(filepath.Join(dir, "windows.json")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, base+"/images/windows.json", "no image is ready")
	if got := get(t, script); !strings.Contains(got, "choose --default local") || strings.Contains(got, "item image1") {
		t.Errorf("with one of two images gone:\n%s", got)
	}
}

// A server that was started again has not checked its images yet: it must not send seeding nodes away.
func TestNobodyLeavesWhileImagesAreChecked(t *testing.T) {
	c, err := catalog.New(catalog.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s := &server{catalog: c}
	synctest.Test(t, func(t *testing.T) {
		s.began = time.Now()
		if !s.needed("debian", "n") {
			t.Error("a node is let go before the catalog has looked for images")
		}
		time.Sleep(firstScan)
		if s.needed("debian", "n") {
			t.Error("a node of an image that is gone is kept")
		}
	})
	dir := t.TempDir()
	makeImage(t, dir, "debian")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := false
	s.catalog, err = catalog.New(catalog.Options{Dir: dir, Ready: func(*catalog.Image) error {
		asked = true
		if !s.needed("debian", "n") {
			t.Error("a node is let go while the image is checked")
		}
		cancel()
		return errors.New("enough")
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.catalog.Run(ctx); err != nil || !asked {
		t.Errorf("%v, asked %v", err, asked)
	}
}

func TestImageByName(t *testing.T) {
	dir := t.TempDir()
	makeImage(t, dir, "a")
	base, _ := start(t, Options{Images: dir, Image: "b"})
	waitFor(t, base+"/api/v1/images", `"ready"`)
	waitFor(t, base+"/boot/script?mac=525400000001", "image b is not ready")
	makeImage(t, dir, "b")
	waitFor(t, base+"/boot/script?mac=525400000001", "swarmboot.image=b ")
}

func TestReadyImagesAreInTheSwarm(t *testing.T) {
	dir := t.TempDir()
	hash := makeImage(t, dir, "debian")
	base, _ := start(t, Options{Images: dir})
	announce := func(h [20]byte) string {
		v := url.Values{"info_hash": {string(h[:])}, "peer_id": {"-XX0001-abcdefghijkl"}, "port": {"7000"}, "left": {"100"}, "compact": {"1"},
			"uploaded": {"0"}, "downloaded": {"0"}, "event": {"started"}}
		return base + "/announce?" + v.Encode()
	}
	waitFor(t, base+"/images/debian.torrent", "8:announce"+fmt.Sprintf("%d:%s/announce", len(base)+9, base))
	// One peer, the server's seeder, in 6 octets at the address that was asked.
	waitFor(t, announce(hash), "5:peers6:\x7f\x00\x00\x01")
	waitFor(t, announce([20]byte{1}), "failure reason")
	if err := os.Remove(filepath.Join(dir, "debian.json")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, base+"/images/debian.torrent", "no image is ready")
	waitFor(t, announce(hash), "failure reason")
}

func TestServerThatCannotStart(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	for name, test := range map[string]struct {
		o    Options
		want string
	}{
		"port taken":         {Options{Images: dir, HTTP: taken.Addr().String()}, "address already in use"},
		"no directory":       {Options{Images: filepath.Join(dir, "none"), HTTP: "127.0.0.1:0"}, "image directory"},
		"HTTP on loopback":   {Options{Images: dir, HTTP: "127.0.0.1:0", Interfaces: []string{"lo"}}, "no node can reach"},
		"hostile argument":   {Options{Images: dir, HTTP: "127.0.0.1:0", Args: netboot.Args{Append: "${x}"}}, "iPXE"},
		"interface not here": {Options{Images: dir, HTTP: ":0", Interfaces: []string{"none0"}}, "none0"},
	} {
		test.o.BTListen, test.o.Logger = "127.0.0.1:0", slog.New(slog.DiscardHandler)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		if err := Run(ctx, test.o); err == nil || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
		cancel()
	}
}

func TestHTTPOnTheAddressOfEachLink(t *testing.T) {
	one := netboot.Link{Interface: "eth1", Addr: netip.MustParseAddr("192.168.77.1")}
	two := netboot.Link{Interface: "eth2", Addr: netip.MustParseAddr("10.1.1.5")}
	for _, test := range []struct {
		http  string
		links []netboot.Link
		want  string // the interface that is refused
	}{
		{"0.0.0.0:8080", []netboot.Link{one, two}, ""},
		{"[::]:8080", []netboot.Link{one, two}, ""},
		{"192.168.77.1:8080", []netboot.Link{one}, ""},
		{"[::ffff:192.168.77.1]:8080", []netboot.Link{one}, ""},
		{"10.1.1.5:8080", []netboot.Link{one}, "eth1"},
		{"192.168.77.1:8080", []netboot.Link{one, two}, "eth2"},
		{"[fe80::1]:8080", []netboot.Link{one}, "eth1"},
	} {
		err := reachable(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(test.http)), test.links)
		if (err != nil) != (test.want != "") || err != nil && (!strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "--http :8080")) {
			t.Errorf("%s: %v, want %q", test.http, err, test.want)
		}
	}
}

func TestDirectoryNotWritable(t *testing.T) {
	if writable("/proc/none") {
		t.Error("/proc is writable")
	}
	if dir := filepath.Join(t.TempDir(), "x"); !writable(dir) {
		t.Error("a temporary directory is not writable")
	}
}

// What could not be saved is saved at the end at the latest; where that fails, too, the server ends with an error.
func TestDeployedIsSavedAtTheEnd(t *testing.T) {
	for _, mended := range []bool{true, false} {
		dir := t.TempDir()
		state := filepath.Join(dir, ".swarmboot")
		base, cancel, done := launch(t, Options{Images: dir})
		err := os.RemoveAll(state)
		if err == nil {
			err = os.WriteFile(state, nil, 0o600) // in place of the folder
		}
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.Post(base+"/api/v1/nodes", "application/json", strings.NewReader(`{"node":"n","run":"r","image":"debian","phase":"done"}`)) //nolint:noctx // it has no end to wait for
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("status %d", resp.StatusCode)
		}
		http.DefaultClient.CloseIdleConnections()
		if mended {
			if err := os.Remove(state); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		if err := <-done; errors.Is(err, web.ErrNotSaved) == mended {
			t.Errorf("mended %v: the server ended with: %v", mended, err)
		}
		if b, err := os.ReadFile(filepath.Join(state, "nodes.json")); mended && !strings.Contains(string(b), `"n"`) {
			t.Errorf("%s %v", b, err)
		}
	}
}
