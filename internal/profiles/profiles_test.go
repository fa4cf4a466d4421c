package profiles

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"swarmboot/internal/params"
	"swarmboot/internal/strictyaml"
)

const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3Xv9Qn5Y7sQJ6V0m1pXo8v8c0mY0b5E1hQm5bq7Q1A admin@example"

const whole = `
parameters:
  disk: only
  then: kexec
  seed: 5m
hostname: node-7.example
machineID: reset
ssh:
  hostKeys: generate
  authorizedKeys:
    root:
      - ` + key + `
files:
  - path: /etc/motd
    mode: "0640"
    uid: 0
    gid: 4
    content: |
      Hello.
  - {path: /usr/local/bin/tool, mode: 0755, url: /files/tool, sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855}
network:
  renderer: auto
  interfaces:
    - {mac: boot, dhcp: true}
    - name: eth1
      addresses: [10.0.0.5/24, "fd00::5/64"]
      gateway: 10.0.0.1
      dns: [10.0.0.53]
      search: [example.org]
cloudInit:
  userData: |
    #cloud-config
fstab:
  - {device: LABEL=scratch, path: /scratch, type: xfs, options: "nofail,noatime", pass: 2}
`

func TestParse(t *testing.T) {
	p, err := Parse("x.yaml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	if p.Hostname != "node-7.example" || p.Parameters["seed"] != "5m" || *p.Files[0].Content != "Hello.\n" || *p.Files[0].GID != 4 ||
		p.Files[0].Mode != "0640" || p.Files[1].Mode != "0755" || p.Network.Interfaces[1].Addresses[1] != "fd00::5/64" ||
		p.SSH.AuthorizedKeys["root"][0] != key || p.Fstab[0].Pass != 2 || !p.HasIdentity() {
		t.Errorf("%+v", p)
	}
	const digits = "0123456789012345678901234567890123456789012345678901234567890123"
	p, err = Parse("x.yaml", []byte("parameters: {rack: 010}\nfiles: [{path: /a, content: 1.10}]\nhooks: [{name: 0x1, at: after-write, content: 1_000}]\n"))
	if err != nil || p.Parameters["rack"] != "010" || *p.Files[0].Content != "1.10" || p.Hooks[0].Name != "0x1" || *p.Hooks[0].Content != "1_000" {
		t.Errorf("%+v, %v", p, err)
	}
	p, err = Parse("x.yaml", []byte("hostname: 007\nfiles: [{path: /a, url: /a, mode: 0o600, sha256: "+digits+"}]\n"))
	if err != nil || p.Hostname != "007" || p.Files[0].SHA256 != digits || p.Files[0].Mode != "600" {
		t.Errorf("digits: %+v, %v", p, err)
	}
	if p, err := Parse("x.yaml", []byte("{}")); err != nil || p.HasIdentity() || len(p.Parameters) > 0 {
		t.Errorf("{}: %+v, %v", p, err)
	}
}

// What is left of a file in which "action: plan" stood must not make nodes deploy.
func TestCutFileIsNotNoProfile(t *testing.T) {
	const text = "parameters:\n  action: plan\n"
	for _, tt := range []struct {
		name  string
		bytes int
		want  string
	}{
		{"default.yaml", 0, "default.yaml: is empty"},
		{"default.yaml", len("parameters:\n"), "default.yaml:1:13: has no value"},
		{"n1.yaml", 0, "n1.yaml: is empty"},
	} {
		dir := dirOf(t, map[string]string{"default.yaml": text, "n1.yaml": text, tt.name: text[:tt.bytes]})
		if b, err := JSON(dir, "n1"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s, %d bytes: the node gets %s, %v", tt.name, tt.bytes, b, err)
		}
		if _, err := CheckDir(dir); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s, %d bytes: %v", tt.name, tt.bytes, err)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"hostnam: a\n", `x.yaml:1:1: unknown field "hostnam"`},
		{"machineID: reset\nhostname: a_b\n", `x.yaml:2:1: hostname: "a_b"`},
		{"hostname: " + strings.Repeat("a", 65) + "\n", "64 characters"},
		{"hostname: a\nhostname: b\n", "x.yaml:2:1: "},
		{"hostname: [a]\n", "x.yaml:1:11: "},
		{"hostname: \"a\n", "x.yaml:1:11: "},
		{"- a\n", "x.yaml:1:"},
		{"machineID: remove\n", "x.yaml:1:1: machineID: \"remove\": want one of keep, reset"},
		{"parameters:\n  thne: kexec\n", "x.yaml:2:3: parameters.thne: no such parameter; swarmboot.then?"},
		{"parameters:\n  then: halt\n", "x.yaml:2:3: parameters.then: want one of kexec"},
		{"parameters:\n  server: http://x\n", "x.yaml:2:3: parameters.server: is needed before"},
		{"parameters:\n  action: shell\n", "x.yaml:2:3: parameters.action: shell can only stand on the kernel command line"},
		{"ssh:\n  hostKeys: new\n", "x.yaml:2:3: ssh.hostKeys: "},
		{"ssh:\n  authorizedKeys:\n    root:\n      - ssh-rsa AAAA\n", "x.yaml:4:9: ssh.authorizedKeys.root[0]: "},
		{"ssh:\n  authorizedKeys:\n    ../x: []\n", "x.yaml:3:5: ssh.authorizedKeys.../x: not the name"},
		{"files:\n  - path: etc/x\n    content: a\n", "x.yaml:2:5: files[0].path: \"etc/x\": not an absolute"},
		{"files:\n  - path: /etc/../x\n    content: a\n", "files[0].path: "},
		{"files:\n  - path: /run/x\n    content: a\n", "not kept on the disk"},
		{"files:\n  - path: /a\n    content: a\n    mode: 999\n", "x.yaml:4:5: files[0].mode: \"999\""},
		{"files:\n  - path: /a\n    content: a\n    uid: -1\n", "x.yaml:4:5: files[0].uid: "},
		{"files:\n  - path: /a\n", "x.yaml:2:5: files[0]: has neither"},
		{"files:\n  - path: /a\n    url: /files/a\n", "files[0].sha256: "},
		{"files:\n  - path: /a\n    url: ftp://h/a\n    sha256: 00\n", "x.yaml:3:5: files[0].url: "},
		{"files:\n  - {path: /a, content: a}\n  - {path: /a, content: b}\n", "x.yaml:3:6: files[1].path: \"/a\": stands here twice"},
		{"network:\n  interfaces:\n    - name: eth0\n", "x.yaml:3:7: network.interfaces[0]: needs addresses"},
		{"network:\n  interfaces:\n    - dhcp: true\n", "needs mac or name"},
		{"network:\n  interfaces:\n    - {mac: '52:54:00', dhcp: true}\n", "x.yaml:3:8: network.interfaces[0].mac: "},
		{"network:\n  interfaces:\n    - name: a\n      addresses:\n        - 10.0.0.1\n", "x.yaml:5:11: network.interfaces[0].addresses[0]: "},
		{"network:\n  interfaces:\n    - {name: a, dhcp: true, gateway: 10.0.0.1}\n", "excludes"},
		{"fstab:\n  - {device: /dev/sdb, path: data, type: ext4}\n", "fstab[0].path: "},
		{"fstab:\n  - {device: /dev/sdb, path: /data, type: ext4, pass: 3}\n", "fstab[0].pass: "},
		{"a: &x b\nhostname: *x\n", "x.yaml:1:4: anchors"},
		{"hostname: !!str a\n", "tags are not taken"},
		{"hostname: a\n---\nhostname: b\n", "a second document"},
		{strings.Repeat("# x\n", params.MaxProfile/4+1), "more than"},
	} {
		_, err := Parse("x.yaml", []byte(tt.text))
		var pe *strictyaml.Error
		if err == nil || !strings.Contains(err.Error(), tt.want) || !errors.As(err, &pe) {
			t.Errorf("%.200q: got %v, want %s", tt.text, err, tt.want)
		}
	}
}

func dirOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// What one node gets is default.yaml with what its own file says instead; another's file is not read.
func TestFor(t *testing.T) {
	dir := dirOf(t, map[string]string{
		"default.yaml": "hostname: all\nmachineID: reset\nparameters: {then: reboot, seed: 1m}\nfiles:\n- {path: /a, content: default}\n- {path: /b, content: default}\n" +
			"ssh: {authorizedKeys: {root: [" + key + "]}}\nfstab:\n- {device: a, path: /m, type: ext4}\n- {device: s1, path: none, type: swap}\n" +
			"network: {interfaces: [{mac: boot, dhcp: true}]}\ncloudInit: {userData: '#default', metaData: m}\n",
		"52-54-00-aa-bb-cc.yaml": "hostname: own\nparameters: {then: poweroff}\nfiles:\n- {path: /b, content: own}\n- {path: /c, content: own}\n" +
			"ssh: {hostKeys: generate}\nfstab:\n- {device: b, path: /m, type: xfs}\n- {device: s2, path: none, type: swap}\nnetwork: {interfaces: [{name: eth0, addresses: [10.0.0.1/8]}]}\ncloudInit: {userData: '#own'}\n",
		"broken.yaml": "x",
		"host-1.yaml": "hostname: host-1\n",
	})
	p, err := For(dir, "52:54:00:AA:BB:CC")
	if err != nil {
		t.Fatal(err)
	}
	var contents []string
	for _, f := range p.Files {
		contents = append(contents, f.Path+"="+*f.Content)
	}
	got := []any{p.Hostname, p.MachineID, p.Parameters, contents, p.SSH.HostKeys, len(p.SSH.AuthorizedKeys["root"]), p.Fstab[0].Device, len(p.Fstab),
		p.Network.Interfaces[0].Name, len(p.Network.Interfaces), p.CloudInit.UserData, p.CloudInit.MetaData}
	want := []any{"own", params.MachineIDReset, map[string]string{"then": "poweroff", "seed": "1m"}, []string{"/a=default", "/b=own", "/c=own"},
		params.HostKeysGenerate, 1, "b", 3, "eth0", 1, "#own", "m"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	for node, want := range map[string]string{"52:54:00:aa:bb:cd": "all", "host-1": "host-1", "default": "all"} {
		if p, err := For(dir, node); err != nil || p.Hostname != want {
			t.Errorf("%s: %+v, %v", node, p, err)
		}
	}
	for node, want := range map[string]string{"broken": "broken.yaml:1:1: ", "../x": "neither", "": "neither"} {
		if _, err := For(dir, node); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", node, err)
		}
	}
	if p, err := For(filepath.Join(dir, "none"), "a"); err != nil || p.HasIdentity() {
		t.Errorf("without a directory: %+v, %v", p, err)
	}
	// The node takes what the server gives.
	b, err := JSON(dir, "52-54-00-aa-bb-cc")
	if err != nil {
		t.Fatal(err)
	}
	if q, err := params.ParseProfile(b); err != nil || !reflect.DeepEqual(p, q) {
		t.Errorf("%v\n%+v\n%+v", err, p, q)
	}
	// A file that changes is read anew.
	if err := os.WriteFile(filepath.Join(dir, "host-1.yaml"), []byte("hostname: host-2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if p, err := For(dir, "host-1"); err != nil || p.Hostname != "host-2" {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestCheckDir(t *testing.T) {
	dir := dirOf(t, map[string]string{"default.yaml": "hostname: a\n", "52-54-00-AA-bb-cc.yaml": "", "525400aabbcd.yaml": "", "x.yml": "", "good.yaml": "{}", "empty.yaml": "", "bad.yaml": "hostname: '-'\n",
		"-x.yaml": "", "notes.txt": "?"})
	files, err := CheckDir(dir)
	if len(files) != 7 || files[0] != filepath.Join(dir, "-x.yaml") || err == nil {
		t.Fatalf("%q, %v", files, err)
	}
	for _, want := range []string{"52-54-00-AA-bb-cc.yaml: is not read: name it 52-54-00-aa-bb-cc.yaml", "name it 52-54-00-aa-bb-cd.yaml", "x.yml: is not read", "bad.yaml:1:1: hostname", "empty.yaml: is empty", "-x.yaml: is not read"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
	if lines := strings.Count(err.Error(), "\n") + 1; lines != 6 {
		t.Errorf("%d errors:\n%v", lines, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{whole, "", "a: b", "files: [{path: /a, content: b}]", "? a\n: b\n", "hostname: |\n  a", "network: {interfaces: [{", "[[[[", "a: &b [*b]", "<<: {hostname: a}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse("f.yaml", b)
		if err != nil {
			return
		}
		if errs := p.Check(); len(errs) > 0 {
			t.Fatalf("accepted, and wrong: %v", errs[0])
		}
	})
}

// A machine that boots by another of its cards keeps its profile.
func TestName(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"default", "52-54-00-00-00-0a", "52-54-00-00-00-0b"} {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte("hostname: x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const a, b, c, d = "52:54:00:00:00:0a", "52:54:00:00:00:0b", "52:54:00:00:00:0c", "52:54:00:00:00:0d"
	for _, tt := range []struct {
		names []string
		want  string
	}{{[]string{b, a, b}, b}, {[]string{c, c, a, b}, a}, {[]string{c, d}, c}, {[]string{c}, c}, {[]string{"host", "../x", a}, a}} {
		if got := Name(dir, tt.names[0], tt.names[1:]...); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.names, got, tt.want)
		}
	}
}
