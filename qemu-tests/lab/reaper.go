package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
)

// The reaper is a child that outlives this process by a moment, however it ends: by a signal that nobody catches, by the panic of
// "go test -timeout", by SIGKILL. It removes what was noted and is still there. It hears of the end by its standard input, which
// this process, and the commands that make what was noted, hold open.
type reaper struct {
	once sync.Once
	mu   sync.Mutex
	pipe *os.File
	err  error
}

var theReaper reaper

// Kinds of what the reaper removes.
const (
	aNamespace = "netns"
	aLoop      = "loop"     // by the file behind the device: its number may be somebody else's by then
	aThrottle  = "throttle" // of a device's number, and the file behind it
	aFolder    = "folder"
)

// reap removes the latest first: a loop device before the folder with its file. Processes in a namespace are killed; the kernel
// takes away its bridges and taps when the last of them has ended.
const reap = `trap '' HUP INT QUIT TERM
noted=
while read -r kind name; do noted="$kind $name
$noted"; done
printf %s "$noted" | while read -r kind name; do
  case $kind in
  netns)
    tries=0
    while pids=$(ip netns pids "$name") && [ -n "$pids" ] && [ $tries -lt 100 ]; do
      kill -KILL $pids
      tries=$((tries + 1))
      sleep 0.1
    done
    ip netns delete "$name";;
  loop) losetup --associated "$name" --noheadings --output NAME | xargs --no-run-if-empty --max-args 1 losetup --detach;;
  throttle)
    dev=${name%% *}
    case $(cat "/sys/dev/block/$dev/loop/backing_file" 2>&-) in "" | "${name#* }"*)
      echo "$dev 0" > ` + throttle + `
      echo 100 > "/sys/class/bdi/$dev/max_ratio"
      echo 0 > "/sys/class/bdi/$dev/strict_limit";;
    esac;;
  folder) rm -rf -- "$name";;
  esac
done`

func (r *reaper) start() {
	in, out, err := os.Pipe()
	if err != nil {
		r.err = fmt.Errorf("reaper: %w", err)
		return
	}
	cmd := exec.Command("sh", "-c", reap)
	cmd.Dir = "/"
	cmd.Stdin = in
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what ends a terminal's or a job's processes does not end it
	if err := errors.Join(cmd.Start(), in.Close()); err != nil {
		r.err = errors.Join(fmt.Errorf("reaper: %w", err), out.Close())
		return
	}
	r.pipe = out
	go func() { _ = cmd.Wait() }() // it ends after us
}

// note has something removed when this process ends; it is called before that is made. The name is not used again by others.
func (r *reaper) note(kind, name string) error {
	if r.once.Do(r.start); r.err != nil {
		return r.err
	}
	if strings.ContainsRune(name, '\n') {
		return fmt.Errorf("reaper: the name %q has two lines", name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := fmt.Fprintln(r.pipe, kind, name); err != nil {
		return fmt.Errorf("reaper: %w", err)
	}
	return nil
}

// reapNow removes what is noted in lines of kind and name.
func reapNow(ctx context.Context, noted []string) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", reap)
	cmd.Stdin = strings.NewReader(strings.Join(noted, "\n") + "\n")
	return cmd.Run()
}

// hold has the reaper wait for the end of a command, which may be making what was noted.
func (r *reaper) hold(cmd *exec.Cmd) {
	if r.once.Do(r.start); r.pipe != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, r.pipe)
	}
}

// TempDir makes a folder in dir, as [os.MkdirTemp] does, that goes away with this process if it was not removed before.
func TempDir(dir, pattern string) (string, error) {
	path, err := os.MkdirTemp(dir, pattern)
	if err != nil {
		return "", err
	}
	if err := theReaper.note(aFolder, path); err != nil {
		return "", errors.Join(err, os.Remove(path))
	}
	return path, nil
}

// OwnTemp has all temporary files of this process, those of tests too, lie in a folder that goes away with it if it was not removed before.
func OwnTemp() (string, error) {
	path, err := TempDir("", "swarmboot-test-")
	if err != nil {
		return "", err
	}
	return path, os.Setenv("TMPDIR", path)
}

// AttachLoop makes a loop device of a file, with more arguments for losetup(8). It goes away with this process if [DetachLoop] was not
// called before.
func AttachLoop(ctx context.Context, file string, args ...string) (device string, err error) {
	if err := theReaper.note(aLoop, file); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "losetup", append(args, "--find", "--show", file)...)
	theReaper.hold(cmd)
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("loop device for %s: %w", file, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// DetachLoop takes a loop device away. Nobody may have it open.
func DetachLoop(device string) error { return run(context.Background(), "losetup", "--detach", device) }
