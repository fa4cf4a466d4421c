// Package looptest makes loop devices for tests: the nearest thing to a disk.
package looptest

import (
	"os"
	"sync"

	"swarmboot/internal/tooltest"
)

// T is what is used of a test.
type T interface {
	tooltest.T
	Cleanup(f func())
}

// Attach makes a loop device over a file, with more arguments for losetup(8). It goes away at the end of the test, and with this process
// if that is killed.
func Attach(t T, file string, args ...string) (device string) {
	t.Helper()
	device, _ = AttachFor(t, file, args...)
	return device
}

// AttachFor is Attach with a function that detaches the device before the end of the test.
func AttachFor(t T, file string, args ...string) (device string, detach func()) {
	t.Helper()
	device = tooltest.Run(t, "losetup", append(args, "--find", "--show", file)...)
	f, err := os.Open(device)
	// The kernel keeps a device that was told to go until nobody has it open.
	tooltest.Run(t, "losetup", "--detach", device)
	if err != nil {
		t.Fatalf("%v", err)
	}
	detach = sync.OnceFunc(func() { _ = f.Close() }) // opened to read: nothing is written then
	t.Cleanup(detach)
	return device, detach
}
