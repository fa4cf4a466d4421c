package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"swarmboot/internal/looptest"
)

const (
	gib = int64(1) << 30
	tib = int64(1) << 40
)

var testUUID = [16]byte{0x6c, 0x4f, 0x5c, 0x6e, 0x23, 0xd5, 0x4b, 0x5e, 0x9c, 0x67, 0x0e, 0x3a, 0x5c, 0x3a, 0, 2}

// hollow is a file that is zeroed by making holes, as a disk that knows how to zero ranges.
type hollow struct{ *os.File }

func (h hollow) Zero(_ context.Context, off, n int64) error {
	return unix.Fallocate(int(h.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

func openHollow(t testing.TB, path string) hollow {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return hollow{f}
}

// content returns what is not zero in a sparse file, by blocks of 4 KiB.
func content(t *testing.T, path string) map[int64][]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	blocks, zeros := map[int64][]byte{}, make([]byte, 4096)
	for at := int64(0); ; {
		data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return blocks
		}
		hole, herr := unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
		if err != nil || herr != nil {
			t.Fatal(err, herr)
		}
		for at = data &^ 4095; at < hole; at += 4096 {
			b := make([]byte, 4096)
			if n, err := f.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) || n == 0 {
				t.Fatal(err)
			}
			if !bytes.Equal(b, zeros) {
				blocks[at] = b
			}
		}
	}
}

// sameContent compares two files; mask clears what may differ.
func sameContent(t *testing.T, ours, theirs string, mask func(off int64, b []byte)) {
	t.Helper()
	a, b := content(t, ours), content(t, theirs)
	for off, x := range a {
		y := b[off]
		if y == nil {
			t.Errorf("at %d we have % x..., they have nothing", off, x[:32])
			continue
		}
		mask(off, x)
		mask(off, y)
		for i := range x {
			if x[i] != y[i] {
				end := min(len(x), i+32)
				t.Errorf("at %d+%d\nours   % x\ntheirs % x", off, i, x[i:end], y[i:end])
				break
			}
		}
		delete(b, off)
	}
	for off, y := range b {
		t.Errorf("at %d they have % x..., we have nothing", off, y[:32])
	}
}

func number(t *testing.T, s, pattern string) int64 {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(s)
	if m == nil {
		t.Fatalf("no %s in:\n%s", pattern, s)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// checkIdentity asks blkid for type, label and UUID.
func checkIdentity(t *testing.T, path, kind, label, uuid string) {
	t.Helper()
	for tag, want := range map[string]string{"TYPE": kind, "LABEL": label, "UUID": uuid} {
		if got := run(t, "blkid", "-p", "-o", "value", "-s", tag, path); got != want {
			t.Errorf("blkid: %s %q, want %q", tag, got, want)
		}
	}
}

// use mounts a file system, writes a file, and looks at the space that df reports.
func use(t *testing.T, path, kind string, atLeast int64) {
	t.Helper()
	dev := looptest.Attach(t, path)
	sum := fill(t, dev, kind)
	withMounted(t, dev, kind, func(dir string) {
		if readSum(t, dir) != sum {
			t.Error("content changed")
		}
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		if room := int64(st.Blocks) * st.Bsize; room < atLeast {
			t.Errorf("df says %d bytes, want %d at least", room, atLeast)
		}
		if st.Ffree < 1000 {
			t.Errorf("df -i says %d inodes are free", st.Ffree)
		}
	})
}

// BenchmarkScratch prints how long a file system of each size takes, on a file of tmpfs: what is written, and
// how much.
func BenchmarkScratch(b *testing.B) {
	for _, size := range []int64{gib, 10 * gib, 3 * tib, 100 * tib} {
		for name, mk := range map[string]func(Blank) error{
			"ext4": func(d Blank) error { return MakeExt4(b.Context(), d, size, Ext4{}) },
			"xfs":  func(d Blank) error { return MakeXFS(b.Context(), d, size, XFS{}) },
			"swap": func(d Blank) error { return MakeSwap(d, size, Swap{}) },
		} {
			b.Run(fmt.Sprintf("%s-%dGiB", name, size/gib), func(b *testing.B) {
				var c counting
				for b.Loop() {
					dir, err := os.MkdirTemp("/dev/shm", "scratch")
					if err != nil {
						b.Fatal(err)
					}
					f, err := os.Create(dir + "/disk")
					if err == nil {
						err = f.Truncate(size)
					}
					if err != nil {
						b.Fatal(err)
					}
					c = counting{hollow: hollow{f}}
					if err := mk(&c); err != nil {
						b.Fatal(err)
					}
					f.Close()
					os.RemoveAll(dir) //nolint:errcheck // a test's own
				}
				b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/fs")
				b.ReportMetric(float64(c.written)/1e6, "MB-written")
				b.ReportMetric(float64(c.zeroed)/1e6, "MB-zeroed")
				b.ReportMetric(float64(c.writes), "writes")
			})
		}
	}
}

// counting counts what is done to a device.
type counting struct {
	hollow
	written, zeroed, writes int64
}

func (c *counting) WriteAt(p []byte, off int64) (int, error) {
	c.written, c.writes = c.written+int64(len(p)), c.writes+1
	return c.hollow.WriteAt(p, off)
}

func (c *counting) Zero(ctx context.Context, off, n int64) error {
	c.zeroed += n
	return c.hollow.Zero(ctx, off, n)
}

// took logs how long something took: a figure, not a test.
func took(t *testing.T, what string, began time.Time) {
	t.Helper()
	t.Logf("%s: %.2f s", what, time.Since(began).Seconds())
}

// cmdOutput runs a foreign tool for a fuzz target's corpus.
func cmdOutput(args ...string) ([]byte, error) {
	return exec.CommandContext(context.Background(), args[0], args[1:]...).CombinedOutput()
}
