package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"swarmboot/internal/web"
	"swarmboot/qemu-tests/lab"
)

// ImageName is the name under which the Debian disk is served.
const ImageName = "debian"

// poll is the time between two looks at the server's status.
const poll = 250 * time.Millisecond

// Cluster is a server and the machines that boot from it, on a network of their own.
type Cluster struct {
	*Files
	Dir string // logs, disks
	URL string // of the server, inside the network

	net    *lab.Network
	client *http.Client
	server *exec.Cmd
	exited chan struct{}
	nodes  []*Node
}

// CreateImage runs "swarmboot image create" on the Debian disk; what it prints goes to w.
func (f *Files) CreateImage(ctx context.Context, dir string, w io.Writer, args ...string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("image directory: %w", err)
	}
	args = append([]string{"image", "create"}, args...)
	cmd := exec.CommandContext(ctx, f.Program("swarmboot"), append(args, f.Disk, filepath.Join(dir, ImageName))...)
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("swarmboot image create: %w", err)
	}
	return nil
}

// Share makes a folder that serves the image of another one: a server keeps in its own folder which machines it has deployed.
func Share(images, folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("image directory: %w", err)
	}
	for _, ending := range []string{".json", ".torrent", ".payload"} {
		file, err := filepath.Abs(filepath.Join(images, ImageName+ending))
		if err == nil {
			err = os.Symlink(file, filepath.Join(folder, ImageName+ending))
		}
		if err != nil {
			return fmt.Errorf("share an image: %w", err)
		}
	}
	return nil
}

// Start makes a network and runs "swarmboot serve" in it with the images of a directory. Logs and disks go to dir.
// The server serves every machine that boots the Debian image, with its console on the serial line; that it
// deployed machines with the same addresses in an earlier run is forgotten.
func (f *Files) Start(ctx context.Context, dir, images string, serveArgs ...string) (*Cluster, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("log directory: %w", err)
	}
	if err := os.RemoveAll(filepath.Join(images, ".swarmboot")); err != nil {
		return nil, fmt.Errorf("the server's earlier state: %w", err)
	}
	network, err := lab.NewNetwork(ctx)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Files: f, Dir: dir, URL: "http://" + lab.Address + ":8080", net: network, client: network.HTTPClient()}
	if err := c.serve(ctx, images, serveArgs); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// T is what is used of a test.
type T interface {
	Helper()
	Cleanup(f func())
	Error(args ...any)
	Fatal(args ...any)
}

// StartFor is Start for a test, at whose end the cluster is closed.
func (f *Files) StartFor(ctx context.Context, t T, dir, images string, serveArgs ...string) *Cluster {
	t.Helper()
	c, err := f.Start(ctx, dir, images, serveArgs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// ServerLog is the file with what the server says.
func (c *Cluster) ServerLog() string { return filepath.Join(c.Dir, "server.log") }

func (c *Cluster) serve(ctx context.Context, images string, extra []string) error {
	log, err := os.Create(c.ServerLog())
	if err != nil {
		return fmt.Errorf("server log: %w", err)
	}
	defer log.Close() // the server has its own copy
	args := []string{
		"serve", "--images", images, "--interface", lab.Bridge,
		"--kernel", c.Kernel, "--initramfs", c.Initramfs, "--image", ImageName,
		"--console", "ttyS0", "--append", "console=ttyS0",
	}
	c.server = c.net.Command(ctx, c.Program("swarmboot"), append(args, extra...)...)
	c.server.Stdout, c.server.Stderr = log, log
	if err := c.server.Start(); err != nil {
		c.server = nil
		return fmt.Errorf("start the server: %w", err)
	}
	c.exited = make(chan struct{})
	go func() {
		_ = c.server.Wait()
		close(c.exited)
	}()
	return c.waitReady(ctx)
}

// waitReady waits until the server answers and has checked the image.
func (c *Cluster) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	state := "no answer yet"
	for {
		var images []web.ImageInfo
		if err := c.get(ctx, "/api/v1/images", &images); err == nil {
			for _, im := range images {
				if state = im.State; im.Name == ImageName && state == "ready" {
					return nil
				}
			}
		}
		select {
		case <-c.exited:
			return fmt.Errorf("the server ended: %s", lab.Tail(c.ServerLog()))
		case <-ctx.Done():
			return fmt.Errorf("the server does not have the image ready (%s): %s", state, lab.Tail(c.ServerLog()))
		case <-time.After(poll):
		}
	}
}

func (c *Cluster) get(ctx context.Context, path string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(v)
}

// Nodes asks the server for its nodes.
func (c *Cluster) Nodes(ctx context.Context) ([]web.Node, error) {
	var nodes []web.Node
	if err := c.get(ctx, "/api/v1/nodes", &nodes); err != nil {
		return nil, fmt.Errorf("server's nodes: %w", err)
	}
	return nodes, nil
}

// Image asks the server about the image.
func (c *Cluster) Image(ctx context.Context) (web.ImageInfo, error) {
	var images []web.ImageInfo
	if err := c.get(ctx, "/api/v1/images", &images); err != nil {
		return web.ImageInfo{}, fmt.Errorf("server's images: %w", err)
	}
	for _, im := range images {
		if im.Name == ImageName {
			return im, nil
		}
	}
	return web.ImageInfo{}, fmt.Errorf("the server does not list image %s", ImageName)
}

// Close stops the machines and the server and removes the network.
func (c *Cluster) Close() error {
	for _, n := range c.nodes {
		n.VM.Stop()
	}
	if c.server != nil {
		_ = c.server.Cancel()
		select {
		case <-c.exited:
		case <-time.After(5 * time.Second):
			_ = c.server.Process.Kill()
			<-c.exited
		}
	}
	return c.net.Close()
}
