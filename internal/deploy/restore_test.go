package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/deploy/deploytest"
	"swarmboot/internal/event"
	"swarmboot/internal/params"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	mib      = 1 << 20
	diskSize = 24 * mib
)

// fixture is an image, its open payload and a target file full of deploytest.Pattern.
type fixture struct {
	*deploytest.Image
	o      RestoreOptions
	target string
	last   event.Progress
	said   []string
}

func newFixture(t *testing.T, layout imagefmt.Layout, targetSize int64) *fixture {
	t.Helper()
	dir := t.TempDir()
	im, err := deploytest.Make(dir, "img", diskSize, layout)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{Image: im, target: filepath.Join(dir, "target")}
	if err := deploytest.Target(f.target, targetSize); err != nil {
		t.Fatal(err)
	}
	f.o = RestoreOptions{Manifest: im.Manifest, Disk: f.target, Verify: params.VerifyReadBack}
	f.open(t)
	return f
}

func (f *fixture) open(t *testing.T) {
	t.Helper()
	p, err := os.OpenFile(filepath.Join(f.Dir, "img.payload"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	f.o.Payload = p
}

func (f *fixture) restore(ctx context.Context) error {
	return Restore(ctx, f.o, func(p event.Progress) {
		f.last = p
		if p.Message != "" {
			f.said = append(f.said, p.Message)
		}
	})
}

func (f *fixture) read(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(f.target)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (f *fixture) write(t *testing.T, b []byte) {
	t.Helper()
	if err := os.WriteFile(f.target, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// partitions counts what sfdisk sees; -1: no table.
func partitions(t *testing.T, path string) int {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sfdisk", "--json", path).Output()
	if err != nil {
		return -1
	}
	var v struct {
		PartitionTable struct {
			Partitions []struct{ Node string }
		}
	}
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatal(err)
	}
	return len(v.PartitionTable.Partitions)
}

func TestRestoreWritesUsedBytesOnly(t *testing.T) {
	for _, layout := range []imagefmt.Layout{imagefmt.Packed, imagefmt.Verbatim} {
		for _, size := range []int64{diskSize, diskSize + 5*mib} {
			f := newFixture(t, layout, size)
			if err := f.restore(t.Context()); err != nil {
				t.Fatal(err)
			}
			if off := f.Differs(f.read(t)); off >= 0 {
				t.Errorf("%s to %d bytes: byte %d is wrong", layout, size, off)
			}
			if n := partitions(t, f.target); n != 2 {
				t.Errorf("%s: %d partitions, want 2", layout, n)
			}
			if out, err := exec.CommandContext(t.Context(), "sgdisk", "-v", f.target).CombinedOutput(); err != nil || !strings.Contains(string(out), "No problems found") {
				t.Errorf("sgdisk -v: %v\n%s", err, out)
			}
			if f.last.Phase != event.PhaseDone || f.last.BytesDone != f.Manifest.UsedBytes || f.last.PiecesDone != f.last.PiecesTotal {
				t.Errorf("last report %+v", f.last)
			}
		}
	}
}

func TestStepsInOrder(t *testing.T) {
	f := newFixture(t, imagefmt.Packed, diskSize)
	if err := f.restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	var names []event.Phase
	for _, s := range f.last.Steps {
		names = append(names, s.Name)
	}
	want := []event.Phase{event.PhaseManifest, event.PhaseSelect, event.PhaseWipe, event.PhasePartition,
		event.PhaseFetch, event.PhaseSync, event.PhaseVerify, event.PhaseReread}
	if !slices.Equal(names, want) {
		t.Errorf("steps %v, want %v", names, want)
	}
}

func TestRefusedBeforeTheFirstWrite(t *testing.T) {
	for _, c := range []struct {
		name string
		size int64
		prep func(*fixture)
		code int
		text string
	}{
		{"too small", diskSize - 3*mib, func(*fixture) {}, cli.CodeTooSmall, "too small"},
		{"no such file", diskSize, func(f *fixture) { f.o.Disk += ".missing" }, cli.CodeDisk, "target.missing"},
		{"a directory", diskSize, func(f *fixture) { f.o.Disk = f.Dir }, cli.CodeDisk, "neither a block device nor a regular file"},
		{"index corrupt", diskSize, func(f *fixture) { flip(f, 10) }, cli.CodeVerify, "index"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, imagefmt.Packed, c.size)
			before := f.read(t)
			c.prep(f)
			err := f.restore(t.Context())
			if cli.Code(err) != c.code || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %v (code %d), want %q (code %d)", err, cli.Code(err), c.text, c.code)
			}
			if !bytes.Equal(before, f.read(t)) {
				t.Error("the target was written to")
			}
		})
	}
}

// flip changes one byte of the payload.
func flip(f *fixture, off int64) {
	p := f.o.Payload.(*os.File)
	b := make([]byte, 1)
	_, err := p.ReadAt(b, off)
	b[0] ^= 0xFF
	if err == nil {
		_, err = p.WriteAt(b, off)
	}
	if err != nil {
		panic(err)
	}
}

func TestCorruptPayloadLeavesNoSystem(t *testing.T) {
	for _, layout := range []imagefmt.Layout{imagefmt.Packed, imagefmt.Verbatim} {
		f := newFixture(t, layout, diskSize)
		flip(f, f.Manifest.PayloadLength/2)
		err := f.restore(t.Context())
		var ve *imagefmt.VerifyError
		if cli.Code(err) != cli.CodeVerify || !errors.As(err, &ve) {
			t.Errorf("%s: error %v (code %d)", layout, err, cli.Code(err))
		}
		if n := partitions(t, f.target); n > 0 {
			t.Errorf("%s: %d partitions are left", layout, n)
		}
		if f.last.Phase != event.PhaseFailed || f.last.ExitCode != cli.CodeVerify || f.last.Error == "" {
			t.Errorf("%s: last report %+v", layout, f.last)
		}
		if !strings.Contains(strings.Join(f.said, "\n"), "it does not boot") {
			t.Errorf("%s: nothing was said about the disk: %q", layout, f.said)
		}
	}
}

func TestInterruptedLeavesNoSystem(t *testing.T) {
	f := newFixture(t, imagefmt.Packed, diskSize)
	ctx, cancel := context.WithCancel(t.Context())
	f.o.Payload = readerAt(func(p []byte, off int64) (int, error) {
		if off > f.Manifest.PayloadLength/2 {
			cancel()
		}
		return f.readPayload(p, off)
	})
	err := f.restore(ctx)
	if cli.Code(err) != cli.CodeInterrupted {
		t.Errorf("error %v (code %d)", err, cli.Code(err))
	}
	if n := partitions(t, f.target); n > 0 {
		t.Errorf("%d partitions are left", n)
	}
}

type readerAt func([]byte, int64) (int, error)

func (r readerAt) ReadAt(p []byte, off int64) (int, error) { return r(p, off) }

func (f *fixture) readPayload(p []byte, off int64) (int, error) {
	b, err := os.ReadFile(filepath.Join(f.Dir, "img.payload"))
	if err != nil {
		return 0, err
	}
	return bytes.NewReader(b).ReadAt(p, off)
}

// Until the end the disk has a table without partitions, so that a machine that loses power does not
// boot a part of a system.
func TestDiskCutOffHasNoPartitions(t *testing.T) {
	f := newFixture(t, imagefmt.Packed, diskSize)
	seen := 0
	var once sync.Once
	p := f.o.Payload
	f.o.Payload = readerAt(func(b []byte, off int64) (int, error) {
		if off > f.Manifest.PayloadLength/2 {
			once.Do(func() { seen = 1 + max(0, partitions(t, f.target)) })
		}
		return p.ReadAt(b, off)
	})
	if err := f.restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	if seen != 1 {
		t.Errorf("%d partitions in the middle of the fetch", seen-1)
	}
}

// TestReadBackFindsWhatTheDiskLost changes the target behind the engine's back, in a used and in a zero extent.
func TestReadBackFindsWhatTheDiskLost(t *testing.T) {
	f := newFixture(t, imagefmt.Packed, diskSize)
	if err := f.restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	im, err := imagefmt.Open(f.Manifest, f.o.Payload)
	if err != nil {
		t.Fatal(err)
	}
	frames, err := im.Index().Frames(im.Index().IndexPieces())
	if err != nil {
		t.Fatal(err)
	}
	for name, off := range map[string]int64{"used": frames[0].Extents[0].Off, "zero": im.Index().Zero()[0].Off} {
		good := f.read(t)
		bad := bytes.Clone(good)
		bad[off] ^= 1
		f.write(t, bad)
		w := f.planned(t, f.Manifest, f.target)
		if err := w.readBack(t.Context(), im.Index()); code(err) != cli.CodeVerify {
			t.Errorf("%s: error %v (code %d)", name, err, code(err))
		}
		f.write(t, good)
		if err := w.readBack(t.Context(), im.Index()); err != nil {
			t.Errorf("%s: undone, still %v", name, err)
		}
		if err := w.close(); err != nil {
			t.Fatal(err)
		}
	}
}
