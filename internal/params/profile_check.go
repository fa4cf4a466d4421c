package params

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"swarmboot/internal/field"
)

// maxEntries bounds every list and map of a profile.
const maxEntries = 256

// Check returns everything that is wrong with the profile.
func (p *Profile) Check() []*field.Error {
	var errs []*field.Error
	c := field.New(&errs)
	for _, name := range slices.Sorted(maps.Keys(p.Parameters)) {
		if err := p.parameter(Default(), name); err != nil {
			c.In("parameters", name).Fail("%v", err)
		}
	}
	if p.Hostname != "" && !ValidHostname(p.Hostname) {
		c.In("hostname").Fail("%.100q: want labels of letters, digits and - joined by dots, 64 characters at most", p.Hostname)
	}
	oneOf(c.In("machineID"), p.MachineID, MachineIDKeep, MachineIDReset)
	p.SSH.check(c.In("ssh"))
	checkFiles(c.In("files"), p.Files)
	p.Network.check(c.In("network"))
	checkFstab(c.In("fstab"), p.Fstab)
	checkHooks(c.In("hooks"), p.Hooks)
	return errs
}

func oneOf[T ~string](c field.Checker, v T, values ...T) {
	if v != "" && !slices.Contains(values, v) {
		c.Fail("%.100q: want one of %s", v, join(values))
	}
}

func tooMany(c field.Checker, n int) bool {
	if n > maxEntries {
		c.Fail("%d entries, at most %d are taken", n, maxEntries)
	}
	return n > maxEntries
}

var hostname = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)

// ValidHostname says whether s can be a machine's name (RFC 1123, section 2.1; hostname(7) for the length).
func ValidHostname(s string) bool { return len(s) <= 64 && hostname.MatchString(s) }

var userName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,31}$`)

func (s SSH) check(c field.Checker) {
	oneOf(c.In("hostKeys"), s.HostKeys, HostKeysKeep, HostKeysRemove, HostKeysGenerate)
	c = c.In("authorizedKeys")
	if tooMany(c, len(s.AuthorizedKeys)) {
		return
	}
	for _, user := range slices.Sorted(maps.Keys(s.AuthorizedKeys)) {
		c := c.In(user)
		if !userName.MatchString(user) {
			c.Fail("not the name of a user")
		}
		if tooMany(c, len(s.AuthorizedKeys[user])) {
			continue
		}
		for i, key := range s.AuthorizedKeys[user] {
			if !validKey(key) {
				c.In(i).Fail("%.60q: not a public key as in id_ed25519.pub (sshd(8), AUTHORIZED_KEYS FILE FORMAT)", key)
			}
		}
	}
}

// validKey looks for a key type followed by base64 that begins with the same type (RFC 4253, section 6.6); options
// may stand before, a comment after.
func validKey(line string) bool {
	if !printable(line) || len(line) > 16<<10 {
		return false
	}
	words := strings.Fields(line)
	for i := 0; i+1 < len(words); i++ {
		b, err := base64.StdEncoding.DecodeString(words[i+1])
		if err != nil || len(b) < 4 {
			continue
		}
		if n := binary.BigEndian.Uint32(b); int64(n) <= int64(len(b)-4) && n > 0 && string(b[4:4+n]) == words[i] {
			return true
		}
	}
	return false
}

// printable says whether s has no control characters.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func checkFiles(c field.Checker, files []File) {
	if tooMany(c, len(files)) {
		return
	}
	seen := map[string]bool{}
	for i, f := range files {
		f.check(c.In(i))
		if seen[f.Path] {
			c.In(i, "path").Fail("%.200q: stands here twice", f.Path)
		}
		seen[f.Path] = true
	}
}

var fileMode = regexp.MustCompile(`^[0-7]{3,4}$`)

const maxID = 1<<32 - 2

func (f File) check(c field.Checker) {
	if reason := badPath(f.Path); reason != "" {
		c.In("path").Fail("%.200q: %s", f.Path, reason)
	}
	if f.Mode != "" && !fileMode.MatchString(f.Mode) {
		c.In("mode").Fail(`%.100q: want octal digits, such as "0644"`, f.Mode)
	}
	for _, id := range []struct {
		name  string
		value *int64
	}{{"uid", f.UID}, {"gid", f.GID}} {
		if id.value != nil && (*id.value < 0 || *id.value > maxID) {
			c.In(id.name).Fail("%d: want a number from 0 to %d", *id.value, int64(maxID))
		}
	}
	f.checkContent(c)
}

func (f File) checkContent(c field.Checker) {
	switch {
	case f.Content == nil && f.URL == "":
		c.Fail("has neither content nor url")
	case f.Content != nil && f.URL != "":
		c.In("url").Fail("content and url exclude each other")
	case f.URL == "" && f.SHA256 != "":
		c.In("sha256").Fail("goes with url only")
	case f.URL != "":
		u, err := url.Parse(f.URL)
		if err != nil || (u.Scheme != "http" || u.Host == "") && (u.Scheme != "" || u.Host != "" || !strings.HasPrefix(u.Path, "/")) {
			c.In("url").Fail("%.200q: want http://..., or a path on the server such as /files/NAME", f.URL)
		}
		if b, err := hex.DecodeString(f.SHA256); err != nil || len(b) != 32 {
			c.In("sha256").Fail("%.100q: want 64 hexadecimal digits", f.SHA256)
		}
	}
}

// badPath says what is wrong with a path in the deployed system, "" if nothing.
func badPath(p string) string {
	switch {
	case !strings.HasPrefix(p, "/"):
		return "not an absolute path"
	case path.Clean(p) != p || p == "/" || len(p) > 4095 || !printable(p):
		return "not the path of a file in its shortest form"
	}
	for _, dir := range []string{"/proc/", "/sys/", "/dev/", "/run/"} {
		if strings.HasPrefix(p+"/", dir) {
			return "what is below " + dir + " is not kept on the disk"
		}
	}
	return ""
}

func (n Network) check(c field.Checker) {
	oneOf(c.In("renderer"), n.Renderer, RendererAuto, RendererNetplan, RendererNetworkManager, RendererNetworkd, RendererIfupdown)
	c = c.In("interfaces")
	if tooMany(c, len(n.Interfaces)) {
		return
	}
	seen := map[string]bool{}
	for i, nic := range n.Interfaces {
		nic.check(c.In(i))
		for _, match := range []string{strings.ToLower(nic.MAC), nic.Name} {
			if match != "" && seen[match] {
				c.In(i).Fail("%.100q: stands here twice", match)
			}
			seen[match] = true
		}
	}
}

func (n Interface) check(c field.Checker) {
	if n.MAC == "" && n.Name == "" {
		c.Fail("needs mac or name")
	}
	if mac, err := net.ParseMAC(n.MAC); n.MAC != "" && n.MAC != MACBoot && (err != nil || len(mac) != 6) {
		c.In("mac").Fail("%.100q: not a MAC address, and not %q", n.MAC, MACBoot)
	}
	if n.Name != "" && !interfaceName.MatchString(n.Name) {
		c.In("name").Fail("%.100q: not the name of an interface", n.Name)
	}
	switch {
	case n.DHCP && (len(n.Addresses) > 0 || n.Gateway != ""):
		c.In("dhcp").Fail("excludes addresses and gateway")
	case !n.DHCP && len(n.Addresses) == 0:
		c.Fail("needs addresses, or dhcp: true")
	}
	n.checkAddresses(c)
}

func (n Interface) checkAddresses(c field.Checker) {
	if tooMany(c, len(n.Addresses)+len(n.DNS)+len(n.Search)) {
		return
	}
	for i, a := range n.Addresses {
		if p, err := netip.ParsePrefix(a); err != nil || p.Addr().IsUnspecified() || p.Addr().IsMulticast() {
			c.In("addresses", i).Fail("%.100q: want an address with its prefix length, such as 10.0.0.5/24", a)
		}
	}
	if _, err := netip.ParseAddr(n.Gateway); n.Gateway != "" && (err != nil || strings.Contains(n.Gateway, "%")) {
		c.In("gateway").Fail("%.100q: not an address", n.Gateway)
	}
	for i, a := range n.DNS {
		if _, err := netip.ParseAddr(a); err != nil || strings.Contains(a, "%") {
			c.In("dns", i).Fail("%.100q: not an address", a)
		}
	}
	for i, s := range n.Search {
		if len(s) > 253 || !hostname.MatchString(s) {
			c.In("search", i).Fail("%.100q: not a domain", s)
		}
	}
}

var word = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

func checkFstab(c field.Checker, mounts []Mount) {
	if tooMany(c, len(mounts)) {
		return
	}
	seen := map[string]bool{}
	for i, m := range mounts {
		c := c.In(i)
		if m.Device == "" || !printable(m.Device) || strings.HasPrefix(m.Device, "#") {
			c.In("device").Fail("%.200q: names no device", m.Device)
		}
		// "/" is a path that can be mounted, though no file.
		if reason := badPath(m.Path); m.Path != "none" && m.Path != "/" && !strings.HasPrefix(m.Path, "/dev/") && !strings.HasPrefix(m.Path, "/run/") && reason != "" {
			c.In("path").Fail("%.200q: %s; swap has \"none\"", m.Path, reason)
		}
		if !word.MatchString(m.Type) {
			c.In("type").Fail("%.100q: not the type of a file system", m.Type)
		}
		if !printable(m.Options) || strings.Contains(m.Options, " ") {
			c.In("options").Fail("%.100q: want words joined by commas", m.Options)
		}
		if m.Pass < 0 || m.Pass > 2 {
			c.In("pass").Fail("%s: want 0, 1 or 2", strconv.Itoa(m.Pass))
		}
		if seen[m.key()] {
			c.In("path").Fail("%.200q: stands here twice", m.Path)
		}
		seen[m.key()] = true
	}
}
