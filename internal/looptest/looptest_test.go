package looptest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"swarmboot/internal/filetest"
	"swarmboot/internal/tooltest"
)

func disk(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// gone waits for the kernel, which takes a device away after its last close.
func gone(t *testing.T, file string) {
	t.Helper()
	said := ""
	for range 500 {
		if said = tooltest.Run(t, "losetup", "--associated", file); said == "" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("left over: %s", said)
}

func TestAttach(t *testing.T) {
	file := disk(t)
	dev, detach := AttachFor(t, file, "--sector-size", "4096")
	if said := tooltest.Run(t, "blockdev", "--getss", "--getsize64", dev); said != "4096\n1048576" {
		t.Errorf("blockdev says %q", said)
	}
	filetest.Write(t, dev, 8192, []byte("block"))
	detach()
	detach()
	gone(t, file)
	if b := filetest.Read(t, file, 8192, 5); string(b) != "block" {
		t.Errorf("the file has %q", b)
	}
}

const fileVar = "LOOPTEST_FILE"

// TestKilled kills a test that has a loop device.
func TestKilled(t *testing.T) {
	if file := os.Getenv(fileVar); file != "" {
		dev := Attach(t, file)
		if _, err := os.Stdout.WriteString(dev + "\n"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
	}
	file := disk(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestKilled$")
	cmd.Env = append(os.Environ(), fileVar+"="+file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	n, err := out.Read(b)
	if err != nil || !strings.HasPrefix(string(b[:n]), "/dev/loop") {
		t.Errorf("%q, %v", b[:n], err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // killed
	gone(t, file)
}
