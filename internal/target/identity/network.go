package identity

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	"swarmboot/internal/params"
)

const header = "# Written by swarmboot from the profile of this node.\n"

// file is one that is to be written.
type file struct {
	name, text string
	mode       uint32
}

// nic is an interface of the profile, ready to be rendered.
type nic struct {
	params.Interface
	id     string   // unique in the files that we write
	mac    string   // "" = matched by name
	v4, v6 []string // addresses
	gw4    string
	gw6    string
}

// network writes the network configuration in the form that the image uses.
func (j *job) network() error {
	if len(j.p.Network.Interfaces) == 0 {
		return nil
	}
	nics, err := j.nics()
	if err != nil {
		return err
	}
	r := j.p.Network.Renderer
	if r == "" || r == params.RendererAuto {
		if r, err = j.renderer(); err != nil {
			return err
		}
	}
	files, err := j.render(r, nics)
	if err != nil {
		return err
	}
	// cloud-init would write its own beside it at the first boot.
	if j.exists("/etc/cloud/cloud.cfg") && j.p.CloudInit.NetworkConfig == "" {
		files = append(files, file{"/etc/cloud/cloud.cfg.d/99-swarmboot-network.cfg", header + "network: {config: disabled}\n", 0o644})
	}
	for _, f := range files {
		if err := j.write(f.name, []byte(f.text), change{mode: &f.mode}); err != nil {
			return err
		}
	}
	j.did("network (%s)", r)
	return nil
}

func (j *job) nics() ([]nic, error) {
	var nics []nic
	for i, n := range j.p.Network.Interfaces {
		v := nic{Interface: n, id: fmt.Sprintf("swarmboot%d", i), mac: strings.ToLower(n.MAC)}
		if n.MAC == params.MACBoot {
			v.mac = strings.ToLower(j.o.MAC)
		}
		if mac, err := net.ParseMAC(v.mac); n.MAC != "" && (err != nil || len(mac) != 6) {
			return nil, fmt.Errorf("network: the MAC address of the interface that the node booted from is not known")
		} else if n.MAC != "" {
			v.mac = mac.String()
		}
		for _, a := range n.Addresses {
			p, err := netip.ParsePrefix(a)
			switch {
			case err != nil:
				return nil, fmt.Errorf("network: %w", err)
			case p.Addr().Is4():
				v.v4 = append(v.v4, a)
			default:
				v.v6 = append(v.v6, a)
			}
		}
		if strings.Contains(n.Gateway, ":") {
			v.gw6 = n.Gateway
		} else {
			v.gw4 = n.Gateway
		}
		nics = append(nics, v)
	}
	return nics, nil
}

// renderer finds what configures the image's network: netplan when it is installed, else what its systemd starts, else ifupdown.
func (j *job) renderer() (params.Renderer, error) {
	has := func(names ...string) bool { return slices.ContainsFunc(names, j.exists) }
	started := func(unit string) bool { return j.isLink("/etc/systemd/system/multi-user.target.wants/" + unit) }
	switch {
	case j.exists("/etc/netplan") && has("/usr/sbin/netplan", "/usr/bin/netplan", "/usr/lib/netplan/generate", "/usr/libexec/netplan/generate"):
		return params.RendererNetplan, nil
	case has("/usr/sbin/NetworkManager", "/usr/bin/NetworkManager") && started("NetworkManager.service"):
		return params.RendererNetworkManager, nil
	case started("systemd-networkd.service"):
		return params.RendererNetworkd, nil
	case has("/sbin/ifup", "/usr/sbin/ifup") && j.exists("/etc/network"):
		return params.RendererIfupdown, nil
	}
	return "", errors.New("network: the image uses none of netplan, NetworkManager, systemd-networkd and ifupdown; name the renderer, or write its files with the profile's files")
}

func (j *job) render(r params.Renderer, nics []nic) ([]file, error) {
	switch r {
	case params.RendererNetplan:
		return []file{{"/etc/netplan/60-swarmboot.yaml", netplan(nics), 0o600}}, nil
	case params.RendererNetworkManager:
		return append(eachNIC(nics, "/etc/NetworkManager/system-connections/swarmboot%d.nmconnection", 0o600, keyfile), links(nics)...), nil
	case params.RendererNetworkd:
		return append(eachNIC(nics, "/etc/systemd/network/05-swarmboot%d.network", 0o644, networkd), links(nics)...), nil
	case params.RendererIfupdown:
		for i := range nics {
			if nics[i].Name == "" { // ifupdown knows names only
				nics[i].Name = fmt.Sprintf("lan%d", i)
			}
		}
		files, err := j.ifupdown(nics)
		return append(files, links(nics)...), err
	}
	return nil, fmt.Errorf("network: unknown renderer %q", r)
}

func eachNIC(nics []nic, name string, mode uint32, render func(nic) string) []file {
	var files []file
	for i, n := range nics {
		files = append(files, file{fmt.Sprintf(name, i), render(n), mode})
	}
	return files
}

// links has udev give a name to interfaces that are matched by address and named (systemd.link(5)).
func links(nics []nic) []file {
	var files []file
	for i, n := range nics {
		if n.mac != "" && n.Name != "" {
			files = append(files, file{fmt.Sprintf("/etc/systemd/network/05-swarmboot%d.link", i),
				header + "[Match]\nMACAddress=" + n.mac + "\nType=ether\n\n[Link]\nName=" + n.Name + "\n", 0o644})
		}
	}
	return files
}

// netplan: https://netplan.readthedocs.io, "YAML configuration". A definition without match is for the interface of its name.
func netplan(nics []nic) string {
	var b strings.Builder
	b.WriteString(header + "network:\n  version: 2\n  ethernets:\n")
	for _, n := range nics {
		if n.mac == "" {
			fmt.Fprintf(&b, "    %s:\n", n.Name)
		} else {
			fmt.Fprintf(&b, "    %s:\n      match: {macaddress: %q}\n", n.id, n.mac)
			if n.Name != "" {
				fmt.Fprintf(&b, "      set-name: %s\n", n.Name)
			}
		}
		fmt.Fprintf(&b, "      dhcp4: %t\n", n.DHCP)
		if len(n.Addresses) > 0 {
			fmt.Fprintf(&b, "      addresses: %s\n", quoted(n.Addresses))
		}
		for _, r := range [][2]string{{"0.0.0.0/0", n.gw4}, {"::/0", n.gw6}} {
			if r[1] != "" {
				fmt.Fprintf(&b, "      routes: [{to: %q, via: %q}]\n", r[0], r[1])
			}
		}
		if len(n.DNS)+len(n.Search) > 0 {
			fmt.Fprintf(&b, "      nameservers: {addresses: %s, search: %s}\n", quoted(n.DNS), quoted(n.Search))
		}
	}
	return b.String()
}

func quoted(list []string) string {
	q := make([]string, len(list))
	for i, s := range list {
		q[i] = fmt.Sprintf("%q", s)
	}
	return "[" + strings.Join(q, ", ") + "]"
}

// networkd: systemd.network(5).
func networkd(n nic) string {
	var b strings.Builder
	b.WriteString(header + "[Match]\n")
	if n.mac != "" {
		fmt.Fprintf(&b, "MACAddress=%s\nType=ether\n", n.mac)
	} else {
		fmt.Fprintf(&b, "Name=%s\n", n.Name)
	}
	b.WriteString("\n[Network]\n")
	if n.DHCP {
		b.WriteString("DHCP=yes\n")
	}
	for _, l := range []struct {
		key    string
		values []string
	}{{"Address", n.Addresses}, {"Gateway", one(n.Gateway)}, {"DNS", n.DNS}, {"Domains", n.Search}} {
		for _, v := range l.values {
			fmt.Fprintf(&b, "%s=%s\n", l.key, v)
		}
	}
	return b.String()
}

func one(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// keyfile: nm-settings-keyfile(5).
func keyfile(n nic) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s[connection]\nid=%s\ntype=ethernet\nautoconnect-priority=100\n", header, n.id)
	if n.mac == "" {
		fmt.Fprintf(&b, "interface-name=%s\n\n[ethernet]\n", n.Name)
	} else {
		fmt.Fprintf(&b, "\n[ethernet]\nmac-address=%s\n", strings.ToUpper(n.mac))
	}
	v4 := func(s string) bool { return !strings.Contains(s, ":") }
	for _, f := range []struct {
		section, none, gateway string
		addresses              []string
		is                     func(string) bool
	}{
		{"ipv4", "disabled", n.gw4, n.v4, v4},
		{"ipv6", "auto", n.gw6, n.v6, func(s string) bool { return !v4(s) }},
	} {
		method := f.none
		switch {
		case n.DHCP:
			method = "auto"
		case len(f.addresses) > 0:
			method = "manual"
		}
		fmt.Fprintf(&b, "\n[%s]\nmethod=%s\n", f.section, method)
		for i, a := range f.addresses {
			if i == 0 && f.gateway != "" {
				a += "," + f.gateway
			}
			fmt.Fprintf(&b, "address%d=%s\n", i+1, a)
		}
		if dns := filter(n.DNS, f.is); len(dns) > 0 {
			fmt.Fprintf(&b, "dns=%s;\n", strings.Join(dns, ";"))
		}
		if len(n.Search) > 0 && method != "disabled" {
			fmt.Fprintf(&b, "dns-search=%s;\n", strings.Join(n.Search, ";"))
		}
	}
	return b.String()
}

func filter(list []string, keep func(string) bool) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return !keep(s) })
}

const interfaces = "/etc/network/interfaces"

var sourced = regexp.MustCompile(`(?m)^\s*source(-directory)?\s+(/etc/network/)?interfaces\.d`)

// ifupdown: interfaces(5). What the image has on an interface of ours is taken out: two stanzas for one name would both count.
func (j *job) ifupdown(nics []nic) ([]file, error) {
	var names []string
	for _, n := range nics {
		names = append(names, n.Name)
	}
	main, err := j.text(interfaces)
	if err != nil {
		return nil, err
	}
	files := []file{}
	changed := withoutStanzas(main, names)
	if !sourced.MatchString(changed) {
		changed += "\nsource /etc/network/interfaces.d/*\n"
	}
	if changed != main {
		files = append(files, file{interfaces, changed, 0o644})
	}
	others, err := j.list(interfaces + ".d")
	if err != nil {
		return nil, err
	}
	for _, other := range others {
		name := path.Join(interfaces+".d", other)
		text, err := j.text(name)
		if err != nil {
			return nil, err
		}
		if changed := withoutStanzas(text, names); changed != text && other != "swarmboot" {
			files = append(files, file{name, changed, 0o644})
		}
	}
	return append(files, file{interfaces + ".d/swarmboot", stanzas(nics), 0o644}), nil
}

func stanzas(nics []nic) string {
	var b strings.Builder
	b.WriteString(header)
	for _, n := range nics {
		fmt.Fprintf(&b, "\nauto %s\n", n.Name)
		if n.DHCP {
			fmt.Fprintf(&b, "iface %s inet dhcp\n", n.Name)
		}
		for _, f := range []struct {
			family, gateway string
			addresses       []string
		}{{"inet", n.gw4, n.v4}, {"inet6", n.gw6, n.v6}} {
			for i, a := range f.addresses {
				fmt.Fprintf(&b, "iface %s %s static\n    address %s\n", n.Name, f.family, a)
				if i == 0 && f.gateway != "" {
					fmt.Fprintf(&b, "    gateway %s\n", f.gateway)
				}
			}
		}
		if len(n.DNS) > 0 {
			fmt.Fprintf(&b, "    dns-nameservers %s\n", strings.Join(n.DNS, " "))
		}
		if len(n.Search) > 0 {
			fmt.Fprintf(&b, "    dns-search %s\n", strings.Join(n.Search, " "))
		}
	}
	return b.String()
}

var stanzaStart = regexp.MustCompile(`^(iface|mapping|auto|allow-\S+|source|source-directory|rename|no-auto-down|no-scripts)\s`)

// withoutStanzas takes the stanzas of the named interfaces out of an interfaces file.
func withoutStanzas(text string, names []string) string {
	var b strings.Builder
	drop := false
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if stanzaStart.MatchString(strings.TrimLeft(line, " \t")) {
			drop = len(f) > 1 && f[0] == "iface" && slices.Contains(names, f[1])
			if f[0] == "auto" || strings.HasPrefix(f[0], "allow-") {
				kept := slices.DeleteFunc(slices.Clone(f[1:]), func(s string) bool { return slices.Contains(names, s) })
				if len(kept) < len(f)-1 {
					if len(kept) > 0 {
						fmt.Fprintf(&b, "%s %s\n", f[0], strings.Join(kept, " "))
					}
					continue
				}
			}
		}
		if !drop || len(f) == 0 || strings.HasPrefix(f[0], "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}
