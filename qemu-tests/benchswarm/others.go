package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"swarmboot/imagefmt"
	"swarmboot/internal/pause"
)

// background starts a program on a host and returns what ends it.
func (r *rig) background(ctx context.Context, host int, name string, args ...string) (stop func(), err error) {
	cmd, err := r.command(context.WithoutCancel(ctx), host, name, args...)
	if err != nil {
		return nil, err
	}
	cmd.Stdout = cmd.Stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w (make deps installs it)", err)
	}
	return func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		_ = cmd.Wait()         // killed: the error says only that
	}, nil
}

// foreground runs a program as a node; its end is the node's end.
func (r *rig) foreground(ctx context.Context, i int, n *nodeResult, t0 time.Time, name string, args ...string) {
	cmd, err := r.command(ctx, i, name, args...)
	if err != nil {
		n.err = err
		return
	}
	cmd.Stdout = cmd.Stderr
	n.err = cmd.Run()
	usage(n, cmd.ProcessState)
	n.end = time.Since(t0)
}

// http fetches the payload with curl from swarmboot's own web server: the counterpart is unicast.
func (r *rig) http(ctx context.Context, p *plan) ([]nodeResult, error) {
	ctx, cancel := context.WithTimeout(ctx, r.limit())
	defer cancel()
	srv := &server{r: r}
	if err := srv.start(ctx); err != nil {
		return nil, err
	}
	defer srv.stop()
	url := "http://" + r.rack.Address(0) + ":" + serverPort + "/images/" + r.name + ".payload"
	return r.nodes(ctx, p, nil, func(ctx context.Context, i int, n *nodeResult, t0 time.Time) {
		r.foreground(ctx, i, n, t0, "curl", "-sS", "--fail", "-o", r.file(i), url)
	})
}

func (r *rig) file(i int) string { return filepath.Join(r.dir, fmt.Sprintf("payload%d", i)) }

// udpcast sends the payload by multicast. All receivers start together: the tool has no late joiners.
func (r *rig) udpcast(ctx context.Context, p *plan) ([]nodeResult, error) {
	ctx, cancel := context.WithTimeout(ctx, r.limit())
	defer cancel()
	stop, err := r.background(ctx, 0, "udp-sender", "--interface", "eth0", "--nokbd", "--full-duplex",
		"--min-receivers", fmt.Sprint(r.o.nodes), "--file", r.image+".payload")
	if err != nil {
		return nil, err
	}
	defer stop()
	return r.nodes(ctx, p, nil, func(ctx context.Context, i int, n *nodeResult, t0 time.Time) {
		r.foreground(ctx, i, n, t0, "udp-receiver", "--interface", "eth0", "--nokbd", "--file", r.file(i))
	})
}

// aria2 fetches the payload with aria2c by way of opentracker, with the options that measured best.
func (r *rig) aria2(ctx context.Context, p *plan) ([]nodeResult, error) {
	ctx, cancel := context.WithTimeout(ctx, r.limit())
	defer cancel()
	torrent, err := r.torrent("6969")
	if err != nil {
		return nil, err
	}
	if err := r.allow(); err != nil {
		return nil, err
	}
	stopTracker, err := r.background(ctx, 0, "opentracker", "-i", r.rack.Address(0), "-p", "6969", "-P", "6969", "-d", r.dir, "-u", "nobody", "-w", "allowed")
	if err != nil {
		return nil, err
	}
	defer stopTracker()
	seedDir, err := r.seedDir()
	if err != nil {
		return nil, err
	}
	stopSeeder, err := r.background(ctx, 0, "aria2c", append(aria2Args(seedDir), "--bt-seed-unverified=true", "--seed-ratio=0", torrent)...)
	if err != nil {
		return nil, err
	}
	defer stopSeeder()
	_ = pause.For(ctx, 2*time.Second) // the seeder's announce: aria2c says nothing when it is done
	return r.nodes(ctx, p, nil, func(ctx context.Context, i int, n *nodeResult, t0 time.Time) {
		r.ariaNode(ctx, i, n, t0, torrent, r.o.nodes)
	})
}

// isForeign says whether an ordinary client takes the place of a node of ours: the last ones are.
func (r *rig) isForeign(i int) bool { return i > r.o.nodes-r.o.foreign }

// foreign fetches the payload with aria2c in a swarm of ours, and seeds until all foreign clients are done.
func (r *rig) foreign(ctx context.Context, i int, n *nodeResult, t0 time.Time) {
	torrent, err := r.torrent(serverPort)
	if err != nil {
		n.err = err
		return
	}
	r.ariaNode(ctx, i, n, t0, torrent, r.o.foreign)
}

// allow writes the list of info-hashes that Debian's opentracker serves. It reads it as nobody, in our folder as its root.
func (r *rig) allow() error {
	mi, err := r.metainfo()
	if err != nil {
		return err
	}
	return errors.Join(os.Chmod(r.dir, 0o755), os.WriteFile(filepath.Join(r.dir, "allowed"), fmt.Appendf(nil, "%x\n", mi.InfoHash), 0o644))
}

func aria2Args(dir string) []string {
	return []string{"--dir", dir, "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false", "--enable-peer-exchange=false",
		"--bt-max-peers=0", "--bt-request-peer-speed-limit=1000M", "--bt-tracker-interval=5", "--max-upload-limit=0",
		"--file-allocation=none", "--summary-interval=0", "--console-log-level=warn", "--follow-torrent=false"}
}

// seedDir holds the payload under the name that the metainfo gives it.
func (r *rig) seedDir() (string, error) {
	dir := filepath.Join(r.dir, "seed")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	payload, err := filepath.Abs(r.image + ".payload")
	if err != nil {
		return "", err
	}
	mi, err := r.metainfo()
	if err != nil {
		return "", err
	}
	return dir, os.Symlink(payload, filepath.Join(dir, mi.Name))
}

func (r *rig) metainfo() (*imagefmt.Metainfo, error) {
	b, err := os.ReadFile(r.image + ".torrent")
	if err != nil {
		return nil, err
	}
	return imagefmt.ParseMetainfo(b)
}

// torrent writes a metainfo file for the tracker at a port of host 0.
func (r *rig) torrent(port string) (string, error) {
	mi, err := r.metainfo()
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(r.dir, "*.torrent")
	if err != nil {
		return "", err
	}
	_, err = f.Write(mi.Marshal("http://" + r.rack.Address(0) + ":" + port + "/announce"))
	return f.Name(), errors.Join(err, f.Close())
}

// ariaNode ends when aria2c's completion hook has left its mark; the node seeds on for the others.
func (r *rig) ariaNode(ctx context.Context, i int, n *nodeResult, t0 time.Time, torrent string, count int) {
	dir := filepath.Join(r.dir, fmt.Sprintf("aria%d", i))
	mark := filepath.Join(dir, "complete")
	hook := filepath.Join(dir, "hook")
	n.err = errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(hook, []byte("#!/bin/sh\ntouch "+mark+"\n"), 0o755))
	if n.err != nil {
		return
	}
	runCtx, stop := context.WithCancel(ctx)
	cmd, err := r.command(runCtx, i, "aria2c", append(aria2Args(dir), "--seed-ratio=0", "--on-bt-download-complete="+hook, torrent)...)
	if err == nil {
		cmd.Stdout = cmd.Stderr
		err = cmd.Start()
	}
	if err != nil {
		stop()
		n.err = err
		return
	}
	n.err = r.ariaWait(ctx, mark, n, t0, count)
	stop()
	r.ariaEnd(cmd, n)
}

// ariaWait returns when count clients have finished: until then each goes on seeding.
func (r *rig) ariaWait(ctx context.Context, mark string, n *nodeResult, t0 time.Time, count int) error {
	all := filepath.Join(r.dir, "aria*", "complete")
	for {
		if _, err := os.Stat(mark); err == nil && n.end == 0 {
			n.end = time.Since(t0)
		}
		if done, _ := filepath.Glob(all); len(done) >= count {
			return nil
		}
		if pause.For(ctx, 50*time.Millisecond) != nil {
			if n.end > 0 {
				return nil
			}
			return ctx.Err()
		}
	}
}

func (r *rig) ariaEnd(cmd *exec.Cmd, n *nodeResult) {
	_ = cmd.Wait() // ended by our signal: the mark is what counts
	usage(n, cmd.ProcessState)
}
