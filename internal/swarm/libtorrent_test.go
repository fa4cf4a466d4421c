package swarm

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"swarmboot/imagefmt"
)

// libtorrentClient fetches what is missing of a torrent and seeds it; it prints "seeding" when it has everything.
const libtorrentClient = `
import libtorrent as lt, sys, time
torrent, folder, address, port = sys.argv[1:]
s = lt.session({'listen_interfaces': address + ':' + port, 'outgoing_interfaces': address,
    'enable_dht': False, 'enable_lsd': False, 'enable_upnp': False, 'enable_natpmp': False,
    'allow_multiple_connections_per_ip': True, 'min_announce_interval': 1, 'ssrf_mitigation': False})
p = lt.add_torrent_params()
p.ti, p.save_path = lt.torrent_info(torrent), folder
h = s.add_torrent(p)
told = False
while True:
    if h.status().is_seeding and not told:
        print('seeding', flush=True)
        told = True
    time.sleep(0.05)
`

// libtorrent starts the client on a torrent in dir and returns a channel that is closed when it has everything.
// It is ended with the test.
func libtorrent(t *testing.T, r *rig, dir, host string) <-chan struct{} {
	t.Helper()
	torrent := filepath.Join(dir, "test.torrent")
	if err := os.WriteFile(torrent, r.im.meta.Marshal(r.announceURL()), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := listenTCP(host + ":0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", libtorrentClient, torrent, dir, host, fmt.Sprint(port))
	errs := new(bytes.Buffer)
	cmd.Stderr = errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("python3, with Debian's package python3-libtorrent: %v", err)
	}
	seeding, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		if n, _ := out.Read(make([]byte, 64)); n > 0 {
			close(seeding)
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("libtorrent: %s", errs)
		}
	})
	return seeding
}

// TestLibtorrentFetches: libtorrent, the library of EZIO and qBittorrent, gets both layouts from our tracker,
// seeder and node.
func TestLibtorrentFetches(t *testing.T) {
	t.Parallel()
	for i, layout := range layouts {
		t.Run(string(layout), func(t *testing.T) {
			im := makeImage(t, 12<<20, 256<<10, layout)
			r := newRig(t, im, SeederOptions{})
			s := r.join(1, im.blank(), nil)
			mustWait(t, s)
			dir := t.TempDir()
			select {
			case <-libtorrent(t, r, dir, fmt.Sprintf("127.0.0.%d", 60+i)):
			case <-time.After(30 * time.Second):
				t.Fatal("libtorrent does not finish")
			}
			got, err := os.ReadFile(filepath.Join(dir, im.meta.Name))
			if err != nil {
				t.Fatal(err)
			}
			if sha256.Sum256(got) != sha256.Sum256(im.payload.b) {
				t.Error("what libtorrent fetched is not the payload")
			}
		})
	}
}

// TestLibtorrentSeeds: our node gets everything from libtorrent.
func TestLibtorrentSeeds(t *testing.T) {
	t.Parallel()
	im := makeImage(t, 12<<20, 256<<10, imagefmt.Packed)
	r := newRig(t, im, SeederOptions{})
	r.seeder.Remove(im.meta.InfoHash)
	r.tracker.SetSeeder(0)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, im.meta.Name), im.payload.b, 0o600); err != nil {
		t.Fatal(err)
	}
	select {
	case <-libtorrent(t, r, dir, "127.0.0.62"):
	case <-time.After(30 * time.Second):
		t.Fatal("libtorrent does not seed")
	}
	target := im.blank()
	s := r.join(2, target, nil)
	mustWait(t, s)
	im.check(t, target)
	if st := s.Stats(); st.FromServer != 0 || st.FromNodes != im.manifest.PayloadLength {
		t.Errorf("stats: %+v", st)
	}
}
