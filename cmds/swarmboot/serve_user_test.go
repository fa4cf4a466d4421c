package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// nobody is Debian's user with no rights.
const nobody = 65534

// serve --no-netboot is for any host, as an ordinary user: without the right to open raw sockets or low ports, and with a folder
// of images that it cannot write to.
func TestServeAsOrdinaryUser(t *testing.T) {
	dir, err := os.MkdirTemp("", "swarmboot-serve-") // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	images := filepath.Join(dir, "images")
	bin := filepath.Join(dir, "swarmboot")
	if err := os.Mkdir(images, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	addr := freeAddr(t)
	cmd := exec.Command(bin, "serve", "--no-netboot", "--images", images, "--http", addr, "--bt-listen", "127.0.0.1:0")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	body, err := firstAnswer("http://"+addr+"/api/v1/images", ended)
	if err != nil || strings.TrimSpace(body) != "[]" {
		t.Errorf("images: %q, %v", body, err)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended already: then that is the error above
	if err := <-ended; err != nil {
		t.Errorf("serve: %v\n%s", err, output.String())
	}
}

func freeAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// firstAnswer asks until the server is up or has ended.
func firstAnswer(url string, ended chan error) (string, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			ended <- err
			return "", fmt.Errorf("the server has ended: %w", err)
		case <-tick.C:
		}
		resp, err := http.Get(url)
		if err != nil {
			continue
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK && err == nil {
			err = fmt.Errorf("status %s", resp.Status)
		}
		return string(b), err
	}
}
