// Package cuts cuts the power of machines at random moments while they are deployed: what their disks had taken but not flushed is there,
// gone, or there in part. The host's tools look at the disks after each cut, and after a run that goes on where the last one was cut off.
//
// CUTS says how often each test cuts; SEED gives other moments.
package cuts

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"swarmboot/qemu-tests/lab"
	"swarmboot/qemu-tests/scenario"
)

const (
	mib = int64(1) << 20

	// How long a step takes in emulation, about: moments are chosen from it.
	fetchTime = 1300 * time.Millisecond
	stepTime  = 300 * time.Millisecond

	runLimit = 15 * time.Minute // of one machine that hangs
	tries    = 6                // to cut a run before it has ended
	goOn     = 3                // cuts between runs that come to their end
)

// eager has the kernel write to the disk all the time, and not only when it must: there are always writes under way.
const eager = "sysctl.vm.dirty_background_bytes=131072 sysctl.vm.dirty_writeback_centisecs=5 sysctl.vm.dirty_expire_centisecs=5"

// fromEnv is a number from the environment.
func fromEnv(t *testing.T, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s=%s: want a number", name, s)
	}
	return n
}

// plant is a machine with disks that is deployed again and again.
type plant struct {
	*scenario.Cluster
	name  string
	words string // for the kernel command line
	disks []*target
	im    *image
	rng   *rand.Rand
	boots int
	where map[string]int // how often each step was cut
}

// newPlant starts a server of the image. Its MAC address says which profile a machine gets.
func newPlant(t *testing.T, name, words string, files map[string]string) *plant {
	t.Helper()
	if testing.Short() {
		t.Skip("starts virtual machines")
	}
	f, err := scenario.Find()
	if err != nil {
		t.Fatal(err)
	}
	seed := fromEnv(t, "SEED", 1)
	t.Logf("SEED=%d", seed)
	logs := filepath.Join(f.Build, "test", t.Name())
	if err := os.RemoveAll(logs); err != nil {
		t.Fatal(err)
	}
	p := &plant{name: name, words: words + " " + eager + " swarmboot.then=poweroff swarmboot.onerror=poweroff swarmboot.verify=readback",
		rng: rand.New(rand.NewPCG(uint64(seed), uint64(len(name)))), where: map[string]int{}}
	images := t.TempDir()
	p.im = makeImage(t, f, images)
	for path, text := range files {
		path = filepath.Join(images, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p.Cluster = f.StartFor(t.Context(), t, logs, images)
	return p
}

// start boots the machine. With cuttable disks it works on copies, and QEMU notes what is written.
func (p *plant) start(ctx context.Context, t *testing.T, cuttable bool) *lab.VM {
	t.Helper()
	p.boots++
	m := lab.Machine{Name: fmt.Sprintf("%s-%02d", p.name, p.boots), MAC: "52:54:00:5b:00:77", Memory: 400}
	for _, d := range p.disks {
		disk := lab.Disk{Path: d.path, Format: "raw", Bus: "virtio", Serial: d.serial}
		if cuttable {
			disk.Path, disk.Log = d.path+".now", d.path+".log"
			tool(t, "cp", "--sparse=always", d.path, disk.Path)
			if err := os.WriteFile(disk.Log, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		m.Disks = append(m.Disks, disk)
	}
	vm, err := p.BootDirectly(ctx, m, p.words)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

var (
	stepLine = regexp.MustCompile(`^(manifest|select|wipe|partition|raid|fetch|sync|verify|mkfs|reread|seed|grow|identity|uuids|table|load)$`)
	doneLine = regexp.MustCompile(`^swarmboot: .*deployed; then: poweroff`)

	errorLine = regexp.MustCompile(`^swarmboot: .*error: `)
)

// step is the last one that a machine has begun.
func step(vm *lab.VM) string {
	last := "boot"
	for _, l := range vm.Console.Lines() {
		if stepLine.MatchString(l.Text) {
			last = l.Text
		}
		if doneLine.MatchString(l.Text) {
			return "done"
		}
	}
	return last
}

// cut runs the machine until a random moment in a step, or soon after it, and cuts its power. It says in which step that was.
func (p *plant) cut(t *testing.T, in string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	most := stepTime
	if in == "fetch" {
		most = fetchTime
	}
	for range tries {
		wait := time.Duration(p.rng.Int64N(int64(most)))
		vm := p.start(ctx, t, true)
		_, err := vm.Console.Wait(ctx, regexp.MustCompile("^"+in+"$"))
		if err == nil {
			select {
			case <-time.After(wait): // this is the random moment
			case <-vm.Done():
			}
		}
		ended := step(vm) == "done"
		vm.Kill()
		if err != nil && !errors.Is(err, lab.ErrConsoleClosed) {
			t.Fatal(err)
		}
		where := step(vm)
		_, failed := vm.Console.Find(errorLine)
		if where == "boot" || failed || err != nil && !ended {
			t.Fatalf("%s: no cut in step %s:\n%s", vm.Name, in, lab.Tail(vm.Log))
		}
		if ended {
			most /= 2 // the run was over
			p.becomes(t, nil)
			continue
		}
		lost := p.becomes(t, p.rng)
		t.Logf("cut %s after %s in %s, in %s: %s", p.name, wait.Round(time.Millisecond), in, where, lost)
		p.where[where]++
		return where
	}
	t.Fatalf("step %s: the run was over before the cut, %d times", in, tries)
	return ""
}

// becomes makes the disks what they are after a power cut, or, without rng, after a machine that has written all it had.
func (p *plant) becomes(t *testing.T, rng *rand.Rand) string {
	t.Helper()
	said := ""
	for _, d := range p.disks {
		now, log := d.path+".now", d.path+".log"
		var cut lab.PowerCut
		err := lab.ErrLogHole
		if rng != nil {
			cut, err = lab.CutPower(d.path, log, 512, rng)
		}
		switch {
		case errors.Is(err, lab.ErrLogHole):
			if err := os.Rename(now, d.path); err != nil {
				t.Fatal(err)
			}
			said += " nothing lost;"
		case err != nil:
			t.Fatal(err)
		default:
			said += fmt.Sprintf(" %d writes, %d flushes; of %d open writes %d lost, %d torn;", cut.Writes, cut.Flushes, cut.Open, cut.Lost, cut.Torn)
		}
		_ = os.Remove(now)
		_ = os.Remove(log)
	}
	return said
}

// finish runs the machine to its end.
func (p *plant) finish(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	vm := p.start(ctx, t, false)
	defer vm.Stop()
	select {
	case <-vm.Done():
	case <-ctx.Done():
	}
	if step(vm) != "done" {
		t.Fatalf("%s: the run did not end well:\n%s", vm.Name, lab.Tail(vm.Log))
	}
}

// torture cuts the power in each of the steps, the first CUTS of them, and lets every few cuts, and at last, a run come to its end. After a cut
// a partition of the image is not in the table, has no signature of a file system or array, or is as after a run that has ended well.
func (p *plant) torture(t *testing.T, steps []string, judge func(t *testing.T, when string, whole bool)) {
	t.Helper()
	n := fromEnv(t, "CUTS", 1)
	for len(steps) < n {
		steps = append(steps, steps[p.rng.IntN(len(steps))])
	}
	check := func(when string, whole bool) {
		for _, d := range p.disks {
			d.checkKept(t, when)
			if !strings.HasSuffix(when, " table") { // all is whole by then, and boot code and table are written at once
				d.checkBootCode(t, when)
			}
		}
		judge(t, when, whole)
		if t.Failed() {
			p.keepDisks(t)
			t.FailNow()
		}
	}
	for i, in := range steps[:n] {
		where := p.cut(t, in)
		check("cut in "+where, false)
		if i%goOn == goOn-1 || i == n-1 {
			p.finish(t)
			check("run to its end after a cut in "+where, true)
		}
	}
	t.Logf("%s: %d cuts, in steps %v, %d machines started", p.name, n, p.where, p.boots)
}

// keepDisks saves the disks for who looks for the reason.
func (p *plant) keepDisks(t *testing.T) {
	t.Helper()
	for _, d := range p.disks {
		to := filepath.Join(p.Dir, filepath.Base(d.path)+".failed")
		tool(t, "cp", "--sparse=always", d.path, to)
		t.Log("the disk is kept as ", to)
	}
}

// shuffled brings steps into an order of the seed's.
func (p *plant) shuffled(steps ...string) []string {
	out := slices.Clone(steps)
	p.rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}
