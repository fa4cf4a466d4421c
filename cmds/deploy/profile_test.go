package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/deploy/deploytest"
	"swarmboot/internal/looptest"
	"swarmboot/internal/params"
	"swarmboot/internal/server"
)

const (
	profileNode = "52:54:00:aa:bb:cc"
	profileKey  = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3Xv9Qn5Y7sQJ6V0m1pXo8v8c0mY0b5E1hQm5bq7Q1A admin@example"
	systemSize  = 32 * mib
)

// systemImage makes an image of a small system: bare, or in partition 2 of a GPT.
func systemImage(t *testing.T, dir, name string, table imagefmt.Table) {
	t.Helper()
	tree := t.TempDir()
	for path, text := range map[string]string{"usr/bin/sh": "", "etc/hostname": "image\n", "etc/passwd": "root:x:0:0::/root:/bin/sh\n", "root/.profile": "",
		"etc/machine-id": "00112233445566778899aabbccddeeff\n", "etc/systemd/system/multi-user.target.wants/systemd-networkd.service": ""} {
		p := filepath.Join(tree, path)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		if err == nil && strings.HasSuffix(p, ".service") {
			err = os.Symlink("/lib/systemd/system/systemd-networkd.service", p)
		} else if err == nil {
			err = os.WriteFile(p, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var start int64
	length := int64(systemSize)
	if len(table.Partitions) > 0 {
		start, length = table.Partitions[1].Start, table.Partitions[1].Length
	}
	fs, disk := sparse(t, length), sparse(t, systemSize)
	tool(t, "mkfs.ext4", "-q", "-d", tree, "-E", "root_owner=0:0", fs)
	if err := deploytest.Place(fs, disk, start); err != nil {
		t.Fatal(err)
	}
	if _, err := deploytest.FromDisk(dir, name, disk, table); err != nil {
		t.Fatal(err)
	}
}

// wholeServer runs the real server, in this process.
func wholeServer(t *testing.T, dir string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	up, done := make(chan net.Addr, 1), make(chan error, 1)
	o := server.Options{Images: dir, HTTP: "127.0.0.1:0", BTListen: "127.0.0.1:0", Poll: 20 * time.Millisecond, Settle: time.Millisecond,
		Logger: slog.New(slog.DiscardHandler), Listening: func(a net.Addr) { up <- a }}
	go func() { done <- server.Run(ctx, o) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	select {
	case a := <-up:
		return "http://" + a.String()
	case err := <-done:
		done <- nil
		t.Fatal("server: ", err)
	}
	return ""
}

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// inImage is what debugfs finds in a file of the ext4 that begins at an offset of a disk.
func inImage(t *testing.T, disk string, offset int64, name string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	tool(t, "debugfs", "-R", fmt.Sprintf("dump %s %s", name, out), fmt.Sprintf("%s?offset=%d", disk, offset))
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestProfile goes all the way: the server's profile, a deployment, the deployed file system as debugfs and e2fsck see it.
func TestProfile(t *testing.T) {
	dir := t.TempDir()
	gpt := growTable(imagefmt.TableGPT)
	gpt.Partitions[1].Length = systemSize - 6*mib
	systemImage(t, dir, "bare", imagefmt.Table{Kind: imagefmt.TableNone})
	systemImage(t, dir, "gpt", gpt)
	motd := "welcome to this node\n"
	writeFiles(t, dir, map[string]string{
		"files/motd": motd,
		"profiles/default.yaml": "machineID: reset\nhostname: unnamed\nssh: {hostKeys: generate, authorizedKeys: {root: ['" + profileKey + "']}}\n" +
			fmt.Sprintf("files:\n- {path: /etc/motd, url: /files/motd, sha256: %x}\n- {path: /etc/shared, content: default}\n", sha256.Sum256([]byte(motd))),
		"profiles/52-54-00-aa-bb-cc.yaml": "hostname: node-7\nnetwork: {interfaces: [{mac: boot, dhcp: true}]}\n",
	})
	s := &testServer{URL: wholeServer(t, dir)}
	for _, tt := range []struct {
		image  string
		offset int64
		block  bool
	}{{"bare", 0, true}, {"gpt", 4 * mib, false}, {"gpt", 4 * mib, true}} {
		t.Run(tt.image, func(t *testing.T) {
			file := sparse(t, systemSize)
			target := file
			if tt.block {
				target = looptest.Attach(t, file)
			}
			p := start(t, s, target, "--image", tt.image, "--node", profileNode, "--grow", "none")
			if c := p.code(); c != cli.CodeDone {
				t.Fatalf("code %d\n%s", c, p.err.String())
			}
			if out := p.err.String(); !strings.Contains(out, "identity") || !strings.Contains(out, "hostname node-7") {
				t.Errorf("it says\n%s", out)
			}
			for name, want := range map[string]string{"/etc/hostname": "node-7\n", "/etc/machine-id": "", "/etc/motd": motd, "/etc/shared": "default",
				"/etc/hosts": "127.0.0.1\tlocalhost\n127.0.1.1\tnode-7\n", "/root/.ssh/authorized_keys": profileKey + "\n",
				"/etc/systemd/network/05-swarmboot0.network": "# Written by swarmboot from the profile of this node.\n[Match]\nMACAddress=" + profileNode + "\nType=ether\n\n[Network]\nDHCP=yes\n"} {
				if got := inImage(t, file, tt.offset, name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if k := inImage(t, file, tt.offset, "/etc/ssh/ssh_host_ed25519_key"); !strings.HasPrefix(k, "-----BEGIN OPENSSH PRIVATE KEY-----") {
				t.Errorf("host key %q", k)
			}
			tool(t, "e2fsck", "-fn", fmt.Sprintf("%s?offset=%d", file, tt.offset))
		})
	}
}

// TestBadProfile: what is wrong with a profile ends the deployment before the first write; what only the image shows ends it
// with a disk that does not boot.
func TestBadProfile(t *testing.T) {
	dir := t.TempDir()
	systemImage(t, dir, "bare", imagefmt.Table{Kind: imagefmt.TableNone})
	writeFiles(t, dir, map[string]string{
		"files/a":                "a",
		"profiles/broken.yaml":   "hostname: ok\nmachineId: reset\n",
		"profiles/no-file.yaml":  "files: [{path: /a, url: /files/b, sha256: " + strings.Repeat("0", 64) + "}]\n",
		"profiles/bad-hash.yaml": "files: [{path: /a, url: /files/a, sha256: " + strings.Repeat("0", 64) + "}]\n",
		"profiles/no-user.yaml":  "hostname: half\nssh: {authorizedKeys: {bob: ['" + profileKey + "']}}\n",
		"profiles/no-disk.yaml":  "parameters: {then: poweroff, disk: serial=none}\n",
	})
	s := &testServer{URL: wholeServer(t, dir)}
	for _, tt := range []struct {
		node, want string
		code       int
		written    bool
	}{
		{"broken", `profile of broken: the server says: broken.yaml:2:1: unknown field "machineId"`, cli.CodeUsage, false},
		{"no-file", "file /a: GET ", cli.CodeUsage, false},
		{"bad-hash", "has SHA-256 ca978112", cli.CodeVerify, false},
		{"no-user", "identity: root file system on", cli.CodeOther, true},
		{"no-disk", "", cli.CodeDone, true}, // at a shell the profile decides neither which disk nor what follows
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
			untouched := bytes.Equal(b, bytes.Repeat([]byte{deploytest.Pattern}, systemSize))
			if untouched == tt.written {
				t.Errorf("untouched: %t", untouched)
			}
			if whole := string(b[1024+56:1024+58]) == "\x53\xef"; whole != (tt.code == cli.CodeDone) {
				t.Errorf("the superblock is there: %t", whole)
			}
		})
	}
}

// With --cmdline a profile decides what the command line leaves open; options win in any case.
func TestProfileMust(t *testing.T) {
	for _, tt := range []struct {
		set  []string
		want string
	}{{nil, "bootentry disk then"}, {[]string{"cmdline"}, ""}, {[]string{"cmdline", "then", "linger"}, "then seed"}, {[]string{"disk", "verify"}, "bootentry disk then verify"}} {
		set := map[string]bool{}
		for _, name := range tt.set {
			set[name] = true
		}
		given := profileMust(set)
		var got []string
		for _, name := range params.ProfileNames() {
			if given[name] {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != strings.ReplaceAll(tt.want, "then seed", "seed then") {
			t.Errorf("%v: %v, want %s", tt.set, got, tt.want)
		}
	}
	if given := params.Given("quiet swarmboot.then=shell swarmboot.disk=only"); !given["then"] || !given["disk"] || given["verify"] {
		t.Errorf("given %v", given)
	}
}
