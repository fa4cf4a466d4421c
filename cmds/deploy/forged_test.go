package main

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // BEP 3
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/deploy/deploytest"
	"swarmboot/internal/looptest"
)

// forge gives a frame of an image another SHA-256 of its raw bytes, and makes index, torrent and manifest agree: what a
// server with bad memory makes. BitTorrent sees nothing wrong with it.
func forge(t *testing.T, dir, name string, im *deploytest.Image) {
	t.Helper()
	base, m := filepath.Join(dir, name), im.Manifest
	payload, torrent := readFile(t, base+".payload"), readFile(t, base+".torrent")
	ix, err := imagefmt.ParseIndex(bytes.Clone(payload[:m.IndexLength]), m)
	if err != nil {
		t.Fatal(err)
	}
	frames, err := ix.Frames(ix.IndexPieces())
	if err != nil {
		t.Fatal(err)
	}
	piece := payload[:m.PieceLength]
	before := sha1.Sum(piece)
	payload[bytes.Index(payload, frames[0].SHA256[:])] ^= 1
	after, index := sha1.Sum(piece), sha256.Sum256(payload[:m.IndexLength])
	torrent = bytes.Replace(torrent, before[:], after[:], 1)
	torrent = bytes.Replace(torrent, im.Metainfo.IndexSHA256[:], index[:], 1)
	if im.Metainfo, err = imagefmt.ParseMetainfo(torrent); err != nil {
		t.Fatal(err)
	}
	m.InfoHash, m.IndexSHA256 = hex.EncodeToString(im.Metainfo.InfoHash[:]), hex.EncodeToString(index[:])
	manifest, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for ext, b := range map[string][]byte{".payload": payload, ".torrent": torrent, ".json": manifest} {
		if err := os.WriteFile(base+ext, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRawHashesGuardTheDisk: pieces that are right for BitTorrent and wrong for the index end the run, unless --verify none.
func TestRawHashesGuardTheDisk(t *testing.T) {
	s := newServer(t, 0)
	im, err := deploytest.Make(s.dir, "img", 16*mib, imagefmt.Verbatim)
	if err != nil {
		t.Fatal(err)
	}
	forge(t, s.dir, "img", im)
	s.seed(t, "img", im, nil)
	for verify, want := range map[string]int{"write": cli.CodeVerify, "readback": cli.CodeVerify, "none": cli.CodeDone} {
		target := makeTarget(t, 16*mib)
		p := start(t, s, target, "--image", "img", "--node", verify, "--linger", "0s", "--verify", verify)
		if c := p.code(); c != want {
			t.Errorf("--verify %s: code %d, want %d: %s", verify, c, want, p.err.String())
		}
		out, err := exec.CommandContext(t.Context(), "sfdisk", "--json", target).Output()
		if parts := err == nil && strings.Contains(string(out), `"node"`); parts != (want == cli.CodeDone) {
			t.Errorf("--verify %s: the disk has partitions: %v", verify, parts)
		}
	}
}

// sectorsRead is how much has been read from a block device, in 512-byte sectors (Documentation/block/stat.rst).
func sectorsRead(t *testing.T, dev string) (n int64) {
	t.Helper()
	var skip int64
	stat := string(readFile(t, filepath.Join("/sys/class/block", filepath.Base(dev), "stat")))
	if _, err := fmt.Sscan(stat, &skip, &skip, &n); err != nil {
		t.Fatalf("%q: %v", stat, err)
	}
	return n
}

// TestReadBackAndReread: readback reads all that was written from the device, write does not; in the end the kernel knows the partitions.
func TestReadBackAndReread(t *testing.T) {
	s := newServer(t, 0)
	im := s.publish(t, "img", 16*mib, imagefmt.Packed, nil)
	for _, verify := range []string{"write", "readback"} {
		dev := looptest.Attach(t, makeTarget(t, 16*mib))
		before := sectorsRead(t, dev)
		p := start(t, s, dev, "--image", "img", "--node", verify, "--linger", "0s", "--verify", verify)
		if c := p.code(); c != cli.CodeDone {
			t.Fatalf("--verify %s: code %d: %s", verify, c, p.err.String())
		}
		n := 512 * (sectorsRead(t, dev) - before)
		if all := n >= im.Manifest.UsedBytes; all != (verify == "readback") {
			t.Errorf("--verify %s: %d bytes were read from the device, %d are in use", verify, n, im.Manifest.UsedBytes)
		}
		for _, part := range im.Manifest.Table.Partitions {
			if _, err := os.Stat(fmt.Sprintf("/sys/class/block/%sp%d", filepath.Base(dev), part.Number)); err != nil {
				t.Errorf("--verify %s: the kernel does not know a partition: %v", verify, err)
			}
		}
	}
}
