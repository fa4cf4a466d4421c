package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
)

// runTool runs swarmboot and returns its exit code and output.
func runTool(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool(t), args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	cmd.Run() //nolint:errcheck // the code is returned
	return cmd.ProcessState.ExitCode(), out.String(), errOut.String()
}

func mustRun(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	code, out, errOut := runTool(t, args...)
	if code != cli.CodeDone {
		t.Fatalf("swarmboot %q: code %d\n%s%s", args, code, out, errOut)
	}
	return out, errOut
}

func fill(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.WriteFile(path, bytes.Repeat([]byte{pattern}, int(size)), 0o644); err != nil {
		t.Fatal(err)
	}
}

const gptScript = `label: gpt
start=1MiB, size=8MiB, type=uefi
start=9MiB, size=32MiB, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=root
start=41MiB, size=8MiB, type=swap
start=49MiB, size=2MiB, type=linux
`

var gptParts = []part{{1 * mib, 8 * mib, "vfat"}, {9 * mib, 32 * mib, "ext4"}, {41 * mib, 8 * mib, "swap"}, {49 * mib, 2 * mib, ""}}

// TestImageGPT: create, verify, write to a larger target full of a pattern; foreign tools judge what came out.
func TestImageGPT(t *testing.T) {
	dir := t.TempDir()
	disk, target := filepath.Join(dir, "disk"), filepath.Join(dir, "target")
	makeDisk(t, disk, 56*mib, gptScript, gptParts)
	for _, layout := range []string{"packed", "verbatim"} {
		name := filepath.Join(dir, layout)
		_, notes := mustRun(t, "image", "create", "--layout", layout, disk, name)
		if !strings.Contains(notes, "partition 4") {
			t.Errorf("nothing is said about the partition that was not understood:\n%s", notes)
		}
		mustRun(t, "image", "verify", name)
		fill(t, target, 61*mib)
		mustRun(t, "image", "write", "--verify", "readback", name+".json", target)
		checkGPT(t, disk, target)
		raw := filepath.Join(dir, layout+".raw")
		mustRun(t, "image", "export", name, "raw", raw)
		checkExport(t, raw, 56*mib)
	}
}

func checkGPT(t *testing.T, disk, target string) {
	t.Helper()
	if out := judge(t, "", "sgdisk", "-v", target); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk -v:\n%s", out)
	}
	judge(t, "", "sfdisk", "--verify", target)
	if a, b := partitionLines(t, disk), partitionLines(t, target); a != b {
		t.Errorf("partitions differ:\n%s\n%s", a, b)
	}
	esp, root := cut(t, target, gptParts[0]), cut(t, target, gptParts[1])
	judge(t, "", "fsck.fat", "-n", esp)
	judge(t, "", "e2fsck", "-fn", root)
	compareExt(t, cut(t, disk, gptParts[1]), root, gptParts[1].size)
	compareTrees(t, cut(t, disk, gptParts[0]), esp)
	if out := judge(t, "", "blkid", "-p", cut(t, target, gptParts[2])); !strings.Contains(out, `TYPE="swap"`) {
		t.Errorf("the swap partition is none: %s", out)
	}
	if b, err := os.ReadFile(cut(t, target, gptParts[2])); err != nil || bytes.Count(b[64<<10:], []byte{pattern}) != len(b)-64<<10 {
		t.Errorf("more than the header of the swap area was written (%v)", err)
	}
	judge(t, "", "cmp", cut(t, disk, gptParts[3]), cut(t, target, gptParts[3]))
}

// partitionLines is sfdisk's dump without what names the file.
func partitionLines(t *testing.T, disk string) string {
	t.Helper()
	var lines []string
	for l := range strings.Lines(judge(t, "", "sfdisk", "-d", disk)) {
		if _, after, ok := strings.Cut(l, "start="); ok {
			lines = append(lines, after)
		}
	}
	return strings.Join(lines, "")
}

// compareTrees compares the files of two FAT file systems.
func compareTrees(t *testing.T, a, b string) {
	t.Helper()
	x, y := t.TempDir(), t.TempDir()
	judge(t, "", "mcopy", "-s", "-i", a, "::", x)
	judge(t, "", "mcopy", "-s", "-i", b, "::", y)
	judge(t, "", "diff", "-r", x, y)
	if m, _ := filepath.Glob(filepath.Join(x, "*", "*")); len(m) != 40 {
		t.Errorf("%d files in the FAT file system, want 40", len(m))
	}
}

func checkExport(t *testing.T, raw string, size int64) {
	t.Helper()
	fi, err := os.Stat(raw)
	if err != nil || fi.Size() != size {
		t.Fatalf("export: %v, %v", fi, err)
	}
	if used := fi.Sys().(*syscall.Stat_t).Blocks * 512; used > size/2 {
		t.Errorf("the exported file takes %d bytes: not sparse", used)
	}
	judge(t, "", "sgdisk", "-v", raw)
	judge(t, "", "e2fsck", "-fn", cut(t, raw, gptParts[1]))
}

// TestImageMBR: primary and logical partitions.
func TestImageMBR(t *testing.T) {
	dir := t.TempDir()
	disk, target, name := filepath.Join(dir, "disk"), filepath.Join(dir, "target"), filepath.Join(dir, "img")
	parts := []part{{1 * mib, 10 * mib, "ext4"}, {12 * mib, 12 * mib, "ext4"}}
	makeDisk(t, disk, 32*mib, "label: dos\nlabel-id: 0x1badcafe\n1MiB,10MiB,L,*\n11MiB,20MiB,E\n12MiB,12MiB,L\n", parts)
	mustRun(t, "image", "create", "--root", "1", disk, name)
	fill(t, target, 40*mib)
	mustRun(t, "image", "write", name, target)
	judge(t, "", "sfdisk", "--verify", target)
	if a, b := partitionLines(t, disk), partitionLines(t, target); a != b {
		t.Errorf("partitions differ:\n%s\n%s", a, b)
	}
	for _, p := range parts {
		judge(t, "", "e2fsck", "-fn", cut(t, target, p))
		compareExt(t, cut(t, disk, p), cut(t, target, p), p.size)
	}
}

// TestImageBareFileSystem: a file system on the whole disk.
func TestImageBareFileSystem(t *testing.T) {
	dir := t.TempDir()
	disk, target, name := filepath.Join(dir, "disk"), filepath.Join(dir, "target"), filepath.Join(dir, "img")
	makeFS(t, disk, part{0, 24 * mib, "ext4"})
	mustRun(t, "image", "create", disk, name)
	fill(t, target, 24*mib)
	mustRun(t, "image", "write", name, target)
	judge(t, "", "e2fsck", "-fn", target)
	compareExt(t, disk, target, 24*mib)

	// A run that fails leaves nothing that can be mounted, though there is no table to hold back.
	payload, err := os.OpenFile(name+".payload", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer payload.Close()
	fi, err := payload.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := payload.WriteAt(bytes.Repeat([]byte{0xFF}, 4096), fi.Size()-4096); err != nil {
		t.Fatal(err)
	}
	fill(t, target, 24*mib)
	if code, _, msg := runTool(t, "image", "write", name, target); code != cli.CodeVerify {
		t.Errorf("corrupt payload: code %d: %s", code, msg)
	}
	if out, err := exec.CommandContext(t.Context(), "blkid", "-p", target).Output(); err == nil {
		t.Errorf("blkid still finds %s", out)
	}
}

// TestImageSameBytes: the same source, name and time give the same files on one processor and on all.
func TestImageSameBytes(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	makeDisk(t, disk, 56*mib, gptScript, gptParts)
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	for _, d := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mustRun(t, "image", "create", "--workers", "1", disk, filepath.Join(dir, "a", "img"))
	mustRun(t, "image", "create", disk, filepath.Join(dir, "b", "img"))
	for _, ext := range []string{".json", ".payload", ".torrent"} {
		judge(t, "", "cmp", filepath.Join(dir, "a", "img"+ext), filepath.Join(dir, "b", "img"+ext))
	}
}

func TestImageInspect(t *testing.T) {
	dir := t.TempDir()
	disk, name := filepath.Join(dir, "disk"), filepath.Join(dir, "img")
	makeDisk(t, disk, 56*mib, gptScript, gptParts)
	mustRun(t, "image", "create", "--cmdline", "root=LABEL=root quiet", disk, name)
	out, _ := mustRun(t, "image", "inspect", name)
	for _, want := range []string{"partition 2", "root=LABEL=root quiet", "ext4", "vfat", "swap", "info-hash"} {
		if !strings.Contains(out, want) {
			t.Errorf("inspect does not show %q:\n%s", want, out)
		}
	}
	out, _ = mustRun(t, "image", "inspect", "--json", name)
	var m imagefmt.Manifest
	if err := json.Unmarshal([]byte(out), &m); err != nil || m.Name != "img" || m.Boot.Root != 2 || len(m.Table.Partitions) != 4 {
		t.Errorf("inspect --json: %v\n%s", err, out)
	}
}

// only checks that a directory holds nothing but the files named.
func only(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		found := false
		for _, n := range names {
			found = found || n == e.Name()
		}
		if !found {
			t.Errorf("%s was left behind", e.Name())
		}
	}
}

// TestImageCreateInterrupted sends SIGINT while the payload is written: nothing is left.
func TestImageCreateInterrupted(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	disk := filepath.Join(dir, "disk")
	makeFS(t, disk, part{0, 160 * mib, ""})
	cmd := exec.CommandContext(t.Context(), tool(t), "image", "create", "--workers", "1", disk, filepath.Join(out, "img"))
	var msg bytes.Buffer
	cmd.Stderr = &msg
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		if m, _ := filepath.Glob(filepath.Join(out, ".img.payload*")); len(m) > 0 || time.Now().After(limit) {
			break
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	cmd.Wait() //nolint:errcheck // the code is looked at
	if c := cmd.ProcessState.ExitCode(); c != cli.CodeInterrupted || !strings.Contains(msg.String(), "nothing was kept") {
		t.Errorf("code %d: %s", c, &msg)
	}
	only(t, out)
}

// TestImageCreateInterruptedInSearch: the source is still looked at.
func TestImageCreateInterruptedInSearch(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	disk := filepath.Join(dir, "disk")
	makeFS(t, disk, part{0, 16 * mib, ""})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var msg bytes.Buffer
	err := imageCreate(ctx, []string{disk, filepath.Join(out, "img")}, &msg, &msg)
	if cli.Code(err) != cli.CodeInterrupted || !strings.Contains(err.Error(), "nothing was kept") {
		t.Errorf("%v: %s", err, &msg)
	}
	only(t, out)
}

// TestImageNoSpace creates and exports to a file system that is too small.
func TestImageNoSpace(t *testing.T) {
	dir, full := t.TempDir(), t.TempDir()
	if err := syscall.Mount("none", full, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(full, 0) }) //nolint:errcheck // in a directory of its own
	disk := filepath.Join(dir, "disk")
	makeFS(t, disk, part{0, 24 * mib, "ext4"})
	for _, args := range [][]string{
		{"image", "create", "--layout", "verbatim", disk, filepath.Join(full, "img")},
		{"image", "export", filepath.Join(dir, "img"), "raw", filepath.Join(full, "raw")},
	} {
		if args[1] == "export" {
			mustRun(t, "image", "create", disk, filepath.Join(dir, "img"))
		}
		code, _, msg := runTool(t, args...)
		if code != cli.CodeIO || !strings.Contains(msg, "no space left") {
			t.Errorf("%s: code %d: %s", args[1], code, msg)
		}
		only(t, full)
	}
}
