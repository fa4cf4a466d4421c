package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	mib     = 1 << 20
	pattern = 0xA5 // what a target is full of before an image is written to it
)

// builtTool is the swarmboot command as users get it. It lies beside the test binary, whose directory go test removes.
var builtTool = sync.OnceValues(func() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(self), "bin")
	cmd := exec.CommandContext(context.Background(), "go", "build", "-o", dir+"/", "swarmboot/cmds/swarmboot")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return filepath.Join(dir, "swarmboot"), nil
})

func tool(t *testing.T) string {
	t.Helper()
	path, err := builtTool()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// judge runs a foreign tool, which must succeed.
func judge(t *testing.T, input, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), name, args...) // also in cleanups, after the end of t.Context
	cmd.Stdin = strings.NewReader(input)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// part is a partition of a test disk, in bytes.
type part struct {
	start, size int64
	fs          string // vfat, ext4, swap or "" for random bytes
}

// makeDisk makes a disk file with the table that the sfdisk script describes and fills its partitions.
func makeDisk(t *testing.T, path string, size int64, sfdiskScript string, parts []part) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	if sfdiskScript != "" {
		judge(t, sfdiskScript, "sfdisk", "-q", path)
	}
	for i, p := range parts {
		sub := fmt.Sprintf("%s.part%d", path, i+1)
		makeFS(t, sub, p)
		copyInto(t, path, sub, p.start)
		os.Remove(sub)
	}
}

// makeFS makes a file system of p's kind with some files.
func makeFS(t *testing.T, path string, p part) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, p.size); err != nil {
		t.Fatal(err)
	}
	switch p.fs {
	case "ext4":
		judge(t, "", "mkfs.ext4", "-q", "-d", tree(t), "-L", "root", path)
	case "vfat":
		judge(t, "", "mkfs.vfat", "-n", "ESP", path)
		dirs, err := filepath.Glob(filepath.Join(tree(t), "*"))
		if err != nil {
			t.Fatal(err)
		}
		judge(t, "", "mcopy", append(append([]string{"-s", "-i", path}, dirs...), "::")...)
	case "swap":
		judge(t, "", "mkswap", "-q", path)
	default:
		b := bytes.Repeat([]byte("not a file system "), int(p.size/18))
		if err := os.WriteFile(path, append(b, make([]byte, p.size-int64(len(b)))...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// tree is a directory with files of several sizes.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for i := range 40 {
		sub := filepath.Join(dir, fmt.Sprintf("dir%d", i%5))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		data := bytes.Repeat([]byte(fmt.Sprintf("file %d ", i)), 1+i*i*20)
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("file%d", i)), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func copyInto(t *testing.T, disk, from string, off int64) {
	t.Helper()
	judge(t, "", "dd", "if="+from, "of="+disk, "bs=1M", "seek="+strconv.FormatInt(off, 10), "oflag=seek_bytes", "conv=notrunc,sparse", "status=none")
}

// cut copies a partition out of a disk.
func cut(t *testing.T, disk string, p part) string {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := filepath.Join(t.TempDir(), "part")
	w, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := io.Copy(w, io.NewSectionReader(f, p.start, p.size)); err != nil {
		t.Fatal(err)
	}
	return out
}

var freeRE = regexp.MustCompile(`(?m)^  Free blocks: (.*)$`)

// extFree lists the free blocks of an ext file system by dumpe2fs, one bool a block, and the block size.
func extFree(t *testing.T, image string, size int64) ([]bool, int64) {
	t.Helper()
	out := judge(t, "", "dumpe2fs", image)
	var bs int64
	if _, err := fmt.Sscan(strings.SplitN(strings.SplitN(out, "Block size:", 2)[1], "\n", 2)[0], &bs); err != nil {
		t.Fatal(err)
	}
	free := make([]bool, size/bs)
	n := 0
	for _, m := range freeRE.FindAllStringSubmatch(out, -1) {
		for _, r := range strings.FieldsFunc(m[1], func(c rune) bool { return c == ',' || c == ' ' }) {
			var a, b int
			if k, _ := fmt.Sscanf(r, "%d-%d", &a, &b); k == 1 {
				b = a
			}
			for i := a; i <= b; i++ {
				free[i] = true
				n++
			}
		}
	}
	if n == 0 {
		t.Fatal("dumpe2fs shows no free block")
	}
	return free, bs
}

// compareExt checks every block of a restored ext file system: used ones as on the source, free ones untouched.
func compareExt(t *testing.T, source, restored string, size int64) {
	t.Helper()
	free, bs := extFree(t, source, size)
	a, errA := os.ReadFile(source)
	b, errB := os.ReadFile(restored)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	untouched := bytes.Repeat([]byte{pattern}, int(bs))
	for i, isFree := range free {
		lo, hi := int64(i)*bs, int64(i+1)*bs
		want := a[lo:hi]
		if isFree {
			want = untouched
		}
		if !bytes.Equal(b[lo:hi], want) {
			t.Fatalf("block %d (free: %v) is not what it must be", i, isFree)
		}
	}
}
