package imagesrc

import (
	"encoding/binary"
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/filetest"
	"swarmboot/internal/imagesrc/volume"
)

const mib = 1 << 20

var extCases = []struct {
	name string
	size int64
	args string
	fs   string
}{
	{"ext2 1 KiB", 40 * mib, "-t ext2 -b 1024", "ext2"},
	{"ext2 4 KiB", 40 * mib, "-t ext2 -b 4096", "ext2"},
	{"ext2 2 KiB", 40 * mib, "-t ext2 -b 2048", "ext2"},
	{"ext2 revision 0", 40 * mib, "-t ext2 -b 1024 -r 0", "ext2"},
	{"ext2 every superblock", 40 * mib, "-t ext2 -b 1024 -O ^sparse_super,^resize_inode", "ext2"},
	{"ext3 1 KiB", 40 * mib, "-t ext3 -b 1024", "ext3"},
	{"ext3 4 KiB", 160 * mib, "-t ext3 -b 4096", "ext3"},
	{"ext4 4 KiB", 160 * mib, "-t ext4 -b 4096", "ext4"},
	{"ext4 1 KiB", 64 * mib, "-t ext4 -b 1024", "ext4"},
	{"ext4 1 KiB 64bit", 64 * mib, "-t ext4 -b 1024 -O 64bit", "ext4"},
	{"ext4 ^64bit", 64 * mib, "-t ext4 -b 1024 -O ^64bit", "ext4"},
	{"ext4 no flex_bg", 64 * mib, "-t ext4 -b 1024 -O ^flex_bg", "ext4"},
	{"ext4 no flex_bg 4 KiB", 160 * mib, "-t ext4 -b 4096 -O ^flex_bg", "ext4"},
	{"ext4 meta_bg 1 KiB", 100 * mib, "-t ext4 -b 1024 -O meta_bg,^resize_inode", "ext4"},
	{"ext4 meta_bg no flex", 100 * mib, "-t ext4 -b 1024 -O meta_bg,^resize_inode,^flex_bg,^64bit", "ext4"},
	{"ext4 meta_bg 4 KiB", 160 * mib, "-t ext4 -b 4096 -O meta_bg,^resize_inode", "ext4"},
	{"ext4 bigalloc", 100 * mib, "-t ext4 -b 4096 -O bigalloc -C 65536", "ext4"},
	{"ext4 bigalloc 1 KiB", 100 * mib, "-t ext4 -b 1024 -O bigalloc -C 16384", "ext4"},
	{"ext4 bigalloc 1 KiB meta_bg", 100 * mib, "-t ext4 -b 1024 -O bigalloc,meta_bg,^resize_inode -C 4096", "ext4"},
	{"ext4 bigalloc odd size", 100*mib + 12<<10, "-t ext4 -b 4096 -O bigalloc -C 65536", "ext4"},
	{"ext4 sparse_super2", 100 * mib, "-t ext4 -b 1024 -O sparse_super2,^resize_inode", "ext4"},
	{"ext4 uninit_bg", 100 * mib, "-t ext4 -b 1024 -O uninit_bg,^metadata_csum,^64bit", "ext4"},
	{"ext4 uninit_bg 64bit", 100 * mib, "-t ext4 -b 1024 -O uninit_bg,^metadata_csum,64bit,^flex_bg", "ext4"},
	{"ext4 no checksums", 64 * mib, "-t ext4 -b 1024 -O ^uninit_bg,^metadata_csum", "ext4"},
	{"ext4 checksum seed", 64 * mib, "-t ext4 -b 1024 -O metadata_csum_seed", "ext4"},
	{"ext4 mmp", 64 * mib, "-t ext4 -b 1024 -O mmp -E mmp_update_interval=1", "ext4"},
	{"ext4 inline_data", 64 * mib, "-t ext4 -b 4096 -O inline_data -I 256", "ext4"},
	{"ext4 no journal", 64 * mib, "-t ext4 -b 4096 -O ^has_journal", "ext4"},
	{"ext4 orphan_file", 64 * mib, "-t ext4 -b 4096 -O orphan_file", "ext4"},
	{"ext4 64 KiB", 128 * mib, "-t ext4 -b 65536", "ext4"},
	{"ext4 small groups", 40 * mib, "-t ext4 -b 1024 -g 256", "ext4"},
	{"ext4 packed_meta", 160 * mib, "-t ext4 -b 4096 -E packed_meta_blocks=1", "ext4"},
	{"ext4 odd size", 33*mib + 3<<10, "-t ext4 -b 1024", "ext4"},
}

// makeExt makes a file system with files in it, and with holes where some of them were removed.
func makeExt(t *testing.T, size int64, args string) (path string, want map[string]string) {
	t.Helper()
	if testing.Short() && strings.Contains(args, "mmp") {
		t.Skip("e2fsprogs waits for seconds at a file system with multiple mount protection")
	}
	dir := tree(t, int(min(size/3, 8*mib)))
	want = sums(t, dir)
	path = blank(t, size)
	all := append([]string{"-q", "-F", "-L", "the label", "-U", testUUID, "-d", dir}, strings.Fields(args)...)
	run(t, "mke2fs", append(all, path)...)
	var rm strings.Builder
	for name := range want {
		if strings.HasSuffix(name, "4") || strings.HasSuffix(name, "7") {
			rm.WriteString("rm /" + name + "\n")
			delete(want, name)
		}
	}
	runInput(t, rm.String(), "debugfs", "-w", "-f", "-", path)
	run(t, "e2fsck", "-fn", path)
	return path, want
}

const testUUID = "7e27bf6b-ca08-4e70-b15a-2b1e64a36e4b"

func TestExt(t *testing.T) {
	for _, c := range extCases {
		t.Run(c.name, func(t *testing.T) {
			path, want := makeExt(t, c.size, c.args)
			s := open(t, path, Options{})
			if len(s.Notes()) > 0 || s.Table().Kind != imagefmt.TableNone {
				t.Errorf("notes %q, table %+v", s.Notes(), s.Table())
			}
			if got := free(t, path, c.size); !slices.Equal(got, volume.Invert(s.Extents(), 0, c.size)) {
				t.Errorf("free extents differ from dumpe2fs:\n want %v\n got %v", got, volume.Invert(s.Extents(), 0, c.size))
			}
			in, whole, err := (&disk{path: path}).readVolume(s.f, 0, s.size)
			if err != nil || whole != "" || in.FileSystem != c.fs || in.Label != "the label" || in.UUID != testUUID {
				t.Errorf("read %+v, %q, %v, want %s", in, whole, err, c.fs)
			}
			if got, want := in.Top, listed(t, path); !slices.Equal(slices.Sorted(slices.Values(got)), want) {
				t.Errorf("root directory %q, want %q", got, want)
			}
			target := restore(t, s)
			run(t, "e2fsck", "-fn", target)
			out := scratch(t)
			run(t, "debugfs", "-R", "rdump / "+out, target)
			sameTree(t, want, out)
		})
	}
}

// listed is what debugfs finds in the root directory.
func listed(t *testing.T, path string) (names []string) {
	t.Helper()
	for line := range strings.Lines(run(t, "debugfs", "-R", "ls -p /", path)) {
		if f := strings.Split(line, "/"); len(f) > 5 && f[5] != "." && f[5] != ".." {
			names = append(names, f[5])
		}
	}
	slices.Sort(names)
	return names
}

// TestExtHuge has thousands of groups, nearly all of them uninitialised.
func TestExtHuge(t *testing.T) {
	for _, args := range []string{"-t ext4 -b 4096", "-t ext4 -b 4096 -O ^flex_bg", "-t ext4 -b 4096 -O meta_bg,^resize_inode", "-t ext2 -b 4096"} {
		t.Run(args, func(t *testing.T) {
			size := int64(700) << 30
			path := blank(t, size)
			run(t, "mke2fs", append([]string{"-q", "-F", "-N", "100000", path}, strings.Fields(args)...)...)
			s := open(t, path, Options{})
			if got := free(t, path, size); !slices.Equal(got, volume.Invert(s.Extents(), 0, size)) {
				t.Errorf("%d free extents in dumpe2fs, %d here", len(got), len(volume.Invert(s.Extents(), 0, size)))
			}
		})
	}
}

// TestExtGrown grows a file system beyond what its reserved descriptor blocks allow, which gives it meta_bg from some
// group on.
func TestExtGrown(t *testing.T) {
	path, want := makeExt(t, 24*mib, "-t ext4 -b 1024 -O ^resize_inode")
	size := int64(400 * mib)
	run(t, "truncate", "-s", strconv.FormatInt(size, 10), path)
	run(t, "resize2fs", "-f", path)
	run(t, "e2fsck", "-fn", path)
	s := open(t, path, Options{})
	if got := free(t, path, size); !slices.Equal(got, volume.Invert(s.Extents(), 0, size)) {
		t.Errorf("free extents differ from dumpe2fs")
	}
	out := scratch(t)
	target := restore(t, s)
	run(t, "e2fsck", "-fn", target)
	run(t, "debugfs", "-R", "rdump / "+out, target)
	sameTree(t, want, out)
}

var freeLine = regexp.MustCompile(`(?m)^  Free blocks: (.*)$`)

// free is what dumpe2fs says is free, as extents.
func free(t *testing.T, path string, size int64) []imagefmt.Extent {
	t.Helper()
	out := run(t, "dumpe2fs", path)
	number := func(re string) int64 {
		m := regexp.MustCompile(re).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("dumpe2fs without %s", re)
		}
		n, _ := strconv.ParseInt(m[1], 10, 64)
		return n
	}
	bs, blocks := number(`Block size: +(\d+)`), number(`Block count: +(\d+)`)
	last := bs // dumpe2fs names the first block of a cluster
	if strings.Contains(out, "\nCluster size:") {
		last = number(`Cluster size: +(\d+)`)
	}
	m := &volume.Map{}
	for _, line := range freeLine.FindAllStringSubmatch(out, -1) {
		for r := range strings.SplitSeq(line[1], ",") {
			if r = strings.TrimSpace(r); r == "" {
				continue
			}
			from, to, isRange := strings.Cut(r, "-")
			a, _ := strconv.ParseInt(from, 10, 64)
			b := a
			if isRange {
				b, _ = strconv.ParseInt(to, 10, 64)
			}
			m.Add(a*bs, (b-a)*bs+last)
		}
	}
	list := m.Extents(blocks * bs)
	if blocks*bs < size { // the zeros behind the file system
		m.Add(blocks*bs, size-blocks*bs)
		list = m.Extents(size)
	}
	return list
}

func TestExtDirty(t *testing.T) {
	le32 := func(v uint32) []byte { return []byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)} }
	for _, c := range []struct {
		name, args, reason string
		damage             func(t *testing.T, path string)
	}{
		{"recovery", "-t ext4", "journal needs recovery", func(t *testing.T, p string) {
			run(t, "debugfs", "-w", "-R", "feature needs_recovery", p)
		}},
		{"not clean", "-t ext2", "not unmounted cleanly", func(t *testing.T, p string) {
			run(t, "debugfs", "-w", "-R", "ssv state 0", p)
		}},
		{"errors", "-t ext4", "errors", func(t *testing.T, p string) {
			run(t, "debugfs", "-w", "-R", "ssv state 3", p)
		}},
		{"mmp in use", "-t ext4 -b 4096 -O mmp -E mmp_update_interval=1", "multiple mount", func(t *testing.T, p string) {
			block := int64(binary.LittleEndian.Uint64(filetest.Read(t, p, 1024+360, 8)))
			filetest.Write(t, p, block*4096+4, le32(5))
		}},
		{"superblock checksum", "-t ext4", "superblock's checksum", func(t *testing.T, p string) {
			filetest.Write(t, p, 1024+1020, []byte{1, 2, 3, 4})
		}},
		{"bitmap checksum", "-t ext4 -b 1024", "block bitmap's checksum", func(t *testing.T, p string) {
			block := regexp.MustCompile(`Block bitmap at (\d+)`).FindStringSubmatch(run(t, "dumpe2fs", p))[1]
			n, _ := strconv.ParseInt(block, 10, 64)
			filetest.Write(t, p, n*1024+100, []byte{^filetest.Read(t, p, n*1024+100, 1)[0]})
		}},
		{"free count", "-t ext2 -b 1024", "free clusters", func(t *testing.T, p string) {
			filetest.Write(t, p, 2048+0xC, []byte{1, 0})
		}},
		{"cut short", "-t ext4", "cut short", func(t *testing.T, p string) { run(t, "truncate", "-s", "20M", p) }},
		{"block size", "-t ext2", "block size", func(t *testing.T, p string) { filetest.Write(t, p, 1024+24, le32(77)) }},
		{"blocks per group", "-t ext2", "groups of", func(t *testing.T, p string) { filetest.Write(t, p, 1024+32, le32(0)) }},
		{"bitmap outside", "-t ext2 -b 1024", "metadata lies", func(t *testing.T, p string) { filetest.Write(t, p, 2048, le32(1<<30)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			path, _ := makeExt(t, 40*mib, c.args)
			c.damage(t, path)
			_, err := Open(t.Context(), path, Options{})
			var dirty *DirtyError
			if !errors.As(err, &dirty) || !strings.Contains(dirty.Reason, c.reason) {
				t.Fatalf("got %v, want a DirtyError about %q", err, c.reason)
			}
			s := open(t, path, Options{Force: true})
			if used(s) != s.Size() {
				t.Errorf("%d of %d bytes are used, want all", used(s), s.Size())
			}
			if len(s.Notes()) != 1 || !strings.Contains(s.Notes()[0], c.reason) {
				t.Errorf("notes %q", s.Notes())
			}
		})
	}
}

// TestExtReplay images a file system whose journal holds blocks that the bitmap calls free, with Force.
func TestExtReplay(t *testing.T) {
	path, want := makeExt(t, 40*mib, "-t ext4")
	runInput(t, "jo\njw -b 9000 /etc/hostname\njc\n", "debugfs", "-w", "-f", "-", path)
	if _, err := Open(t.Context(), path, Options{}); !strings.Contains(err.Error(), "recovery") {
		t.Fatalf("got %v", err)
	}
	target := restore(t, open(t, path, Options{Force: true}))
	cmd := exec.Command("e2fsck", "-fy", target)
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() > 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	out := filepath.Join(scratch(t), "out")
	run(t, "mkdir", out)
	run(t, "debugfs", "-R", "rdump / "+out, target)
	sameTree(t, want, out)
}

func TestExtUnknownFeature(t *testing.T) {
	path, _ := makeExt(t, 40*mib, "-t ext2")
	filetest.Write(t, path, 1024+96, []byte{2, 0, 0, 0x40})
	s := open(t, path, Options{})
	if used(s) != s.Size() || len(s.Notes()) != 1 || !strings.Contains(s.Notes()[0], "0x40000000") {
		t.Errorf("%d bytes used, notes %q", used(s), s.Notes())
	}
}
