package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"swarmboot/internal/durable"
)

const deployed = `{"52:54:00:00:00:0a":{"image":"debian","run":"r","time":"2026-01-02T03:04:05Z"}}`

// imagesFolder makes a folder with an image and a machine that was deployed, and returns where in it the list of those is.
func imagesFolder(t *testing.T) (dir, list string) {
	t.Helper()
	dir = t.TempDir()
	makeImage(t, dir, "debian")
	list = ".swarmboot/nodes.json"
	err := os.Mkdir(filepath.Join(dir, ".swarmboot"), 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, list), []byte(deployed), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir, list
}

// replace puts one folder at the path of another, as a mount does, without one that would stay when the test is killed.
func replace(t *testing.T, folder, by string) {
	t.Helper()
	err := os.Rename(folder, folder+".old")
	if err == nil {
		err = os.Rename(by, folder)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// endsReplaced asks the server until it ends, which has to be because of its folder, or there is an answer with part in it, which it returns.
func endsReplaced(t *testing.T, done chan error, ask func() (*http.Response, error), part string) string {
	t.Helper()
	for {
		select {
		case err := <-done:
			if !errors.Is(err, durable.ErrReplaced) {
				t.Errorf("it ended with: %v", err)
			}
			http.DefaultClient.CloseIdleConnections()
			return ""
		default:
		}
		resp, err := ask()
		if err != nil {
			continue // it is ending
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if strings.Contains(resp.Status+string(b), part) {
			return string(b)
		}
	}
}

// After a power cut the server may come up before the file system of the images: what it finds there later has a list of deployed machines
// that it has not read.
func TestImagesAreMountedLate(t *testing.T) {
	real, list := imagesFolder(t)
	point := t.TempDir()
	base, cancel, done := launch(t, Options{Images: point})
	defer cancel()
	const ask = "/boot/script?mac=52-54-00-00-00-0a"
	waitFor(t, base+ask, "no image is ready")
	replace(t, point, real)
	if bad := endsReplaced(t, done, func() (*http.Response, error) { return http.Get(base + ask) }, "swarmboot.image="); bad != "" { //nolint:noctx // the server ends
		t.Errorf("a machine of the list that was not read is overwritten:\n%s", bad)
	}
	if b, err := os.ReadFile(filepath.Join(point, list)); err != nil || string(b) != deployed {
		t.Errorf("%s %v", b, err)
	}
}

func TestImagesGoAway(t *testing.T) {
	point, list := imagesFolder(t)
	base, cancel, done := launch(t, Options{Images: point})
	defer cancel()
	replace(t, point, t.TempDir())
	report := func() (*http.Response, error) {
		return http.Post(base+"/api/v1/nodes", "application/json", strings.NewReader(`{"node":"n","run":"r","image":"debian","phase":"done"}`)) //nolint:noctx // the server ends
	}
	if bad := endsReplaced(t, done, report, "200 OK"); bad != "" {
		t.Error("a deployment counts as saved")
	}
	if entries, err := os.ReadDir(point); err != nil || len(entries) > 0 {
		t.Errorf("on the bare mount point: %v %v", entries, err)
	}
	if b, err := os.ReadFile(filepath.Join(point+".old", list)); err != nil || string(b) != deployed {
		t.Errorf("%s %v", b, err)
	}
}

func TestTwoServersOfOneFolder(t *testing.T) {
	dir, list := imagesFolder(t)
	base, stop := start(t, Options{Images: dir})
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, images := range []string{dir, link} {
		ctx, cancel := context.WithCancel(t.Context())
		err := Run(ctx, Options{Images: images, HTTP: "127.0.0.1:0", BTListen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler), Listening: func(net.Addr) { cancel() }})
		cancel()
		if err == nil || !strings.Contains(err.Error(), "another server serves "+images+":") {
			t.Errorf("a second server: %v", err)
		}
	}
	post(t, base+"/api/v1/nodes", `{"node":"n","run":"r","image":"debian","phase":"done"}`)
	stop()
	start(t, Options{Images: dir})
	if b, err := os.ReadFile(filepath.Join(dir, list)); err != nil || !strings.Contains(string(b), `"n"`) || !strings.Contains(string(b), "52:54:00:00:00:0a") {
		t.Errorf("%s %v", b, err)
	}
}

// Locks of files are a process's children's, too, unless the file is closed for them.
func TestLockIsNotInherited(t *testing.T) {
	dir := t.TempDir()
	_, stop := start(t, Options{Images: dir})
	child := exec.CommandContext(t.Context(), "cat")
	in, err := child.StdinPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	stop()
	start(t, Options{Images: dir})
	in.Close()
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
}

// A folder that cannot be written, or locked, is served with a warning.
func TestFolderThatCannotBeLocked(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".swarmboot"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s := &server{Options: Options{Images: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))}}
	if err := s.lock(); err != nil || !strings.Contains(log.String(), "would not be noticed") {
		t.Errorf("%v, %s", err, log.String())
	}
}
