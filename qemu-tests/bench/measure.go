package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"swarmboot/imagefmt"
	"swarmboot/internal/event"
	"swarmboot/internal/web"
	"swarmboot/qemu-tests/lab"
	"swarmboot/qemu-tests/scenario"
)

// boot measures the time from the start of the node's kernel to its first step on the disk and to the fetch.
func (b *bench) boot(ctx context.Context) error {
	images := filepath.Join(b.dir, "boot")
	defer os.RemoveAll(images)
	if err := b.CreateImage(ctx, images, io.Discard); err != nil {
		return err
	}
	c, err := b.Start(ctx, filepath.Join(b.Build, "bench"), images, "--then", "poweroff")
	if err != nil {
		return err
	}
	err = b.bootOne(ctx, c)
	return errors.Join(err, c.Close(), os.Remove(filepath.Join(b.Build, "bench", "node1.qcow2")))
}

func (b *bench) bootOne(ctx context.Context, c *scenario.Cluster) error {
	n, err := c.Boot(ctx, scenario.TwoNodes()[0])
	if err != nil {
		return err
	}
	t := scenario.NewTimeline(n)
	_, err = c.WaitNode(ctx, n, func(w web.Node) bool {
		t.Update(w)
		return w.PiecesDone > 0 || w.Phase.Ended()
	})
	if err != nil {
		return err
	}
	kernel, _ := t.At(scenario.MomentKernel)
	for _, m := range []string{scenario.MomentJoined, scenario.MomentFetch} {
		at, ok := t.At(m)
		if !ok {
			return fmt.Errorf("%s: no %q", n.Name, m)
		}
		b.add("kernel start to "+m+", in emulation", (at - kernel).Seconds(), "s")
	}
	b.add("power-on to kernel start, in emulation", kernel.Seconds(), "s")
	return nil
}

// create measures making an image of the Debian disk, from the page cache to tmpfs.
func (b *bench) create(ctx context.Context, layout string) error {
	dir := filepath.Join(b.dir, "create")
	defer os.RemoveAll(dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, b.Program("swarmboot"), "image", "create", "--layout", layout, b.Disk, filepath.Join(dir, "i"))
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("image create: %w: %s", err, out)
	}
	wall := time.Since(start).Seconds()
	m, padding, err := inspect(filepath.Join(dir, "i"))
	if err != nil {
		return err
	}
	name := "image create, Debian, " + layout + ": "
	b.add(name+"used bytes", float64(m.UsedBytes)/1e6, "MB")
	b.add(name+"speed", float64(m.UsedBytes)/1e6/wall, "MB/s")
	b.add(name+"CPU", cpu(cmd.ProcessState), "s")
	b.add(name+"peak memory", rss(cmd.ProcessState), "MiB")
	b.add(name+"payload / used bytes", float64(m.PayloadLength)/float64(m.UsedBytes), "")
	b.add(name+"padding / payload", 100*float64(padding)/float64(m.PayloadLength), "%")
	return nil
}

// inspect reads an image's manifest and counts the bytes of its payload that are neither index nor frames.
func inspect(path string) (*imagefmt.Manifest, int64, error) {
	js, err := os.ReadFile(path + ".json")
	if err != nil {
		return nil, 0, err
	}
	m, err := imagefmt.ParseManifest(js)
	if err != nil {
		return nil, 0, err
	}
	payload, err := os.Open(path + ".payload")
	if err != nil {
		return nil, 0, err
	}
	defer payload.Close()
	raw := make([]byte, m.IndexLength)
	if _, err := payload.ReadAt(raw, 0); err != nil {
		return nil, 0, err
	}
	ix, err := imagefmt.ParseIndex(raw, m)
	if err != nil {
		return nil, 0, err
	}
	padding := m.PayloadLength - m.IndexLength
	for p := ix.IndexPieces(); p < ix.Pieces(); p++ {
		frames, err := ix.Frames(p)
		if err != nil {
			return nil, 0, err
		}
		for _, f := range frames {
			padding -= f.Len
		}
	}
	return m, padding, nil
}

func cpu(s *os.ProcessState) float64 { return (s.UserTime() + s.SystemTime()).Seconds() }

func rss(s *os.ProcessState) float64 {
	if u, ok := s.SysUsage().(*syscall.Rusage); ok {
		return float64(u.Maxrss) / 1024
	}
	return 0
}

// loopback measures deployments from one server to one node.
func (b *bench) loopback(ctx context.Context, size int64, runs int) error {
	disk := filepath.Join(b.dir, "disk.raw")
	if err := b.bigDisk(disk, size); err != nil {
		return fmt.Errorf("make a disk of %d bytes: %w", size, err)
	}
	for _, layout := range []string{"verbatim", "packed"} {
		if err := b.loopbackLayout(ctx, layout, disk, runs); err != nil {
			return fmt.Errorf("deploy on loopback, %s: %w", layout, err)
		}
	}
	return nil
}

// bigDisk makes a disk without a table from the data of the Debian disk, as often as it takes.
func (b *bench) bigDisk(path string, size int64) error {
	in, err := os.Open(b.Disk)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	// Nothing that could be taken for a partition table or a file system at its start.
	if _, err := io.CopyN(out, rand.NewChaCha8([32]byte{1}), 1<<20); err != nil {
		return err
	}
	const seekData, seekHole = 3, 4
	for at, written := int64(2<<20), int64(1<<20); written < size; {
		from, err := in.Seek(at, seekData)
		if errors.Is(err, syscall.ENXIO) {
			at = 2 << 20
			continue
		} else if err != nil {
			return err
		}
		to, err := in.Seek(from, seekHole)
		if err != nil {
			return err
		}
		n := min(to-from, size-written)
		if _, err := io.Copy(out, io.NewSectionReader(in, from, n)); err != nil {
			return err
		}
		at, written = to, written+n
	}
	return nil
}

const (
	loopHTTP = "127.0.0.1:18089"
	loopBT   = "127.0.0.1:18090"
)

func (b *bench) loopbackLayout(ctx context.Context, layout, disk string, runs int) error {
	images := filepath.Join(b.dir, "images")
	defer os.RemoveAll(images)
	if err := os.MkdirAll(images, 0o755); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, b.Program("swarmboot"), "image", "create", "--layout", layout, disk, filepath.Join(images, "bench")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("image create: %w: %s", err, out)
	}
	server := exec.CommandContext(ctx, b.Program("swarmboot"), "serve", "--images", images, "--no-netboot", "--http", loopHTTP, "--bt-listen", loopBT)
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	server.Cancel = func() error { return server.Process.Signal(syscall.SIGTERM) }
	var log bytes.Buffer
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		return err
	}
	defer func() { _ = server.Cancel(); _ = server.Wait() }()
	if err := ready(ctx); err != nil {
		return fmt.Errorf("%w; the server says: %s", err, log.String())
	}
	name := "deploy 1 to 1, loopback, " + layout + ": "
	var all []deployment
	var plain []plainCopy
	for range runs {
		if layout == string(imagefmt.Verbatim) {
			p, err := b.plainCopy(ctx, filepath.Join(images, "bench.payload"))
			if err != nil {
				return err
			}
			plain = append(plain, p)
		}
		d, err := b.deployBeside(ctx, server.Process.Pid)
		if err != nil {
			return err
		}
		all = append(all, d)
	}
	b.median(name, all, processPeak(server.Process.Pid))
	if plain != nil {
		b.floor(name, plain, all)
	}
	return nil
}

// deployBeside deploys once and notes what the server and all other programs used meanwhile.
func (b *bench) deployBeside(ctx context.Context, server int) (deployment, error) {
	used, machine, start := processCPU(server), lab.ReadCPU().Used, time.Now()
	d, err := b.deployOnce(ctx)
	if err != nil {
		return d, err
	}
	d.serverCPU = processCPU(server) - used
	d.others = max(0, lab.ReadCPU().Used-machine-d.serverCPU-d.nodeCPU) / time.Since(start).Seconds()
	return d, nil
}

func ready(ctx context.Context) error {
	for range 600 {
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, "http://"+loopHTTP+"/images/bench.json", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
	return errors.New("the server does not have the image ready after a minute")
}

// deployment is what one run took.
type deployment struct {
	bytes            int64
	fetch, wall      float64 // seconds
	nodeCPU, nodeRSS float64 // seconds, MiB
	serverCPU        float64
	others           float64 // processors that other programs had
}

func (b *bench) deployOnce(ctx context.Context) (deployment, error) {
	target := filepath.Join(b.dir, "target.raw")
	defer os.Remove(target)
	st, err := os.Stat(filepath.Join(b.dir, "disk.raw"))
	if err != nil {
		return deployment{}, err
	}
	if err := os.WriteFile(target, nil, 0o600); err != nil {
		return deployment{}, err
	}
	if err := os.Truncate(target, st.Size()); err != nil {
		return deployment{}, err
	}
	cmd := exec.CommandContext(ctx, b.Program("deploy"), "--server", "http://"+loopHTTP, "--image", "bench", "--disk", target, "--node", "bench", "--json")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return deployment{}, fmt.Errorf("deploy: %w: %s%s", err, stderr.String(), lastLine(stdout.String()))
	}
	d := deployment{wall: time.Since(start).Seconds(), nodeCPU: cpu(cmd.ProcessState), nodeRSS: rss(cmd.ProcessState)}
	var last event.Progress
	if err := json.Unmarshal([]byte(lastLine(stdout.String())), &last); err != nil {
		return d, fmt.Errorf("last report of deploy: %w", err)
	}
	if last.Phase != event.PhaseDone {
		return d, fmt.Errorf("deploy ended in phase %q", last.Phase)
	}
	d.bytes = last.BytesDone
	for _, s := range last.Steps {
		if s.Name == event.PhaseFetch {
			d.fetch = s.Seconds
		}
	}
	return d, nil
}

// median adds the run with the median fetch time; the peaks are of all runs.
func (b *bench) median(name string, all []deployment, serverPeak float64) {
	peak := 0.0
	for _, d := range all {
		peak = max(peak, d.nodeRSS)
	}
	slices.SortFunc(all, func(x, y deployment) int { return int((x.fetch - y.fetch) * 1e6) })
	d := all[len(all)/2]
	b.add(name+"raw bytes", float64(d.bytes)/1e6, "MB")
	b.add(name+"raw bytes / fetch time", float64(d.bytes)/1e6/d.fetch, "MB/s")
	b.add(name+"whole run", d.wall, "s")
	b.add(name+"CPU of the node", d.nodeCPU, "s")
	b.add(name+"CPU of the server", d.serverCPU, "s")
	b.add(name+"peak memory of the node", peak, "MiB")
	b.add(name+"peak memory of the server", serverPeak, "MiB")
	b.add(name+"processors that other programs had", d.others, "")
}

// processCPU is the user and system time of a running process, seconds (proc(5), /proc/PID/stat, fields 14 and 15, 100 ticks a second).
func processCPU(pid int) float64 {
	s, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(s[bytes.LastIndexByte(s, ')')+1:]))
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) / 100
}

// processPeak is the peak resident memory of a running process, MiB (VmHWM in /proc/PID/status).
func processPeak(pid int) float64 {
	s, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(s)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024
		}
	}
	return 0
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
