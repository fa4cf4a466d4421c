package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// ownMounts marks the process that runs in a mount namespace of its own.
const ownMounts = "TARGET_TEST_OWN_MOUNTS"

// TestMain runs the tests in a mount namespace of their own: in the common one whatever makes another namespace
// meanwhile (ip netns exec does) takes a copy of the tests' mounts with it and keeps their devices busy.
func TestMain(m *testing.M) {
	if os.Getenv(ownMounts) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), ownMounts+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tests in a mount namespace (needs root):", err)
		os.Exit(1)
	}
}
