package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/filetest"
)

// dirty fills a file with bytes that are not zero.
func dirty(t *testing.T, size int64) string {
	t.Helper()
	p := sparse(t, size)
	filetest.Write(t, p, 0, bytes.Repeat([]byte{0xa5}, int(size)))
	return p
}

// zeroRuns says which bytes are zero.
func zeroRuns(b []byte) (runs []imagefmt.Extent) {
	for i := 0; i < len(b); i++ {
		if b[i] != 0 {
			continue
		}
		start := i
		for i < len(b) && b[i] == 0 {
			i++
		}
		runs = append(runs, imagefmt.Extent{Off: int64(start), Len: int64(i - start)})
	}
	return runs
}

// What lies in the ranges is gone, what lies outside is as it was to the byte, on files and block devices of both sector sizes.
func TestClear(t *testing.T) {
	ranges := []imagefmt.Extent{{Off: 6 * mib, Len: 2*mib - 100}, {Off: 4096, Len: mib}, {Off: 3*mib + 100, Len: mib}}
	inside := func(sector int64) []imagefmt.Extent { // whole sectors only
		up := func(n int64) int64 { return (n + sector - 1) / sector * sector }
		down := func(n int64) int64 { return n / sector * sector }
		return []imagefmt.Extent{{Off: 4096, Len: mib}, {Off: up(3*mib + 100), Len: down(4*mib+100) - up(3*mib+100)}, {Off: 6 * mib, Len: down(8*mib-100) - 6*mib}}
	}
	exact := []imagefmt.Extent{ranges[1], ranges[2], ranges[0]}
	for _, tt := range []struct {
		kind string
		args []string
		mode WipeMode
		want []imagefmt.Extent
	}{
		{"file", nil, WipeNone, nil},
		{"file", nil, WipeZero, exact},
		{"file", nil, WipeDiscard, exact},
		{"loop", []string{"-b", "512"}, WipeZero, exact},
		{"loop", []string{"-b", "4096"}, WipeZero, exact},
		{"loop", []string{"-b", "512"}, WipeDiscard, inside(512)},
		{"loop", []string{"-b", "4096"}, WipeDiscard, inside(4096)},
	} {
		t.Run(fmt.Sprint(tt.kind, tt.args, tt.mode), func(t *testing.T) {
			p := dirty(t, 8*mib)
			dev := p
			if tt.kind == "loop" {
				dev = loop(t, p, tt.args...)
			}
			d := open(t, dev)
			var last, total int64
			c, err := Clear(t.Context(), d, tt.mode, ranges, func(done, all int64) {
				if done <= last {
					t.Errorf("progress went from %d to %d", last, done)
				}
				last, total = done, all
			})
			if err != nil || c.Mode != tt.mode || c.Reason != "" {
				t.Fatalf("%+v, %v", c, err)
			}
			if err := d.DropCaches(); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			if got := zeroRuns(b); !slices.Equal(got, tt.want) {
				t.Errorf("zero: %v, want %v", got, tt.want)
			}
			want := int64(0)
			for _, r := range tt.want {
				want += r.Len
			}
			if c.Bytes != want {
				t.Errorf("says %d bytes, want %d", c.Bytes, want)
			}
			if tt.mode != WipeNone && (last != 3*mib+mib-100 || total != last) {
				t.Errorf("progress ended at %d of %d", last, total)
			}
		})
	}
}

// A loop device whose file system cannot punch holes has no discard: the content stays and that is said. zero writes.
func TestClearWithoutDiscard(t *testing.T) {
	dir := t.TempDir()
	if out, err := try("mount", "-t", "ramfs", "none", dir); err != nil {
		t.Fatalf("mount a ramfs: %s", out)
	}
	t.Cleanup(func() { run(t, "umount", dir) })
	p := dir + "/disk" // ramfs has no fallocate
	if err := os.WriteFile(p, bytes.Repeat([]byte{0xa5}, 2*mib), 0o600); err != nil {
		t.Fatal(err)
	}
	all := []imagefmt.Extent{{Off: 0, Len: 2 * mib}}
	for _, kind := range []string{"file", "loop"} {
		dev := p
		if kind == "loop" {
			dev = loop(t, p)
		}
		d := open(t, dev)
		c, err := Clear(t.Context(), d, WipeDiscard, all, nil)
		if err != nil || c.Mode != WipeNone || c.Bytes != 0 || !strings.Contains(c.Reason, dev+" does not support discard") {
			t.Errorf("%s: %+v, %v", kind, c, err)
		}
		if b, _ := os.ReadFile(p); len(zeroRuns(b)) > 0 {
			t.Errorf("%s: something was discarded", kind)
		}
		d.Close()
		if kind == "loop" {
			d = open(t, dev)
			if c, err = Clear(t.Context(), d, WipeZero, all, nil); err != nil || c.Mode != WipeZero || c.Bytes != 2*mib {
				t.Errorf("%s: %+v, %v", kind, c, err)
			}
			d.Close()
			if b, _ := os.ReadFile(p); len(bytes.Trim(b, "\x00")) > 0 {
				t.Errorf("%s: not zeroed", kind)
			}
		}
	}
}

// A refusal comes before anything is touched; an interruption ends between two steps.
func TestClearRefuses(t *testing.T) {
	p := dirty(t, 2*mib)
	d := open(t, p)
	good := imagefmt.Extent{Off: 0, Len: mib}
	for _, tt := range []struct {
		name   string
		mode   WipeMode
		ranges []imagefmt.Extent
		want   string
	}{
		{"mode", "secure", []imagefmt.Extent{good}, `wipe "secure": want none, discard or zero`},
		{"beyond the end", WipeZero, []imagefmt.Extent{good, {Off: mib, Len: mib + 1}}, "do not lie within"},
		{"negative", WipeDiscard, []imagefmt.Extent{good, {Off: mib, Len: -1}}, "do not lie within"},
		{"overlap", WipeZero, []imagefmt.Extent{good, {Off: mib - 1, Len: 2}}, "the ranges at 0 and 1048575 overlap"},
	} {
		if _, err := Clear(t.Context(), d, tt.mode, tt.ranges, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Clear(ctx, d, WipeZero, []imagefmt.Extent{good}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if b, _ := os.ReadFile(p); len(zeroRuns(b)) > 0 {
		t.Error("something was cleared")
	}
	ctx, cancel = context.WithCancel(t.Context())
	big := open(t, sparse(t, 8<<30))
	steps := 0
	c, err := Clear(ctx, big, WipeDiscard, []imagefmt.Extent{{Off: 512, Len: 8<<30 - 512}}, func(int64, int64) {
		if steps++; steps == 3 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || steps != 3 || c.Bytes != 3<<30-512 {
		t.Errorf("interrupted after 3 steps: %+v, %v after %d", c, err, steps)
	}
}

func TestGaps(t *testing.T) {
	for _, tt := range []struct{ kept, want []imagefmt.Extent }{
		{nil, []imagefmt.Extent{{Off: 0, Len: 100}}},
		{[]imagefmt.Extent{{Off: 0, Len: 100}}, nil},
		{[]imagefmt.Extent{{Off: 0, Len: 10}, {Off: 90, Len: 20}}, []imagefmt.Extent{{Off: 10, Len: 80}}},
		{[]imagefmt.Extent{{Off: 50, Len: 10}, {Off: 20, Len: 10}, {Off: 25, Len: 20}}, []imagefmt.Extent{{Off: 0, Len: 20}, {Off: 45, Len: 5}, {Off: 60, Len: 40}}},
		{[]imagefmt.Extent{{Off: 200, Len: 10}}, []imagefmt.Extent{{Off: 0, Len: 100}}},
	} {
		if got := Gaps(100, tt.kept); !slices.Equal(got, tt.want) {
			t.Errorf("%v: %v, want %v", tt.kept, got, tt.want)
		}
	}
}

// What is kept stays byte for byte, the table that says where it is too; everything else is cleared as ever.
func TestWipeKeeping(t *testing.T) {
	for name, label := range map[string]string{"gpt": "label: gpt\n", "mbr": "label: dos\n"} {
		t.Run(name, func(t *testing.T) {
			p := sparse(t, 96*mib)
			script := label + "start=2048,size=65536\nstart=67584,size=65536\nstart=133120,size=61440\n"
			run(t, "sh", "-c", "printf '"+strings.ReplaceAll(script, "\n", `\n`)+"' | sfdisk -q "+p)
			for _, start := range []int64{mib, 33 * mib, 65 * mib} {
				fs := sparse(t, 28*mib)
				run(t, "mkfs.ext4", "-q", fs)
				b, err := os.ReadFile(fs)
				if err != nil {
					t.Fatal(err)
				}
				filetest.Write(t, p, start, b)
			}
			filetest.Write(t, p, 33*mib+20*mib, []byte("\xfc\x4e\x2b\xa9")) // nothing looks there
			before, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			d := open(t, p)
			kept := imagefmt.Extent{Off: 33 * mib, Len: 32 * mib}
			cleared, err := WipeKeeping(t.Context(), d, []imagefmt.Extent{kept})
			if err != nil || len(cleared) != 2 {
				t.Errorf("cleared %q, %v; want the two other file systems", cleared, err)
			}
			d.Close()
			after, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(before[kept.Off:kept.End()], after[kept.Off:kept.End()]) || !bytes.Equal(before[:mib], after[:mib]) || !bytes.Equal(before[95*mib:], after[95*mib:]) {
				t.Error("what is kept, or the table, has changed")
			}
			run(t, "blkid", "-p", "-O", fmt.Sprint(kept.Off), p)
			for _, off := range []int64{mib, 65 * mib} {
				if out, err := try("blkid", "-p", "-O", fmt.Sprint(off), p); err == nil {
					t.Errorf("blkid still sees %s", out)
				}
			}
		})
	}
}

// A superblock of the whole disk that lies in a kept partition (md 1.0 at the end) stays.
func TestWipeKeepingSuperblockOfTheDisk(t *testing.T) {
	p := sparse(t, 64*mib)
	mdByHand(t, p, "1.0")
	before, _ := os.ReadFile(p)
	d := open(t, p)
	if cleared, err := WipeKeeping(t.Context(), d, []imagefmt.Extent{{Off: 32 * mib, Len: 32 * mib}}); err != nil || len(cleared) > 0 {
		t.Errorf("cleared %q, %v", cleared, err)
	}
	if after, _ := os.ReadFile(p); !bytes.Equal(before, after) {
		t.Error("the disk has changed")
	}
}

// What a run that was cut off has left where a partition will be is cleared, though no table lists it.
func TestWipeFresh(t *testing.T) {
	p, part := sparse(t, 96*mib), sparse(t, 32*mib)
	mdByHand(t, part, "1.0")
	b, err := os.ReadFile(part)
	if err != nil {
		t.Fatal(err)
	}
	filetest.Write(t, p, 33*mib, b)
	d := open(t, p)
	if cleared, err := WipeKeeping(t.Context(), d, nil); err != nil || len(cleared) > 0 {
		t.Errorf("cleared %q, %v", cleared, err)
	}
	cleared, err := WipeKeeping(t.Context(), d, nil, imagefmt.Extent{Off: mib, Len: 32 * mib}, imagefmt.Extent{Off: 33 * mib, Len: 32 * mib})
	if err != nil || len(cleared) != 1 || !strings.Contains(cleared[0], "place of a new partition: md 1.0 superblock") {
		t.Errorf("cleared %q, %v", cleared, err)
	}
	d.Close()
	run(t, "dd", "if="+p, "of="+part, "bs=1M", "skip=33", "count=32", "status=none")
	if out, err := try("mdadm", "--examine", part); err == nil {
		t.Errorf("mdadm still sees %s", out)
	}
}
