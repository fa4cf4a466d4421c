package imagesrc

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"swarmboot/imagefmt"
)

// run runs a foreign tool, which must succeed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	return runInput(t, "", name, args...)
}

func runInput(t *testing.T, input, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = bytes.NewBufferString(input)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "MTOOLS_SKIP_CHECK=1", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// scratch is a directory in memory, where there is one: whole disks are written here, many times.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "imagesrc")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// blank makes a sparse file.
func blank(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(scratch(t), "disk.img")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, path string, o Options) *Source {
	t.Helper()
	s, err := Open(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	checkExtents(t, s)
	return s
}

// checkExtents checks what imagefmt.Source promises.
func checkExtents(t *testing.T, s *Source) {
	t.Helper()
	end := int64(0)
	for i, e := range s.Extents() {
		if e.Len <= 0 || e.Off < end || i > 0 && e.Off == end {
			t.Fatalf("extent %d, %+v, does not follow byte %d", i, e, end)
		}
		end = e.End()
	}
	if end > s.Size() {
		t.Fatalf("extents end at %d of %d", end, s.Size())
	}
}

const garbage = 0xAA

// restore copies the used extents onto a target full of garbage.
func restore(t *testing.T, s *Source) string {
	t.Helper()
	path := filepath.Join(scratch(t), "target.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fill := bytes.Repeat([]byte{garbage}, 1<<20)
	for off := int64(0); off < s.Size(); off += int64(len(fill)) {
		if _, err := f.WriteAt(fill[:min(int64(len(fill)), s.Size()-off)], off); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range s.Extents() {
		buf := make([]byte, e.Len)
		if _, err := s.ReadAt(buf, e.Off); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(buf, e.Off); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// cut copies a part of a file into a file of its own.
func cut(t *testing.T, path string, off, length int64) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, length)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(scratch(t), "part.img")
	if err := os.WriteFile(out, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

// tree makes a directory of files with random content, many small and some large; names are plain 8.3.
func tree(t *testing.T, budget int) string {
	t.Helper()
	dir := scratch(t)
	rnd := rand.New(rand.NewPCG(1, uint64(budget)))
	for i := 0; budget > 0; i++ {
		n := 1 + rnd.IntN(20_000)
		if i%7 == 0 {
			n = 100_000 + rnd.IntN(budget/5+1)
		}
		budget -= n
		b := make([]byte, n)
		for j := range b {
			b[j] = byte(rnd.Uint32())
		}
		path := filepath.Join(dir, fmt.Sprintf("d%d", i%5), fmt.Sprintf("f%d", i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// sums lists the files below a directory with their hashes.
func sums(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		out[rel] = fmt.Sprintf("%x", sha256.Sum256(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sameTree(t *testing.T, want map[string]string, dir string) {
	t.Helper()
	got := sums(t, dir)
	for name, sum := range want {
		if got[name] != sum {
			t.Errorf("%s: content differs from the source's", name)
		}
	}
	if len(want) < 5 {
		t.Errorf("only %d files compared", len(want))
	}
}

func used(s *Source) int64 {
	var n int64
	for _, e := range s.Extents() {
		n += e.Len
	}
	return n
}

func covered(list []imagefmt.Extent, off, n int64) bool {
	for _, e := range list {
		if e.Off <= off && off+n <= e.End() {
			return true
		}
	}
	return false
}
