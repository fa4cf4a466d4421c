package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"swarmboot/internal/event"
	"swarmboot/internal/filetest"
)

// moments are the steps in which TestKilledAnywhere kills a deployment, with a layout, without one, and of an image without a table: 28
// together. Some are hit at several places.
var moments = map[string][]event.Phase{
	"layout": {event.PhaseWipe, event.PhasePartition, event.PhaseFetch, event.PhaseFetch, event.PhaseFetch, event.PhaseFetch, event.PhaseSync, event.PhaseVerify,
		event.PhaseVerify, event.PhaseMkfs, event.PhaseMkfs, event.PhaseGrow, event.PhaseIdentity, event.PhaseIdentity, event.PhaseTable},
	"disk": {event.PhaseWipe, event.PhasePartition, event.PhaseFetch, event.PhaseFetch, event.PhaseVerify, event.PhaseIdentity, event.PhaseIdentity,
		event.PhaseUUIDs, event.PhaseUUIDs, event.PhaseTable},
	"bare": {event.PhaseFetch, event.PhaseVerify, event.PhaseIdentity},
}

// killBoot is a byte of the image's boot code.
const killBoot = 0xfa

// killTries is how often a run that was already further than it should be is repeated, with half the delay.
const killTries = 25

// victim is a deployment that is killed again and again.
type victim struct {
	name   string
	args   []string
	disk   string
	reset  func(t *testing.T)              // makes the disk what it was
	listed func(t *testing.T) bool         // whether something of the image is in the table
	kept   func(t *testing.T, when string) // checks what is kept
	judge  func(t *testing.T, when string) // checks a disk that was deployed to
	took   map[event.Phase]time.Duration   // steps of a whole run
	bytes  int64                           // written by its fetch
}

// TestKilledAnywhere kills deploy in every step of its run that changes the disk, at random moments, 28 times. After every kill what is
// kept is there, byte for byte and in the table; if anything of the image is listed the disk is as after a whole run; and the next
// run ends well.
func TestKilledAnywhere(t *testing.T) {
	const seed = 20240817
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	total := 0
	for _, v := range []*victim{layoutVictim(t), diskVictim(t), bareVictim(t)} {
		v.reset(t)
		v.measure(t)
		late := 0
		for _, in := range moments[v.name] {
			late += v.killIn(t, in, rng.Float64())
			total++
		}
		t.Logf("%s: killed in %v, and %d times later", v.name, moments[v.name], late)
	}
	if total < 28 {
		t.Errorf("killed %d times", total)
	}
}

// killIn kills a run in a step, fraction of the way through it, and starts it again. It returns how many runs were further than that when they
// were killed; these are looked at, too.
func (v *victim) killIn(t *testing.T, in event.Phase, fraction float64) (late int) {
	t.Helper()
	for range killTries {
		v.reset(t)
		last, killed := v.run(t, in, fraction)
		when := fmt.Sprintf("%s: killed in %s", v.name, last.Phase)
		if killed {
			v.kept(t, when)
			if v.listed(t) {
				v.judge(t, when)
			} else if last.Phase != event.PhaseTable && filetest.Read(t, v.disk, 0, 1)[0] == killBoot {
				t.Errorf("%s: the image's boot code is there", when)
			}
		}
		ended := slices.ContainsFunc(last.Steps, func(s event.Step) bool { return s.Name == in })
		if !killed || last.Phase != in || ended {
			late++
			fraction /= 2
			continue
		}
		if last, killed := v.run(t, "", 0); killed || last.Phase != event.PhaseDone {
			t.Fatalf("%s, and again: ended with %+v", when, last)
		}
		v.kept(t, when+", and again")
		if !v.listed(t) {
			t.Errorf("%s, and again: nothing of the image is listed", when)
		}
		v.judge(t, when+", and again")
		if t.Failed() {
			t.FailNow()
		}
		return late
	}
	t.Fatalf("%s: %s was over before the kill, %d times", v.name, in, killTries)
	return late
}

// measure lets a run come to its end.
func (v *victim) measure(t *testing.T) {
	t.Helper()
	last, _ := v.run(t, "", 0)
	if last.Phase != event.PhaseDone {
		t.Fatalf("%s: ended with %+v", v.name, last)
	}
	v.judge(t, v.name)
	v.took = map[event.Phase]time.Duration{}
	for _, s := range last.Steps {
		v.took[s.Name] = time.Duration(s.Seconds * float64(time.Second))
	}
	v.bytes = last.BytesDone
	for _, in := range moments[v.name] {
		if _, ok := v.took[in]; !ok {
			t.Fatalf("%s: a run has the steps %v, no %s", v.name, last.Steps, in)
		}
	}
}

// run starts a deployment and kills it in a step, fraction of the way through it; the fetch goes by the bytes that the process has
// written, other steps by the time they took before. It returns the last report, and whether the process was killed.
func (v *victim) run(t *testing.T, in event.Phase, fraction float64) (last event.Progress, killed bool) {
	t.Helper()
	path, err := exec.LookPath("deploy")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{"--listen", "127.0.0.1:0", "--json", "--linger", "1s", "--verify", "readback"}, v.args...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	struck := make(chan struct{})
	close(struck)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	begun := false
	for lines.Scan() {
		if json.Unmarshal(lines.Bytes(), &last) != nil {
			break // cut off in the middle
		}
		if last.Phase == in && !begun {
			begun, struck = true, make(chan struct{})
			go func() {
				defer close(struck)
				v.wait(cmd.Process.Pid, in, fraction)
				cmd.Process.Kill() //nolint:errcheck // it may have ended
			}()
		}
	}
	<-struck
	cmd.Wait() //nolint:errcheck // how it ended is looked at
	killed = !cmd.ProcessState.Exited()
	if !killed && last.Phase != event.PhaseDone {
		t.Fatalf("%s: %s\n%s", v.name, last.Error, &errs)
	}
	return last, killed
}

// wait returns when the process has come so far, or has ended. It looks all the time: steps take a millisecond.
func (v *victim) wait(pid int, in event.Phase, fraction float64) {
	if in != event.PhaseFetch {
		for end := time.Now().Add(time.Duration(fraction * float64(v.took[in]))); time.Now().Before(end); {
		}
		return
	}
	first, ok := written(pid)
	for now := first; ok && now-first < int64(fraction*float64(v.bytes)); {
		now, ok = written(pid)
	}
}

// written is how many bytes a process has written, to disks and elsewhere.
func written(pid int) (n int64, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, false
	}
	_, after, _ := strings.Cut(string(b), "wchar:")
	_, err = fmt.Sscan(after, &n)
	return n, err == nil && n > 0
}

// killSystem makes an image of a disk with boot code, an EFI system partition of random bytes and a root, with the host's tools and swarmboot's own, in the
// directory of a server, and returns the SHA-256 of a large file in the root.
func killSystem(t *testing.T, dir string) (esp []byte, sum string) {
	t.Helper()
	work := t.TempDir()
	big := make([]byte, 20*mib)
	rand.NewChaCha8([32]byte{5}).Read(big) //nolint:errcheck // never fails
	esp = big[7*mib : 10*mib]
	writeFiles(t, work, map[string]string{"tree/usr/bin/sh": "", "tree/etc/hostname": "image\n", "tree/etc/machine-id": "00112233445566778899aabbccddeeff\n",
		"tree/etc/fstab": "UUID=" + rootID + " / ext4 defaults 0 1\n", "tree/big": string(big), "esp": string(esp)})
	root, disk := sparse(t, 40*mib), sparse(t, 48*mib)
	tool(t, "mkfs.ext4", "-q", "-U", rootID, "-d", filepath.Join(work, "tree"), "-E", "root_owner=0:0", root)
	tool(t, "sgdisk", "--clear", "--new=1:1M:+3M", "--typecode=1:ef00", "--change-name=1:esp", "--new=2:4M:+40M", "--typecode=2:8304", "--change-name=2:root", disk)
	tool(t, "dd", "if="+filepath.Join(work, "esp"), "of="+disk, "bs=1M", "seek=1", "conv=notrunc", "status=none")
	tool(t, "dd", "if="+root, "of="+disk, "bs=1M", "seek=4", "conv=notrunc,sparse", "status=none")
	f, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{killBoot}, 440), 0); err != nil {
		t.Fatal(err)
	}
	tool(t, swarmbootProgram(t), "image", "create", "--root", "2", "--cmdline", "root=UUID="+rootID, disk, filepath.Join(dir, "img"))
	return esp, strings.Fields(tool(t, "sha256sum", filepath.Join(work, "tree/big")))[0]
}
