package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
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
	judge(t, "", "install", "--mode", "755", tool(t), bin)
	cmd := exec.Command(bin, "serve", "--no-netboot", "--images", images, "--http", "127.0.0.1:0", "--bt-listen", "127.0.0.1:0")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	var output strings.Builder
	cmd.Stderr = &output
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	// It listens by the time that it says where.
	url := ""
	for lines := bufio.NewScanner(stdout); url == "" && lines.Scan(); {
		url, _ = strings.CutPrefix(lines.Text(), "status page ")
		if !strings.HasPrefix(url, "http") {
			url = ""
		}
	}
	go io.Copy(io.Discard, stdout) //nolint:errcheck // until it ends
	body, err := fetched(strings.TrimSuffix(url, "/") + "/api/v1/images")
	if err != nil || strings.TrimSpace(body) != "[]" {
		t.Errorf("images at %q: %q, %v", url, body, err)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended already: then that is the error above
	if err := cmd.Wait(); err != nil {
		t.Errorf("serve: %v\n%s", err, output.String())
	}
}

func fetched(url string) (string, error) {
	resp, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK && err == nil {
		err = fmt.Errorf("status %s", resp.Status)
	}
	return string(b), err
}
