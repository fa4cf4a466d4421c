package scenario

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/event"
	"swarmboot/internal/filetest"
	"swarmboot/internal/web"
	"swarmboot/qemu-tests/lab"
)

var (
	files  *Files
	images string // directory with the image; tests only read it
)

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("scenario: the machine tests are left out with -short")
		os.Exit(0)
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := lab.OwnTemp()
	defer os.RemoveAll(dir)
	if err == nil {
		files, err = Find()
	}
	if err == nil {
		images = filepath.Join(dir, "images")
		err = files.CreateImage(context.Background(), images, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// logDir is where a test's logs and disks go; logs stay, disks do not.
func logDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(files.Build, "test", t.Name())
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		disks, _ := filepath.Glob(filepath.Join(dir, "*.raw"))
		more, _ := filepath.Glob(filepath.Join(dir, "*.qcow2"))
		for _, d := range slices.Concat(disks, more) {
			_ = os.Remove(d)
		}
	})
	return dir
}

// limit is for a test that hangs: each takes a few minutes beside others.
const limit = 15 * time.Minute

// shared has a folder of the test's own serve the image.
func shared(t *testing.T, folder string) string {
	t.Helper()
	if err := Share(images, folder); err != nil {
		t.Fatal(err)
	}
	return folder
}

// oneNode boots a machine with one disk, serves it with args and waits until the server knows how it ended.
func oneNode(ctx context.Context, t *testing.T, c *Cluster, s Spec) (*Node, web.Node) {
	t.Helper()
	n, err := c.Boot(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	status, err := c.WaitNode(ctx, n, func(w web.Node) bool { return w.Phase.Ended() })
	if err != nil {
		t.Fatal(err)
	}
	return n, status
}

// Scenario 1: two machines with blank disks boot from the network, are deployed through the swarm and start the system.
// It runs before all tests that run side by side: the two are meant to fetch at the same time.
func TestTwoMachines(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	c := files.StartFor(ctx, t, logDir(t), shared(t, t.TempDir()))
	stop, err := c.StartSwitch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	outcomes, err := c.DeployAll(ctx, TwoNodes(), func(_ []*Outcome, fresh map[*Node][]Moment) {
		for n, moments := range fresh {
			for _, m := range moments {
				t.Logf("%s %5.1f s  %s", n.Name, m.At.Seconds(), m.What)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	image, err := c.Image(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var received, fromNodes, uploaded int64
	for _, o := range outcomes {
		if err := files.Check(o.Report); err != nil {
			t.Errorf("%s: %v", o.Node.Name, err)
		}
		s := o.Status
		if s.Phase != event.PhaseDone || s.PiecesDone != s.PiecesTotal || s.PiecesTotal == 0 || s.BytesDone != s.BytesTotal {
			t.Errorf("%s: phase %s, %d of %d pieces, %d of %d bytes", o.Node.Name, s.Phase, s.PiecesDone, s.PiecesTotal, s.BytesDone, s.BytesTotal)
		}
		t.Logf("%s: %d bytes from the server, %d from nodes, %d uploaded; steps %v", o.Node.Name, s.FromServer, s.FromNodes, s.Uploaded, s.Steps)
		received += s.FromServer + s.FromNodes
		fromNodes += s.FromNodes
		uploaded += s.Uploaded
	}
	if fromNodes == 0 || uploaded == 0 {
		t.Errorf("nodes received %d bytes from each other and uploaded %d: want both above 0", fromNodes, uploaded)
	}
	if received < 2*image.PayloadLength*9/10 {
		t.Errorf("the two nodes received %d bytes, the payload has %d", received, image.PayloadLength)
	}
	if image.Uploaded >= 2*image.PayloadLength {
		t.Errorf("the server uploaded %d bytes, as much as without a swarm (payload %d)", image.Uploaded, image.PayloadLength)
	}
	t.Logf("payload %d bytes, server uploaded %d", image.PayloadLength, image.Uploaded)

	// The second disk is raw: foreign tools look at the table that was written to its real size.
	raw := outcomes[1].Node
	raw.VM.Stop()
	checkTable(ctx, t, raw.Disk)
	checkESP(t, raw.Disk)
	for _, o := range outcomes {
		checkGrowStep(t, o.Status)
	}
	checkGrown(ctx, t, raw)
	checkSwitch(t, outcomes[0].Status.Switch, "tap0")
	checkSwitch(t, outcomes[1].Status.Switch, "tap1")
	if a, b := outcomes[0].Status.Switch.ID, outcomes[1].Status.Switch.ID; a != b {
		t.Errorf("one switch is %s and %s", a, b)
	}
}

// checkSwitch looks whether the server knows at which port of the switch a machine is. The machines' ports had their carriers long before the
// nodes' kernels started, so that the switch spoke because the nodes did.
func checkSwitch(t *testing.T, got event.Switch, port string) {
	t.Helper()
	if got.Name != SwitchName || got.Port != port || !strings.HasPrefix(got.ID, "mac:") {
		t.Errorf("at switch %+v, want port %s of %s", got, port, SwitchName)
	}
}

// checkGrowStep looks whether a node has grown its file system and had nothing to complain of.
func checkGrowStep(t *testing.T, w web.Node) {
	t.Helper()
	if !slices.ContainsFunc(w.Steps, func(s event.Step) bool { return s.Name == event.PhaseGrow }) || len(w.Warnings) > 0 {
		t.Errorf("%s: steps %v, warnings %q; want a step grow without a warning", w.Node, w.Steps, w.Warnings)
	}
}

// checkGrown: the root partition goes up to where the backup GPT needs its place, its file system to the end of the partition.
func checkGrown(ctx context.Context, t *testing.T, n *Node) {
	t.Helper()
	const start = 65 << 20
	end := n.Size - 1<<20
	if got := 512 * (1 + number(ctx, t, `Last sector: (\d+)`, "sgdisk", "--info=2", n.Disk)); got != end {
		t.Errorf("the root partition ends at byte %d, want %d", got, end)
	}
	at := fmt.Sprintf("%s?offset=%d", n.Disk, start)
	size := number(ctx, t, `Block count:\s+(\d+)`, "dumpe2fs", "-h", at) * number(ctx, t, `Block size:\s+(\d+)`, "dumpe2fs", "-h", at)
	if size != end-start {
		t.Errorf("the root file system has %d bytes, its partition %d", size, end-start)
	}
}

// number finds a number in what a foreign tool says.
func number(ctx context.Context, t *testing.T, pattern, name string, args ...string) int64 {
	t.Helper()
	out, err := exec.CommandContext(ctx, name, args...).Output()
	m := regexp.MustCompile(pattern).FindSubmatch(out)
	if err != nil || m == nil {
		t.Fatalf("%s %q: %v: no %s in:\n%s", name, args, err, pattern, out)
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// checkTable lets sgdisk judge both GPTs of a disk.
func checkTable(ctx context.Context, t *testing.T, disk string) {
	t.Helper()
	out, err := exec.CommandContext(ctx, "sgdisk", "--verify", disk).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "No problems found") {
		t.Errorf("sgdisk --verify: %v: %s", err, out)
	}
	out, err = exec.CommandContext(ctx, "sgdisk", "--info=2", disk).CombinedOutput()
	if err != nil || !strings.Contains(strings.ToLower(string(out)), "unique guid: "+files.RootPARTUUID) {
		t.Errorf("sgdisk --info=2: %v: %s", err, out)
	}
}

// checkESP compares the FAT's first 64 KiB, which hold its boot sector and first FAT; the deployed system does not mount it.
func checkESP(t *testing.T, disk string) {
	t.Helper()
	want, got := filetest.Read(t, files.Disk, 1<<20, 64<<10), filetest.Read(t, disk, 1<<20, 64<<10)
	if !slices.Equal(want, got) {
		t.Error("the start of the ESP differs from the imaged disk's")
	}
}

// One machine on a disk controller and a card of another kind, with every hash read back from the disk.
func TestReadBack(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	dir := logDir(t)
	c := files.StartFor(ctx, t, dir, shared(t, t.TempDir()), "--verify", "readback", "--then", "poweroff")
	n, err := c.Boot(ctx, Spec{Name: "node", Memory: 512, Chipset: "q35", NIC: "e1000e", Bus: "ahci", Format: "raw", Size: 4 << 30})
	if err != nil {
		t.Fatal(err)
	}
	status, err := c.WaitNode(ctx, n, func(w web.Node) bool { return w.Phase.Ended() })
	if err != nil {
		t.Fatal(err)
	}
	if status.Phase != event.PhaseDone {
		t.Fatalf("phase %s: %s", status.Phase, status.Error)
	}
	if !slices.ContainsFunc(status.Steps, func(s event.Step) bool { return s.Name == event.PhaseVerify }) {
		t.Errorf("no step verify in %v", status.Steps)
	}
	select {
	case <-n.VM.Done():
	case <-ctx.Done():
		t.Fatalf("the node did not power off; console: %s", n.VM.Log)
	}
	// The system has not run: its file systems must be as they were imaged, the root one larger.
	checkTable(ctx, t, n.Disk)
	checkGrowStep(t, status)
	checkGrown(ctx, t, n)
	root := filepath.Join(dir, "root.raw")
	if out, err := exec.CommandContext(ctx, "dd", "if="+n.Disk, "of="+root, "bs=1M", "skip=65", "conv=sparse", "status=none").CombinedOutput(); err != nil {
		t.Fatalf("dd: %v: %s", err, out)
	}
	if out, err := exec.CommandContext(ctx, "e2fsck", "-fn", root).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v: %s", err, out)
	}
	dump := exec.CommandContext(ctx, "debugfs", "-R", "cat /usr/share/swarmboot-test/known", root)
	known, err := dump.Output()
	if sum := sha256.Sum256(known); err != nil || hex.EncodeToString(sum[:]) != files.KnownSHA256 {
		t.Errorf("the known file on the disk (%v): SHA-256 %x, want %s", err, sum, files.KnownSHA256)
	}
}

// usedDisk makes a disk file full of data that must not change.
func usedDisk(t *testing.T, dir string, size int64) string {
	t.Helper()
	path := filepath.Join(dir, "used.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.CopyN(f, rand.NewChaCha8([32]byte{2}), size); err != nil {
		t.Fatal(err)
	}
	return path
}

func sum(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// refused deploys to a disk that must be refused before the first write.
func refused(t *testing.T, size int64, code int, words []string, args ...string) {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	dir := logDir(t)
	disk := usedDisk(t, dir, size)
	before := sum(t, disk)
	c := files.StartFor(ctx, t, dir, shared(t, t.TempDir()), args...)
	n, status := oneNode(ctx, t, c, Spec{Name: "node", Memory: 512, NIC: "virtio-net-pci", Bus: "virtio", Format: "raw", Disk: disk})
	if status.Phase != event.PhaseFailed || status.ExitCode != code {
		t.Errorf("phase %s, exit code %d (%s), want failed with %d", status.Phase, status.ExitCode, status.Error, code)
	}
	for _, s := range status.Steps {
		if s.Name == event.PhaseWipe || s.Name == event.PhasePartition || s.Name == event.PhaseFetch {
			t.Errorf("step %s was reached", s.Name)
		}
	}
	for _, w := range words {
		if !strings.Contains(status.Error, w) {
			t.Errorf("the server's error %q does not say %q", status.Error, w)
		}
		if _, err := n.VM.Console.Wait(ctx, regexp.MustCompile(regexp.QuoteMeta(w))); err != nil {
			t.Error(err)
		}
	}
	n.VM.Stop()
	if after := sum(t, disk); after != before {
		t.Errorf("the disk has changed: SHA-256 was %s, is %s", before, after)
	}
}

// Scenario 2: no disk matches. The error lists what is there.
func TestNoDiskMatches(t *testing.T) {
	refused(t, 64<<20, cli.CodeDisk, []string{"serial=NOSUCH", "SB-NODE"}, "--disk", "serial=NOSUCH")
}

// Scenario 3: the disk is too small for the image.
func TestDiskTooSmall(t *testing.T) {
	refused(t, 512<<20, cli.CodeTooSmall, []string{"too small"})
}

// Scenario 4: a piece of the payload is damaged after the server has checked it. It is never written as good.
func TestCorruptPayload(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	dir := logDir(t)
	own := filepath.Join(dir, "images")
	if err := os.CopyFS(own, os.DirFS(images)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(own) })
	c := files.StartFor(ctx, t, dir, own)
	frames := damage(t, filepath.Join(own, ImageName))
	n, status := oneNode(ctx, t, c, Spec{Name: "node", Memory: 512, NIC: "virtio-net-pci", Bus: "virtio", Format: "raw", Size: 4 << 30})
	if status.Phase != event.PhaseFailed || status.ExitCode != cli.CodeVerify {
		t.Errorf("phase %s, exit code %d (%s), want failed with %d", status.Phase, status.ExitCode, status.Error, cli.CodeVerify)
	}
	if status.PiecesDone >= status.PiecesTotal || status.HashFailures == 0 {
		t.Errorf("%d of %d pieces, %d hash failures", status.PiecesDone, status.PiecesTotal, status.HashFailures)
	}
	if _, err := n.VM.Console.Wait(ctx, regexp.MustCompile(regexp.QuoteMeta(status.Error))); err != nil {
		t.Error(err)
	}
	n.VM.Stop()
	for _, l := range n.VM.Console.Lines() {
		if reportLine.MatchString(l.Text) {
			t.Error("the node started the damaged system")
		}
	}
	// The disk was blank: what the damaged piece would have written is still zero.
	for _, f := range frames {
		for _, e := range f.Extents {
			b := filetest.Read(t, n.Disk, e.Off, int(e.Len))
			if slices.ContainsFunc(b, func(x byte) bool { return x != 0 }) {
				t.Errorf("bytes at %d+%d of the damaged piece were written", e.Off, e.Len)
			}
		}
	}
}

// damage changes one byte of a data piece in the payload of an image and returns the frames of that piece.
// Like a disk that rots it leaves the file's time as it was: the server would check a changed file again and withdraw it.
func damage(t *testing.T, image string) []imagefmt.Frame {
	t.Helper()
	b, err := os.ReadFile(image + ".json")
	if err != nil {
		t.Fatal(err)
	}
	m, err := imagefmt.ParseManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := os.OpenFile(image+".payload", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer payload.Close()
	st, err := payload.Stat()
	if err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, m.IndexLength)
	if _, err := payload.ReadAt(raw, 0); err != nil {
		t.Fatal(err)
	}
	ix, err := imagefmt.ParseIndex(raw, m)
	if err != nil {
		t.Fatal(err)
	}
	piece := (ix.IndexPieces() + ix.Pieces()) / 2
	frames, err := ix.Frames(piece)
	if err != nil || len(frames) == 0 {
		t.Fatalf("frames of piece %d: %d, %v", piece, len(frames), err)
	}
	at := int64(piece)*m.PieceLength + frames[0].Off + frames[0].Len/2
	old := make([]byte, 1)
	if _, err := payload.ReadAt(old, at); err != nil {
		t.Fatal(err)
	}
	if _, err := payload.WriteAt([]byte{old[0] ^ 0xff}, at); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(image+".payload", st.ModTime(), st.ModTime()); err != nil {
		t.Fatal(err)
	}
	return frames
}
