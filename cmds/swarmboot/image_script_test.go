package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"swarmboot/internal/cli"
	"swarmboot/internal/looptest"
)

// TestImageScript runs the transcripts of failures: each with its exit code and the proof that nothing was written.
func TestImageScript(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	makeDisk(t, disk, 56*mib, gptScript, gptParts)
	mustRun(t, "image", "create", disk, filepath.Join(dir, "img"))
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/image",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("DISK", disk)
			e.Setenv("IMG", filepath.Join(dir, "img"))
			e.Setenv("PATH", filepath.Dir(tool(t))+":/usr/sbin:/sbin:"+os.Getenv("PATH"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":   imageCodeCmd,
			"target": func(ts *testscript.TestScript, _ bool, a []string) { ts.Check(makePattern(ts.MkAbs(a[0]), a[1])) },
			"hash":   hashCmd,
			"flip":   flipCmd,
			"files":  filesCmd,
		},
	})
}

// runScripts runs the transcripts in dir, which need nothing but the tool.
func runScripts(t *testing.T, dir string) {
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", filepath.Dir(tool(t))+":"+os.Getenv("PATH"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": imageCodeCmd},
	})
}

// imageCodeCmd: code N COMMAND... runs a command that must end with exit code N. Output goes to the file out.
func imageCodeCmd(ts *testscript.TestScript, _ bool, args []string) {
	cmd := exec.CommandContext(context.Background(), filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], args[1]), args[2:]...)
	cmd.Dir = ts.Getenv("WORK")
	out, _ := cmd.CombinedOutput() //nolint:errcheck // the code is looked at
	ts.Check(os.WriteFile(ts.MkAbs("out"), out, 0o644))
	ts.Logf("%s", out)
	if got := fmt.Sprint(cmd.ProcessState.ExitCode()); got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

func makePattern(path, size string) error {
	var n int
	if _, err := fmt.Sscan(size, &n); err != nil {
		return err
	}
	return os.WriteFile(path, bytes.Repeat([]byte{pattern}, n*mib), 0o644)
}

// hashCmd: hash FILE sets $HASH_FILE the first time and compares with it from then on.
func hashCmd(ts *testscript.TestScript, _ bool, args []string) {
	for _, f := range args {
		b, err := os.ReadFile(ts.MkAbs(f))
		ts.Check(err)
		key := "HASH_" + f
		h := fmt.Sprintf("%x", sha256.Sum256(b))
		if old := ts.Getenv(key); old != "" && old != h {
			ts.Fatalf("%s was written to", f)
		}
		ts.Setenv(key, h)
	}
}

// flipCmd: flip FILE OFFSET changes a byte.
func flipCmd(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_RDWR, 0)
	ts.Check(err)
	defer f.Close()
	var off int64
	_, err = fmt.Sscan(args[1], &off)
	ts.Check(err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, off)
	ts.Check(err)
	b[0] ^= 0xFF
	_, err = f.WriteAt(b, off)
	ts.Check(err)
}

// filesCmd: files DIR [NAME...] checks that DIR holds exactly these.
func filesCmd(ts *testscript.TestScript, _ bool, args []string) {
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if g, w := strings.Join(got, " "), strings.Join(args[1:], " "); g != w {
		ts.Fatalf("%s holds %q, want %q", args[0], g, w)
	}
}

// onTerminal runs a command on a terminal of its own and returns what it shows.
func onTerminal(t *testing.T, input string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "script", "-q", "-c", strings.Join(args, " "), "/dev/null")
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("script: %v\n%s", err, out)
	}
	return string(out)
}

// idle waits until nobody has what was mounted on a device: "ip netns exec" of another test copies all mounts for as long as its command runs.
func idle(t *testing.T, dev string) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		f, err := os.OpenFile(dev, os.O_RDONLY|syscall.O_EXCL, 0)
		if err == nil {
			f.Close()
			return
		}
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// TestImageBlockDevice: a block device needs --yes where nobody can be asked, and is refused while it is mounted.
func TestImageBlockDevice(t *testing.T) {
	dir := t.TempDir()
	source, target, name := filepath.Join(dir, "source"), filepath.Join(dir, "target"), filepath.Join(dir, "img")
	makeFS(t, source, part{0, 24 * mib, "ext4"})
	makeFS(t, target, part{0, 24 * mib, "ext4"})
	mustRun(t, "image", "create", source, name)
	dev := looptest.Attach(t, target)
	before, err := os.ReadFile(target)
	if err != nil {
		t.Fatal(err)
	}
	untouched := func(what string) {
		t.Helper()
		judge(t, "", "blockdev", "--flushbufs", dev)
		if after, err := os.ReadFile(target); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s: the device was written to (%v)", what, err)
		}
	}
	if code, _, msg := runTool(t, "image", "write", name, dev); code != cli.CodeUsage || !strings.Contains(msg, "--yes") {
		t.Errorf("without --yes: code %d: %s", code, msg)
	}
	untouched("without --yes")
	if out := onTerminal(t, "no\n", tool(t), "image", "write", name, dev); !strings.Contains(out, dev+", 24.0 MiB") || !strings.Contains(out, "not confirmed") {
		t.Errorf("answered no: %s", out)
	}
	untouched("answered no")
	mnt := t.TempDir()
	judge(t, "", "mount", "-o", "ro", dev, mnt)
	code, _, msg := runTool(t, "image", "write", "--yes", name, dev)
	judge(t, "", "umount", mnt)
	if code != cli.CodeDisk || !strings.Contains(msg, mnt) {
		t.Errorf("mounted: code %d: %s", code, msg)
	}
	untouched("mounted")
	idle(t, dev)
	mustRun(t, "image", "write", "--yes", "--verify", "readback", name, dev)
	judge(t, "", "e2fsck", "-fn", dev)
}

// TestImageSourceInUse: a mounted source and a dirty one are refused, and --force reads them.
func TestImageSourceInUse(t *testing.T) {
	dir := t.TempDir()
	source, name := filepath.Join(dir, "source"), filepath.Join(dir, "img")
	makeFS(t, source, part{0, 24 * mib, "ext4"})
	dev, mnt := looptest.Attach(t, source), t.TempDir()
	judge(t, "", "mount", "-o", "ro", dev, mnt)
	code, _, msg := runTool(t, "image", "create", dev, name)
	if code != cli.CodeOther || !strings.Contains(msg, "--force") {
		t.Errorf("mounted: code %d: %s", code, msg)
	}
	if m, _ := filepath.Glob(name + "*"); len(m) > 0 {
		t.Errorf("mounted: %v was made", m)
	}
	mustRun(t, "image", "create", "--force", dev, name)
	judge(t, "", "umount", mnt)
	judge(t, "", "debugfs", "-w", "-R", "feature needs_recovery", dev)
	code, _, msg = runTool(t, "image", "create", "--overwrite", dev, name)
	if code != cli.CodeOther || !strings.Contains(msg, "dirty") || !strings.Contains(msg, "--force") {
		t.Errorf("dirty: code %d: %s", code, msg)
	}
	mustRun(t, "image", "verify", name)
}
