package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"swarmboot/imagefmt"
	"swarmboot/internal/deploy/deploytest"
	"swarmboot/internal/event"
)

// TestScript runs the transcripts in testdata: every documented failure, with its exit code and the proof that
// nothing was written.
func TestScript(t *testing.T) {
	s := newServer(t, 0)
	s.publish(t, "img", 16*mib, imagefmt.Packed, nil)
	s.publish(t, "plain", 16*mib, imagefmt.Verbatim, nil)
	s.publish(t, "bad", 17*mib, imagefmt.Packed, corrupt)
	lost := newServer(t, 0) // knows an image that nobody seeds
	lostImage := lost.publish(t, "lost", 18*mib, imagefmt.Packed, nil)
	lost.seeder.Remove(lostImage.Metainfo.InfoHash)
	lost.tracker.SetSeeder(0)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("SERVER", s.URL)
			e.Setenv("LOST", lost.URL)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":     codeCmd,
			"target":   targetCmd,
			"pristine": pristineCmd,
			"noparts":  noPartsCmd,
			"reported": s.reportedCmd,
		},
	})
}

// codeCmd: code N COMMAND... runs a command that must end with exit code N. Output goes to the files out and err.
func codeCmd(ts *testscript.TestScript, neg bool, args []string) {
	c := exec.CommandContext(context.Background(), args[1], args[2:]...)
	c.Dir = ts.Getenv("WORK")
	c.Env = append(os.Environ(), "PATH="+ts.Getenv("PATH"))
	var out, errOut bytes.Buffer
	c.Stdout, c.Stderr = &out, &errOut
	path, err := lookPath(ts, args[1])
	ts.Check(err)
	c.Path, c.Err = path, nil
	c.Run() //nolint:errcheck // the code is looked at
	ts.Check(os.WriteFile(ts.MkAbs("out"), out.Bytes(), 0o644))
	ts.Check(os.WriteFile(ts.MkAbs("err"), errOut.Bytes(), 0o644))
	ts.Logf("%s%s", out.String(), errOut.String())
	if got := fmt.Sprint(c.ProcessState.ExitCode()); got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

func lookPath(ts *testscript.TestScript, name string) (string, error) {
	for _, d := range filepath.SplitList(ts.Getenv("PATH")) {
		if _, err := os.Stat(filepath.Join(d, name)); err == nil {
			return filepath.Join(d, name), nil
		}
	}
	return "", fmt.Errorf("%s: not in PATH", name)
}

// targetCmd: target FILE MIB makes a file full of deploytest.Pattern.
func targetCmd(ts *testscript.TestScript, neg bool, args []string) {
	var n int64
	_, err := fmt.Sscan(args[1], &n)
	ts.Check(err)
	ts.Check(deploytest.Target(ts.MkAbs(args[0]), n*mib))
}

// pristineCmd: pristine FILE checks that no byte of a target was written.
func pristineCmd(ts *testscript.TestScript, neg bool, args []string) {
	b := ts.ReadFile(args[0])
	for i := range len(b) {
		if b[i] != deploytest.Pattern {
			ts.Fatalf("%s: byte %d was written", args[0], i)
		}
	}
}

// noPartsCmd: noparts FILE checks that there is no partition on a disk.
func noPartsCmd(ts *testscript.TestScript, neg bool, args []string) {
	out, err := exec.CommandContext(context.Background(), "sfdisk", "--json", ts.MkAbs(args[0])).Output()
	if err == nil && strings.Contains(string(out), `"node"`) {
		ts.Fatalf("%s has partitions:\n%s", args[0], out)
	}
}

// reportedCmd: reported NODE CODE checks that the last thing the server heard is a failure with that code.
func (s *testServer) reportedCmd(ts *testscript.TestScript, neg bool, args []string) {
	p := s.last(args[0])
	if p.Phase != event.PhaseFailed || fmt.Sprint(p.ExitCode) != args[1] || p.Error == "" {
		ts.Fatalf("the server heard %+v", p)
	}
}
