package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/deploy/deploytest"
	"swarmboot/internal/looptest"
	"swarmboot/internal/web"
)

// nodeAt asks the server about a node.
func nodeAt(t *testing.T, url, name string) web.Node {
	t.Helper()
	resp, err := http.Get(url + "/api/v1/nodes")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var nodes []web.Node
	b, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(b, &nodes)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if n.Node == name {
			return n
		}
	}
	t.Fatalf("the server knows no %s: %s", name, b)
	return web.Node{}
}

// TestHooks runs hooks at all points, in order, and looks at what they have done and at what the server has heard.
func TestHooks(t *testing.T) {
	dir := t.TempDir()
	systemImage(t, dir, "bare", imagefmt.Table{Kind: imagefmt.TableNone})
	remote := "#!/bin/sh\necho from the server; touch $SWARMBOOT_TARGET/etc/remote; exit 4\n"
	writeFiles(t, dir, map[string]string{
		"files/remote": remote,
		"profiles/hooked.yaml": fmt.Sprintf(`hostname: hooked
hooks:
- {name: last, at: before-kexec, content: 'cat $SWARMBOOT_TARGET/etc/hostname; test -b $SWARMBOOT_ROOT && test -n "$SWARMBOOT_DISK" && echo $SWARMBOOT_HOOK'}
- {name: remote, at: after-write, url: /files/remote, sha256: %x, onFailure: ignore}
- {name: write, at: after-write, timeout: 20s, content: 'cat $SWARMBOOT_TARGET/etc/hostname; echo $SWARMBOOT_NODE of $SWARMBOOT_IMAGE >$SWARMBOOT_TARGET/etc/hook; mount -t tmpfs none $SWARMBOOT_TARGET/root; sleep 1000 &'}
- {name: first, at: before-disks, content: 'echo "disk:$SWARMBOOT_DISK. target:$SWARMBOOT_TARGET."'}
`, sha256.Sum256([]byte(remote))),
	})
	s := &testServer{URL: wholeServer(t, dir)}
	file := sparse(t, systemSize)
	p := start(t, s, looptest.Attach(t, file), "--image", "bare", "--node", "hooked", "--grow", "none")
	if c := p.code(); c != cli.CodeDone {
		t.Fatalf("code %d\n%s", c, p.err.String())
	}
	var got []string
	n := nodeAt(t, s.URL, "hooked")
	for _, h := range n.Hooks {
		got = append(got, fmt.Sprintf("%s %s %q %q", h.Point, h.Name, h.Output, h.Error))
	}
	want := []string{`before-disks first "disk:. target:." ""`, `after-write remote "from the server" "exit status 4"`,
		`after-write write "image" ""`, `before-kexec last "hooked\nbefore-kexec" ""`}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the server heard\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(n.Warnings) != 1 || !strings.Contains(n.Warnings[0], "hook remote: exit status 4 (it said: from the server)") {
		t.Errorf("warnings %q", n.Warnings)
	}
	for name, want := range map[string]string{"/etc/hook": "hooked of bare\n", "/etc/remote": "", "/etc/hostname": "hooked\n"} {
		if got := inImage(t, file, 0, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	tool(t, "e2fsck", "-fn", file)
}

// A hook that fails, or that cannot be had, fails the deployment: before the first write as long as there was none, else with a
// disk that does not boot.
func TestHookFailures(t *testing.T) {
	dir := t.TempDir()
	systemImage(t, dir, "bare", imagefmt.Table{Kind: imagefmt.TableNone})
	writeFiles(t, dir, map[string]string{
		"profiles/early.yaml":     "hooks: [{name: a, at: before-disks, content: 'echo no controller; exit 3'}]\n",
		"profiles/late.yaml":      "hooks: [{name: a, at: after-write, content: 'rm $SWARMBOOT_TARGET/etc/hostname; exit 3'}]\n",
		"profiles/slow.yaml":      "hooks: [{name: a, at: before-kexec, timeout: 1s, content: 'sleep 1000'}]\n",
		"profiles/missing.yaml":   "hooks: [{name: a, at: before-kexec, url: /files/a, sha256: " + strings.Repeat("0", 64) + "}]\n",
		"profiles/python.yaml":    "hooks: [{name: a, at: before-disks, content: \"#!/nowhere/python\\n\"}]\n",
		"profiles/nowhere.yaml":   "hooks: [{name: a, at: after-kexec, content: a}]\n",
		"profiles/again.yaml":     "hooks: [{name: a, at: after-write, content: a}, {name: a, at: after-write, content: b}]\n",
		"profiles/forever.yaml":   "hooks: [{name: a, at: after-write, content: a, timeout: 2h}]\n",
		"profiles/slash.yaml":     "hooks: [{name: a/b, at: after-write, content: a}]\n",
		"profiles/either.yaml":    "hooks: [{name: a, at: after-write, onFailure: perhaps, content: a}]\n",
		"profiles/both.yaml":      "hooks: [{name: a, at: after-write, url: /a, content: a}]\n",
		"profiles/nothing.yaml":   "hooks: [{name: a, at: after-write, content: ''}]\n",
		"profiles/pointless.yaml": "hooks: [{name: a, content: a}]\n",
	})
	s := &testServer{URL: wholeServer(t, dir)}
	for _, tt := range []struct {
		node, want string
		code       int
		written    bool
	}{
		{"early", "before-disks: hook a: exit status 3 (it said: no controller)", cli.CodeOther, false},
		{"late", "hook a: exit status 3", cli.CodeOther, true},
		{"slow", "hook a: killed: it was not done within 1s", cli.CodeOther, true},
		{"missing", "hook a: GET ", cli.CodeUsage, false},
		{"python", "its interpreter /nowhere/python is not there", cli.CodeOther, false},
		{"nowhere", `nowhere.yaml:1:19: hooks[0].at: "after-kexec": want one of before-disks, after-write, before-kexec`, cli.CodeUsage, false},
		{"again", `hooks[1].name: "a": stands here twice`, cli.CodeUsage, false},
		{"forever", `hooks[0].timeout: "2h": want a time from 1s to 1h0m0s`, cli.CodeUsage, false},
		{"slash", `hooks[0].name: "a/b"`, cli.CodeUsage, false},
		{"either", `hooks[0].onFailure: "perhaps"`, cli.CodeUsage, false},
		{"both", "content and url exclude each other", cli.CodeUsage, false},
		{"nothing", "hooks[0].content: is empty", cli.CodeUsage, false},
		{"pointless", "hooks[0].at: missing", cli.CodeUsage, false},
	} {
		t.Run(tt.node, func(t *testing.T) {
			target := makeTarget(t, systemSize)
			p := start(t, s, target, "--image", "bare", "--node", tt.node)
			if c := p.code(); c != tt.code || !strings.Contains(p.err.String(), tt.want) {
				t.Fatalf("code %d, want %d; %q is to be in\n%s", c, tt.code, tt.want, p.err.String())
			}
			b, err := os.ReadFile(target)
			if err != nil {
				t.Fatal(err)
			}
			if untouched := bytes.Equal(b, bytes.Repeat([]byte{deploytest.Pattern}, systemSize)); untouched == tt.written {
				t.Errorf("untouched: %t", untouched)
			}
			if string(b[1024+56:1024+58]) == "\x53\xef" {
				t.Error("the superblock is there")
			}
		})
	}
}

// TestLVM images a disk whose root is on LVM with the real program, and deploys it: the identity goes onto the logical volume,
// and LVM's own program finds its group whole. A root in several pieces is changed where the kernel can put them together, else refused; it is
// deployed in any case.
func TestLVM(t *testing.T) {
	dir, conf := t.TempDir(), t.TempDir()
	lvm := func(dev, line string) string {
		t.Helper()
		writeFiles(t, conf, map[string]string{"lvm.conf": `devices { use_devicesfile=0 filter=["a|^` + dev + `$|", "r|.*|"] obtain_device_list_from_udev=0 external_device_info_source="none" }
activation { monitoring=0 udev_sync=0 udev_rules=0 }
backup { backup=0 archive=0 }
global { locking_dir="` + conf + `/lock" event_activation=0 }
`})
		cmd := exec.CommandContext(t.Context(), "lvm", append(strings.Fields(strings.ReplaceAll(line, "DEV", dev)), "--driverloaded", "n")...)
		cmd.Env = append(os.Environ(), "LVM_SUPPRESS_FD_WARNINGS=1", "LVM_SYSTEM_DIR="+conf, "DM_DISABLE_UDEV=1")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("lvm %s: %v\n%s", line, err, stderr.Bytes())
		}
		return string(out)
	}
	const size = 96 * mib
	fs, disk := filepath.Join(dir, "bare.fs"), sparse(t, size)
	tree := t.TempDir()
	writeFiles(t, tree, map[string]string{"usr/bin/sh": "", "etc/hostname": "image\n"})
	tool(t, "truncate", "-s", fmt.Sprint(systemSize), fs)
	tool(t, "mkfs.ext4", "-q", "-d", tree, fs)
	dev := looptest.Attach(t, disk)
	for _, line := range []string{"pvcreate -y DEV", "vgcreate -s 4M vg0 DEV", "lvcreate -y -an -Zn -Wn -L 4M -n first vg0", "lvcreate -y -an -Zn -Wn -L 32M -n root vg0"} {
		lvm(dev, line)
	}
	const offset = 5 * mib // 1 MiB in front of the extents, then 4 of "first"
	tool(t, "dd", "if="+fs, "of="+dev, "bs=1M", fmt.Sprintf("seek=%d", offset/mib), "conv=notrunc,fsync", "status=none")
	program := swarmbootProgram(t)
	tool(t, program, "image", "create", disk, filepath.Join(dir, "lvm"))
	lvm(dev, "lvextend -l +1 vg0/first")
	lvm(dev, "lvextend -l +1 vg0/root")
	lvm(dev, "lvextend -l +1 vg0/first")
	lvm(dev, "lvextend -l +1 vg0/root")
	tool(t, program, "image", "create", disk, filepath.Join(dir, "pieces"))

	writeFiles(t, dir, map[string]string{"profiles/on-lvm.yaml": "hostname: on-lvm\nhooks: [{name: a, at: before-kexec, content: 'cat $SWARMBOOT_TARGET/etc/hostname'}]\n"})
	s := &testServer{URL: wholeServer(t, dir)}
	target := sparse(t, size)
	p := start(t, s, target, "--image", "lvm", "--node", "on-lvm", "--grow", "none")
	if c := p.code(); c != cli.CodeDone {
		t.Fatalf("code %d\n%s", c, p.err.String())
	}
	if got := inImage(t, target, offset, "/etc/hostname"); got != "on-lvm\n" {
		t.Errorf("host name %q", got)
	}
	tool(t, "e2fsck", "-fn", fmt.Sprintf("%s?offset=%d", target, offset))
	if out := lvm(looptest.Attach(t, target), "lvs --noheadings -o lv_name,lv_size,seg_pe_ranges vg0"); !strings.Contains(out, "root") || !strings.Contains(out, ":1-8") {
		t.Errorf("LVM says %s", out)
	}
	target = makeTarget(t, size)
	p = start(t, s, target, "--image", "pieces", "--node", "on-lvm")
	c := p.code()
	if mapper, err := os.Open("/dev/mapper/control"); err != nil { // qemu-tests/volumes has a kernel with a device mapper
		if c != cli.CodeUsage || !strings.Contains(p.err.String(), "vg0/root, lies in 3 pieces, which this kernel cannot put together") {
			t.Errorf("code %d\n%s", c, p.err.String())
		}
	} else if mapper.Close(); c != cli.CodeDone {
		t.Errorf("code %d\n%s", c, p.err.String())
	}
	p = start(t, s, makeTarget(t, size), "--image", "pieces", "--node", "plain")
	if c := p.code(); c != cli.CodeDone {
		t.Errorf("code %d\n%s", c, p.err.String())
	}
}
