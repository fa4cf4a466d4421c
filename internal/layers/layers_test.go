// Package layers checks which package may import which.
package layers

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "swarmboot/"

// layer gives each package its layer: it may import packages of lower layers only, never a
// sibling. A package below a listed one (internal/imagesrc/ext) belongs to it.
var layer = map[string]int{
	"internal/field": -1, "internal/spread": -1, "internal/pause": -1, "internal/filetest": -1, "internal/durable": -1, "internal/tooltest": -1,
	"imagefmt": 0, "internal/looptest": 0, "internal/params": 0, "internal/event": 0, "internal/cli": 0, "internal/progress": 0, "internal/contents": 0, "internal/md": 0, "internal/strictyaml": 0,
	"internal/imagesrc": 1, "internal/disk": 1, "internal/swarm": 1,
	"internal/netup": 1, "internal/machine": 1, "internal/lldp": 1, "internal/drivers": 1, "internal/target": 1, "internal/hooks": 1, "internal/efiboot": 1,
	"internal/tracker": 1, "internal/netboot": 1, "internal/catalog": 1, "internal/profiles": 1, "internal/web": 1,
	"internal/layout": 2, "internal/layouts": 3,
	"internal/deploy": 4, "internal/server": 4,
	"uinit": 5, "cmds": 5, "mkinitramfs": 5, "qemu-tests": 5,
	"internal/layers": 6,
}

// serverSide are the packages that nothing on a node may link.
var serverSide = []string{"internal/server", "internal/tracker", "internal/netboot", "internal/catalog", "internal/profiles", "internal/web",
	"internal/layouts", "internal/strictyaml"}

const bittorrent = "github.com/anacrolix/torrent"

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

// list returns this module's packages, without those of their tests.
func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,Deps", "swarmboot/...")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// owner returns the listed package that path (without the module) belongs to, and its layer.
func owner(path string) (string, int, bool) {
	for p := path; ; {
		if l, ok := layer[p]; ok {
			return p, l, true
		}
		i := strings.LastIndexByte(p, '/')
		if i < 0 {
			return "", 0, false
		}
		p = p[:i]
	}
}

// violations returns what is wrong with the imports of p.
func violations(p pkg) []string {
	var bad []string
	path := strings.TrimPrefix(p.ImportPath, module)
	own, ownLayer, ok := owner(path)
	if !ok {
		return []string{path + " has no layer: add it to the list, or move it"}
	}
	for _, imp := range p.Imports {
		other, isOurs := strings.CutPrefix(imp, module)
		if isOurs {
			its, itsLayer, ok := owner(other)
			if ok && its != own && itsLayer >= ownLayer {
				bad = append(bad, path+" (layer "+own+") imports "+other+": imports go down only, and never to a sibling")
			}
			continue
		}
		if imp != bittorrent && !strings.HasPrefix(imp, bittorrent+"/") {
			continue
		}
		if own == "internal/swarm" || own == "imagefmt" && imp == bittorrent+"/bencode" {
			continue
		}
		bad = append(bad, path+" imports "+imp+": only internal/swarm may")
	}
	if own == "imagefmt" {
		for _, imp := range []string{"os", "net", "net/http", "syscall", "golang.org/x/sys/unix"} {
			if slices.Contains(p.Imports, imp) {
				bad = append(bad, path+" imports "+imp+": the format makes no system calls")
			}
		}
	}
	if own == "uinit" || path == "cmds/deploy" || own == "internal/deploy" {
		for _, s := range serverSide {
			if slices.Contains(p.Deps, module+s) {
				bad = append(bad, path+" links "+s+", which belongs to the server")
			}
		}
	}
	return bad
}

func TestImports(t *testing.T) {
	pkgs := list(t)
	if len(pkgs) < 10 {
		t.Fatalf("go list found %d packages", len(pkgs))
	}
	for _, p := range pkgs {
		for _, v := range violations(p) {
			t.Error(v)
		}
	}
}

// TestViolations shows that each rule can be broken.
func TestViolations(t *testing.T) {
	for _, c := range []struct {
		name string
		p    pkg
		want string
	}{
		{"sibling", pkg{ImportPath: module + "internal/disk", Imports: []string{module + "internal/target"}}, "sibling"},
		{"upwards", pkg{ImportPath: module + "internal/disk", Imports: []string{module + "internal/deploy"}}, "down only"},
		{"sub-package", pkg{ImportPath: module + "internal/imagesrc/ext", Imports: []string{module + "internal/disk"}}, "sibling"},
		{"deploy and server", pkg{ImportPath: module + "internal/server", Imports: []string{module + "internal/deploy"}}, "sibling"},
		{"library", pkg{ImportPath: module + "internal/tracker", Imports: []string{bittorrent + "/tracker"}}, "only internal/swarm"},
		{"format", pkg{ImportPath: module + "imagefmt", Imports: []string{bittorrent + "/metainfo"}}, "only internal/swarm"},
		{"pure", pkg{ImportPath: module + "imagefmt", Imports: []string{"os"}}, "no system calls"},
		{"node", pkg{ImportPath: module + "uinit", Deps: []string{module + "internal/tracker"}}, "belongs to the server"},
		{"unknown", pkg{ImportPath: module + "pkg/util"}, "no layer"},
	} {
		got := strings.Join(violations(c.p), "; ")
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: violations %q, want one with %q", c.name, got, c.want)
		}
	}
	fine := pkg{ImportPath: module + "imagefmt", Imports: []string{"io", bittorrent + "/bencode"}}
	if got := violations(fine); got != nil {
		t.Errorf("imagefmt with bencode: %q", got)
	}
}
