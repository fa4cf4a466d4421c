package drivers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Coldplug loads the drivers of the devices that are there, and again of the devices which that
// brings to light (a bus behind a bus), until a look after a pause of quiet finds nothing new. errs are
// the modules that failed, which need not matter: a device may have several drivers.
func (l *Loader) Coldplug(ctx context.Context, quiet time.Duration) (errs []error) {
	seen := map[string]bool{}
	for waited := false; ctx.Err() == nil; {
		fresh := l.unseen(seen)
		if len(fresh) > 0 {
			errs = append(errs, l.loadAll(fresh)...)
			waited = false
			continue
		}
		if waited {
			return errs
		}
		waited = true
		select {
		case <-ctx.Done():
		case <-time.After(quiet):
		}
	}
	return append(errs, fmt.Errorf("load drivers: %w", ctx.Err()))
}

// unseen returns the modules asked for by devices whose modalias is not in seen, and adds those to seen.
func (l *Loader) unseen(seen map[string]bool) []string {
	var names []string
	have := map[string]bool{}
	for _, alias := range Modaliases(l.sys) {
		if seen[alias] {
			continue
		}
		seen[alias] = true
		for _, n := range l.Index.Match(alias) {
			if !have[n] {
				have[n] = true
				names = append(names, n)
			}
		}
	}
	return names
}

// loadAll loads modules, several at a time: some take seconds to probe their device.
func (l *Loader) loadAll(names []string) (errs []error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, n := range names {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := l.loadModule(n); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	return errs
}

// Modaliases returns the modalias of every device under sys/devices, each once, sorted by the
// device's path. Devices that go away meanwhile are left out.
func Modaliases(sys string) []string {
	var out []string
	seen := map[string]bool{}
	_ = filepath.WalkDir(filepath.Join(sys, "devices"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() != "modalias" {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		alias := string(bytes.TrimSpace(b))
		if alias != "" && !seen[alias] {
			seen[alias] = true
			out = append(out, alias)
		}
		return nil
	})
	return out
}

// Watch loads the drivers of devices that come later, by the kernel's uevents, until ctx ends.
// report is told of each module that failed.
func (l *Loader) Watch(ctx context.Context, report func(error)) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return fmt.Errorf("open uevent socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "uevent")
	defer f.Close()
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return fmt.Errorf("bind uevent socket: %w", err)
	}
	defer context.AfterFunc(ctx, func() { f.Close() })()
	return l.watch(ctx, f, report)
}

// watch reads uevents. It waits for no module: one whose init never comes back would keep it from all later devices.
func (l *Loader) watch(ctx context.Context, uevents io.Reader, report func(error)) error {
	load := func(aliases ...string) {
		for _, alias := range aliases {
			if names := l.untried(l.Index.Match(alias)); len(names) > 0 {
				go func() {
					for _, err := range l.loadAll(names) {
						report(err)
					}
				}()
			}
		}
	}
	buf := make([]byte, 16<<10)
	for ctx.Err() == nil {
		n, err := uevents.Read(buf)
		switch {
		case err == nil:
			load(ueventModalias(buf[:n]))
		case ctx.Err() != nil:
		case errors.Is(err, unix.ENOBUFS): // events were lost; their devices are in sysfs
			load(Modaliases(l.sys)...)
		default:
			return fmt.Errorf("read uevents: %w", err)
		}
	}
	return ctx.Err()
}

// ueventModalias returns the modalias of an "add" uevent (lib/kobject_uevent.c: a head line, then
// KEY=VALUE strings, each ended by a NUL), else "".
func ueventModalias(msg []byte) string {
	var add bool
	var alias string
	for _, field := range bytes.Split(msg, []byte{0}) {
		key, value, _ := strings.Cut(string(field), "=")
		switch key {
		case "ACTION":
			add = value == "add"
		case "MODALIAS":
			alias = value
		}
	}
	if !add {
		return ""
	}
	return alias
}
