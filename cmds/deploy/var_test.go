package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
)

// TestIdentityOnOtherPartitions: what a profile says of /var and /home goes to the file systems that the deployed system will mount there,
// also of a kind that the manifest does not know; what a share would hide is refused.
func TestIdentityOnOtherPartitions(t *testing.T) {
	const varID, homeID, alice = "7e27bf6b-ca08-4e70-b15a-2b1e64a36e4c", "7e27bf6b-ca08-4e70-b15a-2b1e64a36e4d", 1000
	program, dir, work := swarmbootProgram(t), t.TempDir(), t.TempDir()
	source := sparse(t, 512*mib)
	writeFiles(t, work, map[string]string{"script": "label: gpt\nstart=1MiB, size=40MiB, type=L\nstart=41MiB, size=40MiB, type=L, name=varpart\nstart=81MiB, size=320MiB, type=L\n"})
	tool(t, "sh", "-c", "sfdisk -q "+source+" <"+filepath.Join(work, "script"))
	place := map[string]imagefmt.Partition{"root": {Start: mib, Length: 40 * mib}, "var": {Start: 41 * mib, Length: 40 * mib}, "home": {Start: 81 * mib, Length: 320 * mib}}
	root, vars := t.TempDir(), t.TempDir()
	writeFiles(t, root, map[string]string{
		"usr/bin/sh": "", "var/hidden": "", "home/hidden": "", "srv/x": "", "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
		"etc/passwd": "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n",
		"etc/fstab":  "UUID=" + rootID + " / ext4 defaults 0 1\n/dev/disk/by-partlabel/varpart /var ext4 defaults 0 2\nUUID=\"" + homeID + "\" /home xfs defaults 0 0\nserver:/export /srv nfs defaults 0 0\n",
	})
	writeFiles(t, vars, map[string]string{"lib/dbus/machine-id": "0123456789abcdef0123456789abcdef\n", "lib/systemd/random-seed": "seed"})
	for name, tree := range map[string]string{"root": root, "var": vars} {
		fs := filepath.Join(work, name)
		tool(t, "truncate", "-s", fmt.Sprint(place[name].Length), fs)
		tool(t, "mkfs.ext4", "-q", "-U", map[string]string{"root": rootID, "var": varID}[name], "-d", tree, fs)
		tool(t, "dd", "if="+fs, "of="+source, "bs=1M", fmt.Sprintf("seek=%d", place[name].Start/mib), "conv=notrunc,sparse", "status=none")
	}
	attached(t, source, place["home"], func(dev string) { tool(t, "mkfs.xfs", "-q", "-m", "uuid="+homeID, dev) })
	mounted(t, source, "xfs", place["home"], func(home string) {
		writeFiles(t, home, map[string]string{"alice/notes": "hers"})
		if err := os.Chown(filepath.Join(home, "alice"), alice, alice); err != nil {
			t.Fatal(err)
		}
	})
	imageOf(t, program, dir, "img", source, "--root", "1")
	common := "machineID: reset\nssh: {authorizedKeys: {alice: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3Xv9Qn5Y7sQJ6V0m1pXo8v8c0mY0b5E1hQm5bq7Q1A a]}}\n"
	writeFiles(t, dir, map[string]string{
		"profiles/good.yaml":  common + "files: [{path: /var/lib/app/conf, content: here}]\n",
		"profiles/fresh.yaml": common + "newUUIDs: true\nfiles: [{path: /var/lib/app/conf, content: here}]\n",
		"profiles/share.yaml": "files: [{path: /srv/x, content: here}]\n",
	})
	s := &testServer{URL: wholeServer(t, dir)}
	for _, node := range []string{"good", "fresh"} {
		file := sparse(t, 512*mib)
		p := start(t, s, file, "--image", "img", "--node", node)
		if c := p.code(); c != cli.CodeDone {
			t.Fatalf("%s: code %d\n%s", node, c, p.err.String())
		}
		mounted(t, file, "ext4", place["var"], func(dir string) {
			if b, err := os.ReadFile(filepath.Join(dir, "lib/app/conf")); err != nil || string(b) != "here" {
				t.Errorf("%s: /var/lib/app/conf: %q, %v", node, b, err)
			}
			for _, name := range []string{"lib/dbus/machine-id", "lib/systemd/random-seed"} {
				if _, err := os.Stat(filepath.Join(dir, name)); !os.IsNotExist(err) {
					t.Errorf("%s: /var/%s is still there (%v)", node, name, err)
				}
			}
		})
		mounted(t, file, "xfs", place["home"], func(dir string) {
			keys := filepath.Join(dir, "alice/.ssh/authorized_keys")
			if b, err := os.ReadFile(keys); err != nil || !strings.Contains(string(b), "ssh-ed25519") {
				t.Errorf("%s: %q, %v", node, b, err)
			}
			if out := tool(t, "stat", "-c", "%u:%g %a", keys); out != "1000:1000 600" {
				t.Errorf("%s: authorized_keys is %s", node, out)
			}
		})
		mounted(t, file, "ext4", place["root"], func(dir string) {
			for _, name := range []string{"var/lib", "home/alice"} {
				if _, err := os.Stat(filepath.Join(dir, name)); !os.IsNotExist(err) {
					t.Errorf("%s: the root has /%s beneath the mount (%v)", node, name, err)
				}
			}
		})
		tool(t, "e2fsck", "-fn", fmt.Sprintf("%s?offset=%d", file, place["var"].Start))
	}
	p := start(t, s, sparse(t, 512*mib), "--image", "img", "--node", "share")
	if c := p.code(); c == cli.CodeDone || !strings.Contains(p.err.String(), "another file system on /srv, which would hide it (server:/export is none of the image's own partitions)") {
		t.Errorf("code %d\n%s", c, p.err.String())
	}
}
