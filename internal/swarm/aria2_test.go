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

// aria2 starts aria2c (Debian package aria2) on a torrent in dir. It is ended with the test.
func aria2(t *testing.T, r *rig, dir, host string, more ...string) (*exec.Cmd, *bytes.Buffer) {
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
	args := append([]string{
		"--no-conf", "--dir=" + dir, "--interface=" + host, fmt.Sprintf("--listen-port=%d", port),
		"--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false", "--enable-peer-exchange=false",
		"--file-allocation=none", "--console-log-level=info", "--bt-tracker-interval=1", "--disable-ipv6=true",
	}, more...)
	cmd := exec.CommandContext(t.Context(), "aria2c", append(args, torrent)...)
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatalf("aria2c, of Debian's package aria2: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	return cmd, out
}

// TestAria2Fetches: a foreign client gets the payload from our tracker, seeder and node.
func TestAria2Fetches(t *testing.T) {
	t.Parallel()
	for _, layout := range layouts {
		t.Run(string(layout), func(t *testing.T) {
			im := makeImage(t, 12<<20, 256<<10, layout)
			r := newRig(t, im, SeederOptions{})
			s := r.join(1, im.blank(), nil)
			mustWait(t, s)
			dir := t.TempDir()
			cmd, out := aria2(t, r, dir, "127.0.0.50", "--seed-time=0")
			done := make(chan error, 1)
			go func() { done <- cmd.Wait() }()
			select {
			case err := <-done:
				if err != nil {
					t.Fatalf("aria2c: %v\n%s", err, out)
				}
			case <-time.After(30 * time.Second):
				t.Fatal("aria2c does not finish")
			}
			got, err := os.ReadFile(filepath.Join(dir, im.meta.Name))
			if err != nil {
				t.Fatal(err)
			}
			if sha256.Sum256(got) != sha256.Sum256(im.payload.b) {
				t.Error("what aria2c fetched is not the payload")
			}
			if c := r.scrape(); c.Downloaded == 0 || c.Complete < 2 { // aria2c goes without a word of completion
				t.Errorf("scrape: %+v, want the seeder and a node that has finished", c)
			}
			t.Logf("aria2c took %d bytes from the node, %d from the seeder", s.Stats().Uploaded,
				r.seeder.Uploaded(im.meta.InfoHash)-im.manifest.PayloadLength)
		})
	}
}

// TestAria2Seeds: our node gets everything from a foreign seeder.
func TestAria2Seeds(t *testing.T) {
	t.Parallel()
	im := makeImage(t, 12<<20, 256<<10, imagefmt.Packed)
	r := newRig(t, im, SeederOptions{})
	r.seeder.Remove(im.meta.InfoHash)
	r.tracker.SetSeeder(0)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, im.meta.Name), im.payload.b, 0o600); err != nil {
		t.Fatal(err)
	}
	aria2(t, r, dir, "127.0.0.51", "--check-integrity=true", "--seed-ratio=0.0")
	target := im.blank()
	s := r.join(2, target, nil)
	mustWait(t, s)
	im.check(t, target)
	if st := s.Stats(); st.FromServer != 0 || st.FromNodes != im.manifest.PayloadLength {
		t.Errorf("stats: %+v", st)
	}
}
