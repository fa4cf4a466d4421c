package identity

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/goccy/go-yaml"
	"golang.org/x/sys/unix"

	"swarmboot/internal/params"
	"swarmboot/internal/tooltest"
)

var run = tooltest.Run

// root mounts a new ext4 in a file of its own. check unmounts it and has e2fsck look at it.
func root(t *testing.T) (dir string, check func()) {
	t.Helper()
	img, dir := filepath.Join(t.TempDir(), "disk"), filepath.Join(t.TempDir(), "root")
	run(t, "truncate", "-s", "16M", img)
	run(t, "mkfs.ext4", "-q", img)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "mount", "-o", "loop", img, dir)
	mounted := true
	unmount := func() {
		if mounted {
			mounted = false
			run(t, "umount", dir)
		}
	}
	t.Cleanup(unmount)
	return dir, func() { unmount(); run(t, "e2fsck", "-fn", img) }
}

func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		p := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		if target, ok := strings.CutPrefix(text, "-> "); ok && err == nil {
			err = os.Symlink(target, p)
		} else if err == nil {
			err = os.WriteFile(p, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func profile(t *testing.T, text string) *params.Profile {
	t.Helper()
	p := &params.Profile{}
	if err := yaml.UnmarshalWithOptions([]byte(text), p, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	if errs := p.Check(); len(errs) > 0 {
		t.Fatal(errs[0])
	}
	return p
}

func apply(dir string, p *params.Profile, contents map[string][]byte) error {
	_, err := Apply(context.Background(), dir, Options{Profile: p, Node: "52:54:00:aa:bb:cc", MAC: "52:54:00:AA:BB:CC", Contents: contents})
	return err
}

func want(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(b) != text {
			t.Errorf("%s: %v\n%q, want\n%q", name, err, b, text)
		}
	}
}

const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3Xv9Qn5Y7sQJ6V0m1pXo8v8c0mY0b5E1hQm5bq7Q1A admin@example"

var base = map[string]string{
	"bin/sh": "", "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\n",
	"root/.profile": "", "home/ann/.ssh/authorized_keys": "# ann's\n" + key,
	"etc/hostname": "image\n", "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 image\n::1 localhost\n",
	"etc/machine-id": "00112233445566778899aabbccddeeff\n", "var/lib/dbus/machine-id": "00112233445566778899aabbccddeeff\n",
	"var/lib/systemd/random-seed": "x", "etc/ssh/ssh_host_dsa_key": "old", "etc/ssh/ssh_host_rsa_key": "old", "etc/ssh/sshd_config": "kept",
	"etc/fstab": "UUID=1 / ext4 defaults 0 1\n# a comment\nUUID=2 /scratch ext4 defaults 0 2\nUUID=3 none swap sw 0 0",
	"etc/motd":  "old", "etc/resolv.conf": "-> ../run/systemd/resolve/stub-resolv.conf",
}

func TestApply(t *testing.T) {
	dir, check := root(t)
	put(t, dir, base)
	// What is replaced keeps owner, mode and label; what is new gets the directory's label.
	motd := filepath.Join(dir, "etc/motd")
	for _, err := range []error{os.Chown(motd, 7, 8), unix.Chmod(motd, 0o4640), unix.Setxattr(motd, seLinux, []byte("system_u:object_r:motd_t:s0"), 0),
		unix.Setxattr(filepath.Join(dir, "etc"), seLinux, []byte("system_u:object_r:etc_t:s0"), 0),
		unix.Setxattr(filepath.Join(dir, "root"), seLinux, []byte("unconfined_u:object_r:admin_home_t:s0\x00"), 0)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	p := profile(t, `
hostname: node-7.example.org
machineID: reset
ssh:
  hostKeys: generate
  authorizedKeys: {root: [`+key+`], ann: [`+key+`, "from=\"10.0.0.1\" `+key+`"]}
files:
- {path: /etc/motd, content: "new"}
- {path: /etc/resolv.conf, content: "nameserver 10.0.0.1\n"}
- {path: /opt/a/tool, mode: "0755", uid: 3, gid: 4, url: /files/tool, sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855}
cloudInit: {userData: "#cloud-config\n"}
fstab:
- {device: LABEL=my disk, path: /scratch, type: xfs, options: nofail, pass: 2}
- {device: /dev/sdb1, path: none, type: swap}
- {device: "10.0.0.1:/home", path: /nfs/home, type: nfs}
`)
	if err := apply(dir, p, map[string][]byte{"/opt/a/tool": []byte("#!/bin/sh\n")}); err != nil {
		t.Fatal(err)
	}
	want(t, dir, map[string]string{
		"etc/hostname": "node-7.example.org\n", "etc/hosts": "127.0.0.1 localhost\n127.0.1.1\tnode-7.example.org node-7\n::1 localhost\n",
		"etc/machine-id": "", "etc/motd": "new", "etc/resolv.conf": "nameserver 10.0.0.1\n", "opt/a/tool": "#!/bin/sh\n",
		"etc/fstab":                 "UUID=1 / ext4 defaults 0 1\n# a comment\nLABEL=my\\040disk /scratch xfs nofail 0 2\nUUID=3 none swap sw 0 0\n/dev/sdb1 none swap defaults 0 0\n10.0.0.1:/home /nfs/home nfs defaults 0 0\n",
		"root/.ssh/authorized_keys": key + "\n", "home/ann/.ssh/authorized_keys": "# ann's\n" + key + "\nfrom=\"10.0.0.1\" " + key + "\n",
		"var/lib/cloud/seed/nocloud/user-data": "#cloud-config\n", "etc/ssh/sshd_config": "kept",
		"var/lib/cloud/seed/nocloud/meta-data": "instance-id: swarmboot-525400aabbcc\nlocal-hostname: node-7.example.org\n",
	})
	for _, gone := range []string{"var/lib/dbus/machine-id", "var/lib/systemd/random-seed", "etc/ssh/ssh_host_dsa_key"} {
		if _, err := os.Lstat(filepath.Join(dir, gone)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", gone, err)
		}
	}
	for name, owner := range map[string]string{"etc/motd": "4640 7:8", "opt/a/tool": "755 3:4", "opt/a": "755 0:0", "root/.ssh": "700 0:0", "root/.ssh/authorized_keys": "600 0:0",
		"home/ann/.ssh/authorized_keys": "644 0:0", "etc/ssh/ssh_host_rsa_key": "644 0:0", "etc/ssh/ssh_host_ed25519_key": "600 0:0", "nfs/home": "755 0:0",
		"var/lib/cloud/seed/nocloud/user-data": "600 0:0"} {
		if name == "etc/ssh/ssh_host_rsa_key" {
			owner = "600 0:0" // the old one was removed
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(filepath.Join(dir, name), &st); err != nil || fmt.Sprintf("%o %d:%d", st.Mode&0o7777, st.Uid, st.Gid) != owner {
			t.Errorf("%s: %v, %o %d:%d, want %s", name, err, st.Mode&0o7777, st.Uid, st.Gid, owner)
		}
	}
	for name, label := range map[string]string{"etc/motd": "system_u:object_r:motd_t:s0", "etc/resolv.conf": "system_u:object_r:etc_t:s0",
		"root/.ssh/authorized_keys": "unconfined_u:object_r:ssh_home_t:s0\x00", "opt/a/tool": ""} {
		b := make([]byte, 100)
		n, _ := unix.Lgetxattr(filepath.Join(dir, name), seLinux, b)
		if got := string(b[:max(n, 0)]); got != label {
			t.Errorf("%s: label %q, want %q", name, got, label)
		}
	}
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		private := filepath.Join(dir, "etc/ssh/ssh_host_"+kind+"_key")
		public := strings.Fields(run(t, "ssh-keygen", "-y", "-f", private))
		b, err := os.ReadFile(private + ".pub")
		if f := strings.Fields(string(b)); err != nil || len(f) != 3 || f[0] != public[0] || f[1] != public[1] || f[2] != "root@node-7.example.org" {
			t.Errorf("%s: ssh-keygen makes %q of the private key, the public one is %q, %v", kind, public, b, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*/.swarmboot-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
	check()
}

// Nothing outside of the root is reached or changed, wherever symlinks of the image lead.
func TestConfined(t *testing.T) {
	outside := t.TempDir()
	put(t, outside, map[string]string{"hostname": "host\n", "hosts": "host\n", "dir/x": "host\n"})
	for _, tt := range []struct {
		name    string
		files   map[string]string
		profile string
		want    map[string]string // in the root
		wantErr string
	}{
		{"etc is the root", map[string]string{"etc": "-> /"}, "hostname: n", map[string]string{"hostname": "n\n"}, ""},
		{"etc outside", map[string]string{"etc": "-> " + outside, outside + "/x": ""}, "hostname: n", map[string]string{outside + "/hostname": "n\n"}, ""},
		{"absolute link to a host's file", map[string]string{"etc/hostname": "-> " + outside + "/hostname"}, "hostname: n", map[string]string{outside + "/hostname": "n\n"}, ""},
		{"dot-dots", map[string]string{"etc/hostname": "-> ../../../../../../../.." + outside + "/hostname"}, "hostname: n", map[string]string{outside + "/hostname": "n\n"}, ""},
		{"chain", map[string]string{"etc/hostname": "-> /a", "a": "-> b/../c", "b": "-> /usr/bin", "c": "?"}, "hostname: n", map[string]string{"c": "?", "usr/c": "n\n"}, ""},
		{"loop", map[string]string{"etc/hostname": "-> hostname"}, "hostname: n", nil, "too many levels"},
		{"directory", map[string]string{"etc/hostname/x": "x"}, "hostname: n", nil, "not a regular file"},
		{"into a file", map[string]string{"etc/ssh": "x"}, "files: [{path: /etc/ssh/x, content: y}]", nil, "not a directory"},
		{"link to dot-dot", map[string]string{"etc/hostname": "-> .."}, "hostname: n", nil, "not the path of a file"},
		{"magic link", map[string]string{"etc/hostname": "-> /proc/self/root" + outside + "/hostname"}, "hostname: n", map[string]string{"etc/hostname": "n\n"}, ""},
		{"magic directory", map[string]string{"etc/ssh": "-> /proc/self/root" + outside, "proc/self/root" + outside + "/x": ""}, "files: [{path: /etc/ssh/x, content: y}]", nil, "nothing is kept"},
		{"home outside", map[string]string{"etc/passwd": "u:x:0:0::" + outside + ":/bin/sh\n"}, "ssh: {authorizedKeys: {u: [" + key + "]}}", nil, "is missing in the image"},
		{"dot-ssh outside", map[string]string{"etc/passwd": "u:x:0:0::/u:/bin/sh\n", "u/.ssh": "-> " + outside}, "ssh: {authorizedKeys: {u: [" + key + "]}}", nil, "file exists"},
		{"user unknown", map[string]string{"etc/passwd": "ann:x:1:1::/:/\n"}, "ssh: {authorizedKeys: {bob: [" + key + "]}}", nil, "bob: not in /etc/passwd"},
		{"hidden", map[string]string{"etc/fstab": "UUID=2 /srv ext4 defaults 0 2\n", "opt/s": "-> /srv", "srv/x": ""}, "files: [{path: /opt/s/x, content: y}]", nil, "/srv/x: the system mounts"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir() // the same rules; a mount for each would take long
			put(t, dir, tt.files)
			put(t, dir, map[string]string{"usr/bin/x": ""})
			if _, err := os.Lstat(filepath.Join(dir, "etc")); err != nil {
				put(t, dir, map[string]string{"etc/x": ""})
			}
			err := apply(dir, profile(t, tt.profile), nil)
			if tt.wantErr == "" && err != nil || tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("got %v, want %q", err, tt.wantErr)
			}
			want(t, dir, tt.want)
			want(t, outside, map[string]string{"hostname": "host\n", "hosts": "host\n", "dir/x": "host\n"})
			entries, err := os.ReadDir(outside)
			if err != nil || len(entries) != 3 {
				t.Errorf("outside: %v, %v", entries, err)
			}
		})
	}
}

func TestNotARoot(t *testing.T) {
	if err := apply(t.TempDir(), profile(t, "hostname: n"), nil); err == nil || !strings.Contains(err.Error(), "no /etc") {
		t.Errorf("got %v", err)
	}
}

const nics = `
network:
  interfaces:
  - {mac: boot, name: lan, addresses: [10.0.0.5/24, "fd00::5/64"], gateway: 10.0.0.1, dns: [10.0.0.53, "fd00::53"], search: [example.org]}
  - {name: eth1, dhcp: true}
  - {mac: "52:54:00:00:00:02", dhcp: true}
`

// Every image gets its network in the form that it uses.
func TestNetwork(t *testing.T) {
	wants := "etc/systemd/system/multi-user.target.wants/"
	for _, tt := range []struct {
		name  string
		image map[string]string
		want  map[string]string
	}{
		{"netplan", map[string]string{"etc/netplan/50-cloud-init.yaml": "", "usr/sbin/netplan": "", wants + "systemd-networkd.service": "-> /x", "etc/cloud/cloud.cfg": ""}, map[string]string{
			"etc/cloud/cloud.cfg.d/99-swarmboot-network.cfg": header + "network: {config: disabled}\n",
			"etc/netplan/60-swarmboot.yaml": header + `network:
  version: 2
  ethernets:
    swarmboot0:
      match: {macaddress: "52:54:00:aa:bb:cc"}
      set-name: lan
      dhcp4: false
      addresses: ["10.0.0.5/24", "fd00::5/64"]
      routes: [{to: "0.0.0.0/0", via: "10.0.0.1"}]
      nameservers: {addresses: ["10.0.0.53", "fd00::53"], search: ["example.org"]}
    eth1:
      dhcp4: true
    swarmboot2:
      match: {macaddress: "52:54:00:00:00:02"}
      dhcp4: true
`}},
		{"NetworkManager", map[string]string{"usr/sbin/NetworkManager": "", wants + "NetworkManager.service": "-> /lib/systemd/system/NetworkManager.service", "etc/network/interfaces": "", "sbin/ifup": ""}, map[string]string{
			"etc/NetworkManager/system-connections/swarmboot0.nmconnection": header + "[connection]\nid=swarmboot0\ntype=ethernet\nautoconnect-priority=100\n\n[ethernet]\nmac-address=52:54:00:AA:BB:CC\n\n" +
				"[ipv4]\nmethod=manual\naddress1=10.0.0.5/24,10.0.0.1\ndns=10.0.0.53;\ndns-search=example.org;\n\n[ipv6]\nmethod=manual\naddress1=fd00::5/64\ndns=fd00::53;\ndns-search=example.org;\n",
			"etc/NetworkManager/system-connections/swarmboot1.nmconnection": header + "[connection]\nid=swarmboot1\ntype=ethernet\nautoconnect-priority=100\ninterface-name=eth1\n\n[ethernet]\n\n[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n"}},
		{"networkd", map[string]string{wants + "systemd-networkd.service": "-> /lib/systemd/system/systemd-networkd.service"}, map[string]string{
			"etc/systemd/network/05-swarmboot0.network": header + "[Match]\nMACAddress=52:54:00:aa:bb:cc\nType=ether\n\n[Network]\nAddress=10.0.0.5/24\nAddress=fd00::5/64\nGateway=10.0.0.1\nDNS=10.0.0.53\nDNS=fd00::53\nDomains=example.org\n",
			"etc/systemd/network/05-swarmboot0.link":    header + "[Match]\nMACAddress=52:54:00:aa:bb:cc\nType=ether\n\n[Link]\nName=lan\n",
			"etc/systemd/network/05-swarmboot1.network": header + "[Match]\nName=eth1\n\n[Network]\nDHCP=yes\n"}},
		{"ifupdown", map[string]string{"sbin/ifup": "", "etc/network/interfaces": "auto lo eth1\niface lo inet loopback\n\nallow-hotplug eth1\niface eth1 inet static\n    address 1.2.3.4/8\n# end\n"}, map[string]string{
			"etc/network/interfaces": "auto lo\niface lo inet loopback\n\n# end\n\nsource /etc/network/interfaces.d/*\n",
			"etc/network/interfaces.d/swarmboot": header + "\nauto lan\niface lan inet static\n    address 10.0.0.5/24\n    gateway 10.0.0.1\niface lan inet6 static\n    address fd00::5/64\n" +
				"    dns-nameservers 10.0.0.53 fd00::53\n    dns-search example.org\n\nauto eth1\niface eth1 inet dhcp\n\nauto lan2\niface lan2 inet dhcp\n",
			"etc/systemd/network/05-swarmboot2.link": header + "[Match]\nMACAddress=52:54:00:00:00:02\nType=ether\n\n[Link]\nName=lan2\n"}},
		{"none", map[string]string{"etc/x": "", "lib/systemd/systemd-networkd": ""}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir, map[string]string{"usr/bin/x": "", "etc/x": ""})
			put(t, dir, tt.image)
			err := apply(dir, profile(t, nics), nil)
			if tt.want == nil {
				if err == nil || !strings.Contains(err.Error(), "uses none of netplan") {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want(t, dir, tt.want)
			if tt.name == "netplan" {
				var v map[string]any
				if err := yaml.Unmarshal([]byte(tt.want["etc/netplan/60-swarmboot.yaml"]), &v); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
