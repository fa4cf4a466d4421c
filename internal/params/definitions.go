package params

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// definition is one parameter: Help, Names and ParseCmdline all read this list.
type definition struct {
	name  string // without Prefix
	value string // what may stand behind "=", for people
	def   string // default, for people
	text  string
	set   func(*Config, string) error
}

var definitions = []definition{
	{"action", "deploy|plan|shell", "deploy", "what the node does; plan: show what a deployment would do to which disks, write nothing; shell: nothing, wait for a person",
		choice(func(c *Config) *Action { return &c.Action }, ActionDeploy, ActionPlan, ActionShell)},
	{"append", `"TEXT"`, "", "added to the kernel command line of the deployed system",
		func(c *Config, v string) error { c.Append = v; return nil }},
	{"bootentry", "first|after-network|none", "after-network", "boot entry of the deployed system in UEFI firmware; after-network: behind the network entry that the node was booted from, first of all when there is none",
		choice(func(c *Config) *BootEntry { return &c.BootEntry }, BootEntryFirst, BootEntryAfterNetwork, BootEntryNone)},
	{"carrier", "DURATION", "90s", "longest wait for a link; spanning tree and LACP can take over a minute",
		duration(func(c *Config) *time.Duration { return &c.Carrier })},
	{"dhcp", "DURATION", "2m", "longest wait for a lease",
		duration(func(c *Config) *time.Duration { return &c.DHCP })},
	{"disk", "SELECTOR", "only", "which disk is overwritten: only, /dev/PATH, serial=, wwn=, model=, transport=, rotational=, size=; terms joined by commas must all match",
		setDisk},
	{"grow", "last|proportional|exact|none", "last", "on a disk of another size than the image's; last: the last partition grows into the rest, and its file system (ext4, XFS, btrfs) with it; proportional: so do all that can, in proportion; exact: nothing grows, and a smaller disk is taken where nothing used lies beyond its end; none: nothing grows",
		choice(func(c *Config) *Grow { return &c.Grow }, GrowLast, GrowProportional, GrowExact, GrowNone)},
	{"image", "NAME", "", "image on the server; needed for action=deploy and plan", setImage},
	{"layout", "NAME", "", "layout on the server: which disks, partitions and arrays the image goes to, and what is kept; without one it goes to one disk, see disk", setLayout},
	{"nic", "MAC|NAME", "", "the only network interface to use; without it all that have a link", setNIC},
	{"onerror", "shell|reboot|poweroff", "shell", "what follows a failed deployment",
		choice(func(c *Config) *OnError { return &c.OnError }, OnErrorShell, OnErrorReboot, OnErrorPowerOff)},
	{"rack", "NAME", "", "name of the node's rack or switch, 64 bytes at most: nodes of one rack take the image from each other; without it they go by the switch that they hear of by LLDP, or else by the network of their address", setRack},
	{"seed", "DURATION", "10m", "longest time to go on seeding when other nodes still depend on this one; 0s: leave at once",
		duration(func(c *Config) *time.Duration { return &c.Seed })},
	{"server", "URL", "", "server; without it the DHCP server, port 8080", setServer},
	{"then", "kexec|reboot|poweroff|shell", "kexec", "what follows a deployment",
		choice(func(c *Config) *Then { return &c.Then }, ThenKexec, ThenReboot, ThenPowerOff, ThenShell)},
	{"verify", "none|write|readback", "write", "write: check raw hashes of what is written; readback: also of what the disk returns afterwards",
		choice(func(c *Config) *Verify { return &c.Verify }, VerifyNone, VerifyWrite, VerifyReadBack)},
	{"write", "cache|direct", "cache", "how the image gets to the disk; cache: through the page cache; direct: past it (O_DIRECT), which is faster on fast disks, but what other nodes want late is read from the disk again",
		choice(func(c *Config) *Write { return &c.Write }, WriteCache, WriteDirect)},
}

func choice[T ~string](field func(*Config) *T, values ...T) func(*Config, string) error {
	return func(c *Config, v string) error {
		if !slices.Contains(values, T(v)) {
			return fmt.Errorf("want one of %s", join(values))
		}
		*field(c) = T(v)
		return nil
	}
}

func join[T ~string](values []T) string {
	s := make([]string, len(values))
	for i, v := range values {
		s[i] = string(v)
	}
	return strings.Join(s, ", ")
}

// maxDuration keeps a slip of the hand from making a node wait for ever.
const maxDuration = 7 * 24 * time.Hour

func duration(field func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil {
			return fmt.Errorf("want a duration with its unit, such as 90s, 5m or 1h30m")
		}
		if d < 0 || d > maxDuration {
			return fmt.Errorf("want a duration from 0s to %s", maxDuration)
		}
		*field(c) = d
		return nil
	}
}

// setDisk leaves the syntax to disk.ParseSelector, which knows it; it only
// refuses what cannot be meant.
func setDisk(c *Config, v string) error {
	if strings.TrimSpace(v) == "" {
		return fmt.Errorf("no disk named; leave the parameter out to mean the only disk")
	}
	c.Disk = v
	return nil
}

var imageName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$`)

func setImage(c *Config, v string) error {
	if !imageName.MatchString(v) {
		return fmt.Errorf("want letters, digits and . _ + - only, beginning with a letter or digit")
	}
	c.Image = v
	return nil
}

// setLayout takes the names that images have too: both are files on the server.
func setLayout(c *Config, v string) error {
	if !imageName.MatchString(v) {
		return fmt.Errorf("want letters, digits and . _ + - only, beginning with a letter or digit")
	}
	c.Layout = v
	return nil
}

var rackName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/+-]{0,63}$`)

func setRack(c *Config, v string) error {
	if !rackName.MatchString(v) {
		return fmt.Errorf("want up to 64 letters, digits and . _ : / + - only, beginning with a letter or digit")
	}
	c.Rack = v
	return nil
}

var interfaceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$`)

func setNIC(c *Config, v string) error {
	if strings.Contains(v, ":") {
		mac, err := net.ParseMAC(v)
		if err != nil {
			return fmt.Errorf("not a MAC address")
		}
		c.NIC = mac.String()
		return nil
	}
	if !interfaceName.MatchString(v) {
		return fmt.Errorf("neither a MAC address (with colons) nor the name of an interface")
	}
	c.NIC = v
	return nil
}

func setServer(c *Config, v string) error {
	u, err := url.Parse(v)
	if err != nil {
		return fmt.Errorf("not a URL")
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return fmt.Errorf("want a URL such as http://10.0.0.1:8080")
	}
	if u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("want scheme, host, port and path only")
	}
	c.Server = strings.TrimRight(v, "/")
	return nil
}
