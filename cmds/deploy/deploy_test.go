package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/deploy/deploytest"
	"swarmboot/internal/event"
	"swarmboot/internal/looptest"
)

const mib = 1 << 20

// TestMain lets the test binary stand for deploy, so that every run is a process of its own.
//
// Everything runs in a mount namespace of its own: in the common one whatever makes another namespace meanwhile (ip netns exec
// does) takes a copy of the tests' mounts with it and keeps their devices busy.
func TestMain(m *testing.M) {
	if os.Getenv(workVariable) != "" {
		testscript.Main(m, map[string]func(){"deploy": main})
	}
	os.Exit(runInOwnMounts())
}

// workVariable names the folder of the whole run, to the tests in their own mount namespace.
const workVariable = "DEPLOY_TEST_WORK"

func runInOwnMounts() (code int) {
	work, err := os.MkdirTemp("", "deploy-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(work)
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), workVariable+"="+work)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tests in a mount namespace (needs root):", err)
		return 1
	}
	return 0
}

// process is a running deploy.
type process struct {
	*exec.Cmd
	out, err bytes.Buffer
}

func start(t *testing.T, s *testServer, target string, args ...string) *process {
	t.Helper()
	path, err := exec.LookPath("deploy")
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: exec.CommandContext(t.Context(), path, append([]string{"--server", s.URL, "--disk", target, "--listen", "127.0.0.1:0"}, args...)...)}
	p.Stdout, p.Stderr = &p.out, &p.err
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Process.Kill() }) //nolint:errcheck // it has mostly ended by then
	return p
}

// resident is the most memory that the process has had so far, in KiB; 0 when it has ended. (The rusage of a child
// counts what its parent had before exec.)
func (p *process) resident() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(b), "VmHWM:")
	var n int64
	fmt.Sscan(after, &n) //nolint:errcheck // 0 is then seen
	return n
}

func (p *process) code() int {
	p.Wait() //nolint:errcheck // the code is looked at
	return p.ProcessState.ExitCode()
}

func makeTarget(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "target")
	if err := deploytest.Target(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

func checkTarget(t *testing.T, im *deploytest.Image, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if off := im.Differs(b); off >= 0 {
		t.Errorf("%s: byte %d is wrong", path, off)
	}
	out, err := exec.CommandContext(t.Context(), "sgdisk", "-v", path).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "No problems found") {
		t.Errorf("sgdisk -v: %v\n%s", err, out)
	}
}

// TestTwoNodes deploys to two processes at once; the server's own seeder sends about one copy, the second node is fed by the first.
func TestTwoNodes(t *testing.T) {
	for _, layout := range []imagefmt.Layout{imagefmt.Packed, imagefmt.Verbatim} {
		s := newServer(t, 8*mib)
		im := s.publish(t, "img", 48*mib, layout, nil)
		var nodes []*process
		var targets []string
		for i := range 2 {
			targets = append(targets, makeTarget(t, 50*mib))
			nodes = append(nodes, start(t, s, targets[i], "--image", "img", "--json", "--verify", "readback", "--node", fmt.Sprintf("node%d", i), "--linger", "30s"))
		}
		var fromNodes int64
		resident := make([]int64, len(nodes))
		s.waitFor(t, "both nodes done", func() bool {
			for i, n := range nodes {
				resident[i] = max(resident[i], n.resident())
			}
			return s.last("node0").Phase.Ended() && s.last("node1").Phase.Ended()
		})
		for i, n := range nodes {
			if c := n.code(); c != cli.CodeDone {
				t.Fatalf("%s, node %d: code %d\n%s", layout, i, c, n.err.String())
			}
			last := n.lastReport(t)
			if last.Phase != event.PhaseDone || last.BytesDone != im.Manifest.UsedBytes || last.PiecesDone != im.Manifest.Pieces() {
				t.Errorf("%s, node %d ended with %+v", layout, i, last)
			}
			if p := s.last(fmt.Sprintf("node%d", i)); p.Phase != event.PhaseDone {
				t.Errorf("%s: the server last heard %s of node %d", layout, p.Phase, i)
			}
			fromNodes += last.FromNodes
			checkTarget(t, im, targets[i])
			if resident[i] == 0 || resident[i] > 128<<10 && !raced {
				t.Errorf("%s, node %d: %d KiB resident", layout, i, resident[i])
			}
			t.Logf("%s, node %d: %.1f s, %d KiB resident, %d bytes from nodes", layout, i, last.Seconds, resident[i], last.FromNodes)
		}
		if fromNodes < im.Manifest.PayloadLength/2 {
			t.Errorf("%s: only %d of %d bytes came from the other node", layout, fromNodes, im.Manifest.PayloadLength)
		}
	}
}

func (p *process) lastReport(t *testing.T) event.Progress {
	t.Helper()
	d := json.NewDecoder(&p.out)
	var last event.Progress
	for {
		var e event.Progress
		if err := d.Decode(&e); err == io.EOF {
			return last
		} else if err != nil {
			t.Fatalf("--json: %v", err)
		}
		last = e
	}
}

// waitFor returns when cond holds after some report.
func (s *testServer) waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	limit := time.After(2 * time.Minute)
	for !cond() {
		select {
		case <-s.heard:
		case <-limit:
			s.mu.Lock()
			defer s.mu.Unlock()
			t.Fatalf("%s: not within 2 minutes; the nodes said %+v", what, s.nodes)
		}
	}
}

// TestInterrupted sends SIGINT in the middle of the fetch.
func TestInterrupted(t *testing.T) {
	s := newServer(t, 1*mib)
	s.publish(t, "img", 48*mib, imagefmt.Verbatim, nil)
	target := makeTarget(t, 48*mib)
	p := start(t, s, target, "--image", "img", "--node", "n")
	s.waitFor(t, "some bytes", func() bool { l := s.last("n"); return l.Phase == event.PhaseFetch && l.BytesDone > 0 })
	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if c := p.code(); c != cli.CodeInterrupted {
		t.Errorf("code %d\n%s", c, p.err.String())
	}
	if l := s.last("n"); l.Phase != event.PhaseFailed || l.ExitCode != cli.CodeInterrupted {
		t.Errorf("the server last heard %+v", l)
	}
	if out, err := exec.CommandContext(t.Context(), "sfdisk", "--json", target).Output(); err == nil && strings.Contains(string(out), `"node"`) {
		t.Errorf("partitions are left:\n%s", out)
	}
}

// TestKilledAndRunAgain: a node that loses power in the middle has a disk without partitions, and the next run is as good as a first one.
func TestKilledAndRunAgain(t *testing.T) {
	// From the first server the fetch takes many times as long as a report comes after the one before it.
	slow, s := newServer(t, 1*mib/2), newServer(t, 0)
	slow.publish(t, "img", 24*mib, imagefmt.Packed, nil)
	im := s.publish(t, "img", 24*mib, imagefmt.Packed, nil)
	target := makeTarget(t, 24*mib)
	p := start(t, slow, target, "--image", "img", "--node", "n")
	slow.waitFor(t, "some bytes", func() bool { l := slow.last("n"); return l.Phase == event.PhaseFetch && l.BytesDone > 0 })
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.code()
	if out, err := exec.CommandContext(t.Context(), "sfdisk", "--json", target).Output(); err == nil && strings.Contains(string(out), `"node"`) {
		t.Errorf("partitions are left:\n%s", out)
	}
	p = start(t, s, target, "--image", "img", "--node", "n")
	if c := p.code(); c != cli.CodeDone {
		t.Fatalf("code %d\n%s", c, p.err.String())
	}
	checkTarget(t, im, target)
}

// TestDiskFull deploys to a sparse file on a tmpfs that is too small for it.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, 0) }) //nolint:errcheck // in a directory of its own
	s := newServer(t, 0)
	s.publish(t, "img", 32*mib, imagefmt.Packed, nil)
	target := filepath.Join(dir, "disk")
	p := start(t, s, target, "--image", "img", "--node", "n", "--create-size", "32M")
	if c := p.code(); c != cli.CodeIO {
		t.Errorf("code %d", c)
	}
	if msg := p.err.String(); !strings.Contains(msg, target) || !strings.Contains(msg, "offset") || !strings.Contains(msg, "no space left") {
		t.Errorf("the error does not name the file, the offset and the reason: %s", msg)
	}
	if l := s.last("n"); l.Phase != event.PhaseFailed || l.ExitCode != cli.CodeIO {
		t.Errorf("the server last heard %+v", l)
	}
}

// A node that is done and on which nobody depends goes on at once, long before its --linger is over.
func TestSeedsUntilReleased(t *testing.T) {
	s := newServer(t, 0)
	s.publish(t, "img", 16*mib, imagefmt.Packed, nil)
	p := start(t, s, makeTarget(t, 16*mib), "--image", "img", "--node", "n", "--linger", "10m")
	began := time.Now()
	if c := p.code(); c != cli.CodeDone {
		t.Fatalf("code %d\n%s", c, p.err.String())
	}
	if d := time.Since(began); d > 5*time.Minute {
		t.Errorf("nobody depends on the node, and it stayed for %s", d)
	}
}

// TestBlockDevice deploys to a loop device named by its path.
func TestBlockDevice(t *testing.T) {
	s := newServer(t, 0)
	im := s.publish(t, "img", 16*mib, imagefmt.Packed, nil)
	file := makeTarget(t, 20*mib)
	dev := looptest.Attach(t, file)
	p := start(t, s, dev, "--image", "img", "--node", "n", "--verify", "readback")
	if c := p.code(); c != cli.CodeDone {
		t.Fatalf("code %d\n%s", c, p.err.String())
	}
	if l := s.last("n"); l.Disk != dev || l.Phase != event.PhaseDone {
		t.Errorf("the server last heard %+v", l)
	}
	checkTarget(t, im, file)
}

// TestMountedDevice: a mounted disk is refused and not written to.
func TestMountedDevice(t *testing.T) {
	s := newServer(t, 0)
	s.publish(t, "img", 16*mib, imagefmt.Packed, nil)
	file := makeTarget(t, 20*mib)
	if out, err := exec.CommandContext(t.Context(), "mkfs.ext4", "-q", file).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dev, mnt := looptest.Attach(t, file), t.TempDir()
	if err := syscall.Mount(dev, mnt, "ext4", syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	p := start(t, s, dev, "--image", "img", "--node", "n")
	c := p.code()
	if err := syscall.Unmount(mnt, 0); err != nil {
		t.Error(err)
	}
	if c != cli.CodeDisk || !strings.Contains(p.err.String(), "mounted on "+mnt) {
		t.Errorf("code %d: %s", c, p.err.String())
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the disk was written to (%v)", err)
	}
}

// TestDeviceFails: writes that a device takes and loses later show at fsync, and that is no success.
func TestDeviceFails(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	file := filepath.Join(dir, "disk")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 40*mib); err != nil {
		t.Fatal(err)
	}
	dev := looptest.Attach(t, file)
	s := newServer(t, 0)
	s.publish(t, "img", 32*mib, imagefmt.Packed, nil)
	p := start(t, s, dev, "--image", "img", "--node", "n")
	if c := p.code(); c != cli.CodeIO || !strings.Contains(p.err.String(), dev) {
		t.Errorf("code %d: %s", c, p.err.String())
	}
	if l := s.last("n"); l.Phase != event.PhaseFailed || l.ExitCode != cli.CodeIO {
		t.Errorf("the server last heard %+v", l)
	}
}
