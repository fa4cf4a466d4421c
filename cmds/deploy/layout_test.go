package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/deploy/deploytest"
	"swarmboot/internal/event"
	"swarmboot/internal/filetest"
	"swarmboot/internal/looptest"
)

// What an old disk has on it: a partition that nobody wants any more, and one with data that stays.
const (
	oldStart, oldSize   = 1, 8  // MiB
	dataStart, dataSize = 12, 6 // MiB
	keptDisk            = 64 * mib
	dataUUID            = "7D3A0001-0000-4000-8000-00000000DA7A"
)

// keepingLayout keeps the partition "data" of a disk, puts the image's two partitions beside it, and swap.
func keepingLayout(device string) string {
	return fmt.Sprintf(`{"candidates": [{"name": "one", "disks": [{"name": "disk", "select": [%q], "wipe": "discard", "partitions": [
		{"name": "esp", "image": "1", "type": "esp"},
		{"name": "data", "keep": "yes"},
		{"name": "root", "image": "2"},
		{"name": "swap", "size": "8M", "fs": "swap", "fsLabel": "sw"}]}]}]}`, device)
}

// oldDisk makes the disk as sgdisk leaves it, with boot code, an old file system and random data, and returns the data.
func oldDisk(t *testing.T, device string) []byte {
	t.Helper()
	junk := make([]byte, keptDisk)
	rng := rand.NewChaCha8([32]byte{7})
	rng.Read(junk) //nolint:errcheck // never fails
	clear(junk[:mib])
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(junk, 0); err != nil {
		t.Fatal(err)
	}
	tool(t, "sgdisk", "--clear", fmt.Sprintf("--new=1:%dM:+%dM", oldStart, oldSize), "--change-name=1:old",
		fmt.Sprintf("--new=3:%dM:+%dM", dataStart, dataSize), "--change-name=3:data", "--partition-guid=3:"+dataUUID, device)
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xeb}, 440), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	return filetest.Read(t, device, dataStart*mib, dataSize*mib)
}

// listed is what sfdisk says of the partitions of a disk, by UUID.
type listed map[string]struct {
	Node, Type, UUID, Name string
	Start, Size            int64
}

func sfdisk(t *testing.T, device string) listed {
	t.Helper()
	var errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "sfdisk", "--json", device)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("sfdisk: %v\n%s", err, &errs)
	}
	if strings.Contains(errs.String(), "primary GPT table is corrupt") {
		t.Errorf("sfdisk: %s", &errs)
	}
	var v struct {
		PartitionTable struct {
			Partitions []struct {
				Node, Type, UUID, Name string
				Start, Size            int64
			}
		}
	}
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatal(err)
	}
	all := listed{}
	for _, p := range v.PartitionTable.Partitions {
		all[p.UUID] = p
	}
	return all
}

// checkKept compares what is kept with what it was.
func checkKept(t *testing.T, when, device string, data []byte, before listed) {
	t.Helper()
	if got := sfdisk(t, device)[dataUUID]; got != before[dataUUID] {
		t.Errorf("%s: the kept partition is %+v, was %+v", when, got, before[dataUUID])
	}
	if !bytes.Equal(filetest.Read(t, device, dataStart*mib, dataSize*mib), data) {
		t.Errorf("%s: the kept bytes have changed", when)
	}
}

// checkPlaced looks for the image's partitions where the table says, byte for byte.
func checkPlaced(t *testing.T, when, device string, im *deploytest.Image) {
	t.Helper()
	if out := tool(t, "sgdisk", "-v", device); !strings.Contains(out, "No problems found") {
		t.Errorf("%s: %s", when, out)
	}
	all := sfdisk(t, device)
	if len(all) != 4 {
		t.Errorf("%s: %d partitions, want 4: %+v", when, len(all), all)
	}
	for _, p := range im.Manifest.Table.Partitions {
		got, ok := all[p.UUID]
		if !ok {
			t.Errorf("%s: no partition with the UUID of the image's %d", when, p.Number)
			continue
		}
		for _, e := range im.Used {
			lo, hi := max(e.Off, p.Start), min(e.End(), p.Start+p.Length)
			if lo < hi && !bytes.Equal(filetest.Read(t, device, got.Start*512+lo-p.Start, hi-lo), im.Disk[lo:hi]) {
				t.Errorf("%s: bytes %d to %d of the image are not in %s", when, lo, hi, got.Node)
			}
		}
	}
	for _, p := range all {
		if p.Name == "swap" {
			out := tool(t, "blkid", "-p", "-O", fmt.Sprint(p.Start*512), "-S", fmt.Sprint(p.Size*512), device)
			if !strings.Contains(out, `LABEL="sw"`) || !strings.Contains(out, `TYPE="swap"`) {
				t.Errorf("%s: blkid: %s", when, out)
			}
		}
	}
}

func layoutFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "layout.json")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// startLayout runs deploy with a layout instead of a disk.
func startLayout(t *testing.T, s *testServer, layout string, args ...string) *process {
	t.Helper()
	path, err := exec.LookPath("deploy")
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: exec.CommandContext(t.Context(), path, append([]string{"--server", s.URL, "--layout", layout, "--image", "img", "--node", "n", "--listen", "127.0.0.1:0"}, args...)...)}
	p.Stdout, p.Stderr = &p.out, &p.err
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Process.Kill() }) //nolint:errcheck // it has mostly ended by then
	return p
}

// A layout that the server has: the image's partitions go to other places, what is kept stays, and is read back.
func TestLayout(t *testing.T) {
	for _, format := range []imagefmt.Layout{imagefmt.Packed, imagefmt.Verbatim} {
		s := newServer(t, 0)
		im := s.publish(t, "img", 24*mib, format, nil)
		dev := looptest.Attach(t, makeTarget(t, keptDisk))
		data := oldDisk(t, dev)
		before := sfdisk(t, dev)
		s.mu.Lock()
		s.layouts["keep"] = keepingLayout(dev)
		s.mu.Unlock()
		p := startLayout(t, s, "keep", "--verify", "readback", "--json")
		if c := p.code(); c != cli.CodeDone {
			t.Fatalf("%s: code %d\n%s", format, c, p.err.String())
		}
		last := p.lastReport(t)
		// The image has no file systems: nobody can put the swap area into its fstab.
		if last.Disk != dev || last.Phase != event.PhaseDone || len(last.Warnings) != 1 || !strings.Contains(last.Warnings[0], "fstab") {
			t.Errorf("%s: ended with %+v", format, last)
		}
		checkKept(t, string(format), dev, data, before)
		checkPlaced(t, string(format), dev, im)
	}
}

// --plan says what would be done and writes nothing; the server hears that it was a dry run.
func TestPlan(t *testing.T) {
	s := newServer(t, 0)
	s.publish(t, "img", 24*mib, imagefmt.Packed, nil)
	dev := looptest.Attach(t, makeTarget(t, keptDisk))
	oldDisk(t, dev)
	before := filetest.Read(t, dev, 0, keptDisk)
	for _, c := range []struct {
		args  []string
		words []string
	}{
		{[]string{"--layout", layoutFile(t, keepingLayout(dev))}, []string{dev, "data", "swap", "root"}},
		{[]string{"--disk", dev}, []string{dev, "root", `lost: partition 3 "data"`}},
	} {
		path, err := exec.LookPath("deploy")
		if err != nil {
			t.Fatal(err)
		}
		args := append([]string{"--server", s.URL, "--image", "img", "--node", "n", "--plan"}, c.args...)
		out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, w := range c.words {
			if !strings.Contains(string(out), w) {
				t.Errorf("%q does not say %q:\n%s", c.args, w, out)
			}
		}
		if l := s.last("n"); l.Phase != event.PhasePlan {
			t.Errorf("the server last heard %+v", l)
		}
		if !bytes.Equal(filetest.Read(t, dev, 0, keptDisk), before) {
			t.Error("the disk was written to")
		}
	}
}

// A payload that is wrong fails the run: the disk lists what is kept, as it was, and nothing else.
func TestLayoutFails(t *testing.T) {
	s := newServer(t, 0)
	s.publish(t, "img", 24*mib, imagefmt.Packed, corrupt)
	dev := looptest.Attach(t, makeTarget(t, keptDisk))
	data := oldDisk(t, dev)
	before := sfdisk(t, dev)
	p := startLayout(t, s, layoutFile(t, keepingLayout(dev)))
	if c := p.code(); c != cli.CodeVerify {
		t.Errorf("code %d\n%s", c, p.err.String())
	}
	checkKept(t, "after the failure", dev, data, before)
	if all := sfdisk(t, dev); len(all) != 1 {
		t.Errorf("more than the kept partition is listed: %+v", all)
	}
	if b := filetest.Read(t, dev, 0, 440); len(bytes.Trim(b, "\x00")) > 0 {
		t.Error("there is boot code")
	}
}

// What cannot be done is refused before the first write, with the exit code that says why.
func TestLayoutRefused(t *testing.T) {
	s := newServer(t, 0)
	s.publish(t, "img", 24*mib, imagefmt.Packed, nil)
	dev := looptest.Attach(t, makeTarget(t, keptDisk))
	oldDisk(t, dev)
	before := filetest.Read(t, dev, 0, keptDisk)
	file := func(text string) string { return layoutFile(t, text) }
	for _, c := range []struct {
		layout string
		args   []string
		code   int
		word   string
	}{
		{"nosuch", nil, cli.CodeUsage, "no layout of this name"},
		{"/nonexistent.json", nil, cli.CodeUsage, "no such file"},
		{file(`{"candidates": [{"name": "x", "dsks": []}]}`), nil, cli.CodeUsage, "dsks"},
		{file(strings.Replace(keepingLayout(dev), `"keep": "yes"`, `"keep": "yes", "label": "gone"`, 1)), nil, cli.CodeDisk, "gone"},
		{file(keepingLayout("/dev/nosuchdisk")), nil, cli.CodeDisk, "nosuchdisk"},
		{file(strings.Replace(keepingLayout(dev), `"8M"`, `"80M"`, 1)), nil, cli.CodeTooSmall, dev},
		{file(keepingLayout(dev)), []string{"--disk", dev}, cli.CodeUsage, "disk and layout"},
		{file(keepingLayout(dev)), []string{"--then", "kexec", "--image", "other"}, cli.CodeUsage, "no image"},
	} {
		p := startLayout(t, s, c.layout, append([]string{"--patience", "1s"}, c.args...)...)
		if got := p.code(); got != c.code || !strings.Contains(p.err.String(), c.word) {
			t.Errorf("%s: code %d, want %d and %q\n%s", c.layout, got, c.code, c.word, p.err.String())
		}
		if !bytes.Equal(filetest.Read(t, dev, 0, keptDisk), before) {
			t.Fatalf("%s: the disk was written to", c.layout)
		}
	}
}
