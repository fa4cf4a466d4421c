package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"swarmboot/internal/cli"
	"swarmboot/internal/event"
	"swarmboot/internal/params"
)

func TestParseBootif(t *testing.T) {
	for line, want := range map[string]string{
		"quiet BOOTIF=01-52-54-00-12-34-56 x": "52:54:00:12:34:56",
		"BOOTIF=52-54-00-12-34-56":            "", // no hardware type
		"BOOTIF=01-52-54":                     "",
		"quiet":                               "",
	} {
		if got := parseBootif([]byte(line)).String(); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// What is no order to load is none to load.
func TestModprobeOnlyLoads(t *testing.T) {
	for _, option := range []string{"-r", "--remove", "-n", "--dry-run"} {
		if err := modprobeIn(t.TempDir(), []string{option, "loop"}); err == nil || !strings.Contains(err.Error(), option) {
			t.Errorf("%s: %v", option, err)
		}
	}
	for _, args := range [][]string{{"-q", "--", "loop"}, {"-v", "loop"}} {
		if err := modprobeIn(t.TempDir(), args); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestConsoleIsPlain(t *testing.T) {
	var shown, log bytes.Buffer
	c := &console{outs: []*screen{{Writer: &shown}}, kmsg: &log}
	c.printf("one\ntwo \x1b[31mred\x00\n")
	if got := shown.String(); got != "swarmboot: one\r\nswarmboot: two [31mred\r\n" {
		t.Errorf("screen %q", got)
	}
	if got := log.String(); got != "<7>swarmboot: one\n<7>swarmboot: two [31mred\n" {
		t.Errorf("log %q", got)
	}
	log.Reset()
	c.line(strings.Repeat("x", 5000))
	if log.Len() > 1000 {
		t.Errorf("a log record of %d bytes", log.Len())
	}
	if last := c.copy(strings.NewReader("first\nlast words\n\n")); last != "last words" {
		t.Errorf("last line %q", last)
	}
}

// A dry run does not start what is on the disk.
func TestNext(t *testing.T) {
	for _, c := range []struct {
		action     params.Action
		then, want params.Then
	}{
		{params.ActionDeploy, params.ThenKexec, params.ThenKexec}, {params.ActionPlan, params.ThenKexec, params.ThenShell},
		{params.ActionPlan, params.ThenPowerOff, params.ThenPowerOff}, {params.ActionPlan, params.ThenReboot, params.ThenReboot},
	} {
		if got := next(&params.Config{Action: c.action, Then: c.then}); got != c.want {
			t.Errorf("%s, then %s: %s, want %s", c.action, c.then, got, c.want)
		}
	}
}

// oneReaper: a second one in the same process would take the first one's children away.
var oneReaper = sync.OnceValue(newChildren)

// The engine's word decides who tells the server, whatever its code is: one that was killed or has crashed said none.
func TestVerdict(t *testing.T) {
	c := oneReaper()
	sent, unsent := &event.Settled{}, &event.Settled{Unsent: &event.Progress{}}
	for _, tt := range []struct {
		script string
		s      *event.Settled
		told   bool
		code   int
		text   string
	}{
		{"exit 0", sent, true, cli.CodeDone, ""},
		{"exit 3", sent, true, cli.CodeDisk, "code 3: no disk"},
		{"exit 3", unsent, false, cli.CodeDisk, "code 3: no disk"},
		{"exit 5", unsent, false, cli.CodeIO, "code 5"},
		{"exit 7", sent, true, cli.CodeUnreachable, "code 7"},
		{"exit 7", unsent, false, cli.CodeUnreachable, "code 7"},
		{"exit 2", nil, false, cli.CodeUsage, "code 2"},
		{"kill -9 $$", sent, false, cli.CodeOther, "signal 9"},
	} {
		ended, err := c.start(exec.Command("/bin/sh", "-c", tt.script))
		if err != nil {
			t.Fatal(err)
		}
		told, err := verdict(<-ended, tt.s, "no disk")
		if told != tt.told || cli.Code(err) != tt.code || err != nil && !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s, %+v: told %v, code %d, %v", tt.script, tt.s, told, cli.Code(err), err)
		}
	}
}

func TestOrphansAreReaped(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	c := oneReaper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", "(sleep 0.1; echo orphan done) & echo $!")
	cmd.Stdout = w
	ended, err := c.start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	<-ended
	out, err := io.ReadAll(r) // ends when the orphan has closed it, as it ends
	if err != nil || !strings.Contains(string(out), "orphan done") {
		t.Fatalf("%q, %v", out, err)
	}
	pid := strings.TrimSpace(strings.Split(string(out), "\n")[0])
	// The kernel closes the orphan's pipe before it makes a zombie of it, on a busy machine long before.
	for range 10000 {
		if _, err := os.Stat("/proc/" + pid); err != nil {
			return
		}
		c.reap()
		time.Sleep(time.Millisecond)
	}
	t.Errorf("process %s is still there as a zombie", pid)
}

func TestGuardSurvivesPanic(t *testing.T) {
	var shown bytes.Buffer
	n := &node{con: &console{outs: []*screen{{Writer: &shown}}}}
	n.guard("step", func() { panic("oops") })
	if !strings.Contains(shown.String(), "step: panic: oops") {
		t.Errorf("screen %q", &shown)
	}
}

// The engine's word on then= and onerror= counts; a word that cannot be read leaves the command line's.
func TestSettle(t *testing.T) {
	for _, tt := range []struct {
		text    string
		then    params.Then
		onError params.OnError
	}{
		{`{"then":"poweroff","onError":"reboot"}`, params.ThenPowerOff, params.OnErrorReboot},
		{`{"then":"reboot","onError":"","action":"plan"}`, params.ThenReboot, params.OnErrorShell},
		{`{"then":"exit","onError":""}`, params.ThenKexec, params.OnErrorShell},
		{`{"then":"powero`, params.ThenKexec, params.OnErrorShell},
		{"", params.ThenKexec, params.OnErrorShell},
	} {
		path := filepath.Join(t.TempDir(), "settled")
		if tt.text != "" {
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cfg := params.Default()
		if s := settle(cfg, path); (s != nil) != json.Valid([]byte(tt.text)) {
			t.Errorf("%q: %+v", tt.text, s)
		}
		if cfg.Then != tt.then || cfg.OnError != tt.onError || (cfg.Action == params.ActionPlan) != strings.Contains(tt.text, "plan") {
			t.Errorf("%q: then %s, onerror %s, action %s", tt.text, cfg.Then, cfg.OnError, cfg.Action)
		}
	}
}

// The engine may read at any moment: it finds nothing, or all of it. A report made here says it too.
func TestSwitchIsHandedOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "switch")
	var shown bytes.Buffer
	n := &node{con: &console{outs: []*screen{{Writer: &shown}}}, switchPath: path}
	for _, want := range []event.Switch{{ID: "mac:02:00:00:00:00:51", Name: "sw-r7", Port: "1/7"}, {Name: "sw-r8"}} {
		n.atSwitch(want)
		var got event.Switch
		b, err := os.ReadFile(path)
		if err != nil || json.Unmarshal(b, &got) != nil || got != want || n.where() != want {
			t.Errorf("%v: %s, %+v", err, b, n.where())
		}
	}
	if !strings.Contains(shown.String(), "at switch sw-r7 1/7\r\n") {
		t.Errorf("shown: %q", &shown)
	}
	if left, _ := filepath.Glob(path + "?*"); left != nil {
		t.Errorf("left over: %q", left)
	}
}
