package hooks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func script(text string) Program {
	return Program{Name: "hook", Body: []byte(text), Timeout: 30 * time.Second}
}

// collect runs a program and returns the lines of its output.
func collect(t *testing.T, p Program) (lines []string, res Result, err error) {
	t.Helper()
	res, err = Run(t.Context(), p, func(l string) { lines = append(lines, l) })
	return lines, res, err
}

func TestRun(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		lines      string // joined with |
		failure    string
	}{
		{"shell", "echo a; echo b >&2; printf c", "a|b|c", ""},
		{"interpreter", "#!/bin/sh\necho x", "x", ""},
		{"interpreter with an argument", "#!/bin/sh -e\nfalse\necho x", "", "exit status 1"},
		{"missing shell", "#!/nowhere/bash\necho x", "x", ""},
		{"missing shell by env", "#!/nowhere/env bash\necho x", "x", ""},
		{"missing interpreter", "#!/nowhere/python3\nprint()", "", "interpreter /nowhere/python3 is not there"},
		{"no program", "a\x00b", "", "neither an ELF program nor a script"},
		{"exit code", "echo why; exit 7", "why", "exit status 7"},
		{"signal", "kill -9 $$; sleep 100", "", ""}, // the first process of a namespace is not killed from inside: see below
		{"environment", "echo $X; echo $HOME; pwd", "y z|/root|/", ""},
		{"control characters", `printf 'a\033[2Jb\tc\r\n\377\n'`, "a?[2Jb c|?", ""},
		{"input", "cat; echo end", "end", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "signal" {
				tt.text = "sh -c 'kill -9 $$'; exit $?"
				tt.failure = "exit status 137"
			}
			p := script(tt.text)
			p.Env = []string{"X=y z"}
			lines, res, err := collect(t, p)
			if got := strings.Join(lines, "|"); got != tt.lines && tt.name != "signal" {
				t.Errorf("lines %q", got)
			}
			if (err != nil) != (tt.failure != "") || err != nil && !strings.Contains(err.Error(), tt.failure) {
				t.Errorf("%v, want %q", err, tt.failure)
			}
			if err == nil && (res.Output != strings.Join(lines, "\n") || res.Elapsed <= 0) {
				t.Errorf("%+v", res)
			}
		})
	}
}

func TestELF(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte("package main\nimport \"os\"\nfunc main() { println(os.Args[0] != \"\", os.Getenv(\"X\")); os.Exit(3) }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "main"), source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(dir, "main"))
	if err != nil {
		t.Fatal(err)
	}
	lines, _, err := collect(t, Program{Name: "hook", Body: b, Env: []string{"X=1"}, Timeout: time.Minute})
	if len(lines) != 1 || lines[0] != "true 1" || err == nil || err.Error() != "exit status 3" {
		t.Errorf("%q, %v", lines, err)
	}
}

func TestBounds(t *testing.T) {
	lines, res, err := collect(t, script(`i=0; while [ $i -lt 3000 ]; do echo "line $i"; i=$((i+1)); done; head -c 100000 /dev/zero | tr '\0' x`))
	if err != nil || len(lines) != maxLines+1 || lines[maxLines] != "(more output is not shown)" || len(res.Output) > MaxTail {
		t.Errorf("%d lines, %d bytes, %v", len(lines), len(res.Output), err)
	}
	lines, res, err = collect(t, script("head -c 100000 /dev/zero | tr '\\0' x; echo; echo last"))
	if err != nil || len(lines) != 2 || len(lines[0]) != maxLine || res.Output != "last" {
		t.Errorf("%d lines, %q, %v", len(lines), res.Output, err)
	}
}

// alive says whether a process that carries a mark in its command line is there. The mark is not in ours.
func alive(t *testing.T, mark string) bool {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), mark) {
			return true
		}
	}
	return false
}

// What a program leaves running is gone when Run returns, in the background, in a session of its own, at the time limit and
// when the run is interrupted; and Run does not wait for it.
func TestNothingIsLeft(t *testing.T) {
	const seen = "until [ -e $SEEN ]; do sleep 0.05; done"
	for _, tt := range []struct{ name, text, failure string }{
		{"background", "sleep %[1]s & echo on; " + seen, ""},
		{"session", "setsid sleep %[1]s & (setsid sh -c 'trap \"\" TERM HUP INT; sleep %[1]s' >/dev/null 2>&1 &) ; echo on; " + seen, ""},
		{"time limit", "sleep %[1]s & setsid sleep %[1]s & echo on; sleep %[1]s", "not done within 2s"},
		{"interrupted", "setsid sleep %[1]s & echo on; sleep %[1]s", "context canceled"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mark := fmt.Sprintf("86400.%d%d", os.Getpid(), time.Now().UnixNano()%1_000_000)
			p := script(fmt.Sprintf(tt.text, mark))
			if tt.name == "time limit" {
				p.Timeout = 2 * time.Second
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			was := false
			p.Env = []string{"SEEN=" + filepath.Join(t.TempDir(), "seen")}
			_, err := Run(ctx, p, func(string) {
				for limit := time.Now().Add(2 * time.Minute); !was && time.Now().Before(limit); {
					was = alive(t, mark)
				}
				if err := os.WriteFile(strings.TrimPrefix(p.Env[0], "SEEN="), nil, 0o600); err != nil {
					t.Error(err)
				}
				if tt.name == "interrupted" {
					cancel()
				}
			})
			if (err != nil) != (tt.failure != "") || err != nil && !strings.Contains(err.Error(), tt.failure) {
				t.Errorf("%v, want %q", err, tt.failure)
			}
			if !was || alive(t, mark) {
				t.Errorf("running while it ran: %v; afterwards: %v", was, alive(t, mark))
			}
		})
	}
}

// A process that no signal ends is waited for only so long, and says nothing any more.
func TestProcessThatDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines []string
		out := &output{line: func(l string) { lines = append(lines, l) }}
		wakes := make(chan struct{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		err := within(ctx, endLimit, func() error {
			_, _ = out.Write([]byte("first\n"))
			<-wakes
			_, err := out.Write([]byte("second\n"))
			return err
		})
		if waited := time.Since(began); !errors.Is(err, errStuck) || waited != time.Minute+endLimit {
			t.Errorf("after %s: %v", waited, err)
		}
		tail := out.end()
		close(wakes)
		synctest.Wait()
		if got := strings.Join(lines, "|"); got != "first" || tail != "first" {
			t.Errorf("lines %q, tail %q", got, tail)
		}
		if err := within(ctx, endLimit, func() error { return context.Canceled }); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// What a program mounts is not seen outside, and does not hold the file system on which it did so.
func TestMounts(t *testing.T) {
	dir := t.TempDir()
	img := filepath.Join(t.TempDir(), "fs")
	for _, c := range []string{"truncate -s 16M " + img, "mkfs.ext4 -q " + img, "mount -o loop " + img + " " + dir, "mkdir " + dir + "/sub"} {
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", c).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", c, err, out)
		}
	}
	p := script("mount -t tmpfs none $T/sub; touch $T/sub/hidden $T/kept; (cd $T/sub && exec sleep 86400) & ls $T/sub")
	p.Env = []string{"T=" + dir}
	lines, _, err := collect(t, p)
	if err != nil || len(lines) != 1 || lines[0] != "hidden" {
		t.Errorf("%q, %v", lines, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "sub", "hidden")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the mount is still there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "kept")); err != nil {
		t.Error(err)
	}
	if out, err := exec.CommandContext(t.Context(), "umount", dir).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
