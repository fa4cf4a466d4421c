// Package tooltest runs the foreign tools that make what tests need, and judge what came of it.
package tooltest

import (
	"context"
	"os/exec"
	"strings"
	"time"
)

// limit is for a tool that hangs: e2fsck of 100 TB beside other tests takes minutes.
const limit = 10 * time.Minute

// T is what is used of a test.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Run runs a tool that must succeed, also in a clean-up, and returns what it said, without space around it. One that is missing is a failure,
// too: "make test" installs them.
func Run(t T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}
