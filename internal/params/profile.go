package params

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// MaxProfile is the most bytes that a profile may have, as YAML and as JSON.
const MaxProfile = 1 << 20

// Profile is what a server knows of one node: parameters that its command line leaves open, and the identity of the
// system that is deployed to it. On the server it is YAML, on the way to the node JSON; the names are the same.
type Profile struct {
	// Parameters are swarmboot.* parameters by their names without Prefix; see ProfileNames. The command line wins.
	Parameters map[string]string `json:"parameters,omitempty"`

	Hostname  string    `json:"hostname,omitempty"`
	MachineID MachineID `json:"machineID,omitempty"`
	SSH       SSH       `json:"ssh,omitzero"`
	Files     []File    `json:"files,omitempty"`
	Network   Network   `json:"network,omitzero"`
	CloudInit CloudInit `json:"cloudInit,omitzero"`
	Fstab     []Mount   `json:"fstab,omitempty"`

	// NewUUIDs gives the disk, its partitions and their file systems UUIDs of this node's own; nil is false.
	NewUUIDs *bool  `json:"newUUIDs,omitempty"`
	Hooks    []Hook `json:"hooks,omitempty"`
}

// MachineID is what becomes of /etc/machine-id.
type MachineID string

// HostKeys is what becomes of the SSH host keys of the image.
type HostKeys string

// The values of MachineID and HostKeys; "" is keep.
const (
	MachineIDKeep  MachineID = "keep"
	MachineIDReset MachineID = "reset" // made anew at the first boot

	HostKeysKeep     HostKeys = "keep"
	HostKeysRemove   HostKeys = "remove"   // for images that make their own at boot
	HostKeysGenerate HostKeys = "generate" // new ones, made on the node
)

// SSH is what an SSH server knows.
type SSH struct {
	HostKeys HostKeys `json:"hostKeys,omitempty"`
	// AuthorizedKeys are lines of ~/.ssh/authorized_keys by user; they are added to what the image has.
	AuthorizedKeys map[string][]string `json:"authorizedKeys,omitempty"`
}

// File is a regular file. What is not given is kept from the file that it replaces; of a new one it is mode 0644,
// owner 0:0.
type File struct {
	Path    string  `json:"path"`           // absolute
	Mode    string  `json:"mode,omitempty"` // octal, as in "0644"
	UID     *int64  `json:"uid,omitempty"`
	GID     *int64  `json:"gid,omitempty"`
	Content *string `json:"content,omitempty"`
	URL     string  `json:"url,omitempty"`    // http://..., or a path on the server; instead of Content
	SHA256  string  `json:"sha256,omitempty"` // of what URL gives, hexadecimal
}

// Network is the configuration of the deployed system's network.
type Network struct {
	Renderer   Renderer    `json:"renderer,omitempty"`
	Interfaces []Interface `json:"interfaces,omitempty"`
}

// Renderer is the program that configures the deployed system's network.
type Renderer string

// The values of Renderer; "" is auto.
const (
	RendererAuto           Renderer = "auto" // the first of the following that the image uses
	RendererNetplan        Renderer = "netplan"
	RendererNetworkManager Renderer = "networkmanager"
	RendererNetworkd       Renderer = "networkd"
	RendererIfupdown       Renderer = "ifupdown"
)

// MACBoot as an Interface's MAC stands for the interface through which the node reached the server.
const MACBoot = "boot"

// Interface is one network interface: by DHCP, or with fixed addresses.
type Interface struct {
	MAC       string   `json:"mac,omitempty"`  // matches by address; MACBoot
	Name      string   `json:"name,omitempty"` // matches by name; beside MAC: the name that it gets
	DHCP      bool     `json:"dhcp,omitempty"`
	Addresses []string `json:"addresses,omitempty"` // ADDRESS/BITS
	Gateway   string   `json:"gateway,omitempty"`
	DNS       []string `json:"dns,omitempty"`
	Search    []string `json:"search,omitempty"`
}

// CloudInit is the seed of cloud-init's data source NoCloud.
type CloudInit struct {
	UserData      string `json:"userData,omitempty"`
	MetaData      string `json:"metaData,omitempty"` // "": instance-id and local-hostname of the node
	NetworkConfig string `json:"networkConfig,omitempty"`
}

// Mount is a line of /etc/fstab. It replaces a line of the same path.
type Mount struct {
	Device  string `json:"device"` // as in fstab: UUID=..., LABEL=..., /dev/..., host:/path
	Path    string `json:"path"`   // "none" for swap
	Type    string `json:"type"`
	Options string `json:"options,omitempty"` // "": defaults
	Pass    int    `json:"pass,omitempty"`    // 0, 1 or 2: order of checks at boot
}

// ProfileNames lists the parameters, without Prefix, that a profile can give. The others are needed before a node can
// ask for its profile.
func ProfileNames() []string {
	return []string{"action", "append", "bootentry", "disk", "grow", "layout", "onerror", "rack", "seed", "then", "verify", "write"}
}

// Given returns the names, without Prefix, of the parameters that a kernel command line gives.
func Given(line string) map[string]bool {
	given := map[string]bool{}
	for _, p := range Split(line) {
		if name, ok := strings.CutPrefix(p.Name, Prefix); ok {
			given[name] = true
		}
	}
	return given
}

// ParseProfile reads a profile from JSON: strictly, bounded, and checked.
func ParseProfile(b []byte) (*Profile, error) {
	if len(b) > MaxProfile {
		return nil, fmt.Errorf("profile of %d bytes, at most %d are taken", len(b), MaxProfile)
	}
	p := &Profile{}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(p); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("profile: data after its end")
	}
	var errs []error
	for _, e := range p.Check() {
		errs = append(errs, e)
	}
	return p, errors.Join(errs...)
}

// HasIdentity says whether there is anything to change in the deployed system.
func (p *Profile) HasIdentity() bool {
	return p.Hostname != "" || p.MachineID == MachineIDReset || p.SSH.changes() || len(p.Files) > 0 ||
		len(p.Network.Interfaces) > 0 || p.CloudInit != (CloudInit{}) || len(p.Fstab) > 0
}

// HasNewUUIDs says whether the node gets UUIDs of its own.
func (p *Profile) HasNewUUIDs() bool { return p.NewUUIDs != nil && *p.NewUUIDs }

// HooksAt returns the hooks of a point, in their order.
func (p *Profile) HooksAt(at HookPoint) []Hook {
	return slices.DeleteFunc(slices.Clone(p.Hooks), func(h Hook) bool { return h.At != at })
}

func (s SSH) changes() bool {
	return s.HostKeys == HostKeysRemove || s.HostKeys == HostKeysGenerate || len(s.AuthorizedKeys) > 0
}

// Apply sets the parameters of the profile in c, save those that are given, by their names without Prefix.
func (p *Profile) Apply(c *Config, given map[string]bool) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(p.Parameters)) {
		if given[name] {
			continue
		}
		if err := p.parameter(c, name); err != nil {
			errs = append(errs, fmt.Errorf("parameters.%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func (p *Profile) parameter(c *Config, name string) error {
	d := find(name)
	switch {
	case d == nil:
		return fmt.Errorf("no such parameter%s", hint(name))
	case !slices.Contains(ProfileNames(), name):
		return fmt.Errorf("is needed before the profile is read: it can only stand on the kernel command line")
	case name == "action" && p.Parameters[name] == string(ActionShell):
		return fmt.Errorf("%s can only stand on the kernel command line: a node that asks for its profile deploys or plans", ActionShell)
	}
	return d.set(c, p.Parameters[name])
}

// Merge returns p with what over says instead: parameters by name, authorized keys by user, files and mounts by path,
// the cloud-init seed by part, hooks by name; the network as a whole.
func (p *Profile) Merge(over *Profile) *Profile {
	m := *p
	m.Parameters = mergeMaps(p.Parameters, over.Parameters)
	replace(&m.Hostname, over.Hostname)
	replace(&m.MachineID, over.MachineID)
	replace(&m.SSH.HostKeys, over.SSH.HostKeys)
	m.SSH.AuthorizedKeys = mergeMaps(p.SSH.AuthorizedKeys, over.SSH.AuthorizedKeys)
	m.Files = mergeLists(p.Files, over.Files, func(f File) string { return f.Path })
	if len(over.Network.Interfaces) > 0 || over.Network.Renderer != "" {
		m.Network = over.Network
	}
	replace(&m.CloudInit.UserData, over.CloudInit.UserData)
	replace(&m.CloudInit.MetaData, over.CloudInit.MetaData)
	replace(&m.CloudInit.NetworkConfig, over.CloudInit.NetworkConfig)
	m.Fstab = mergeLists(p.Fstab, over.Fstab, Mount.key)
	m.Hooks = mergeLists(p.Hooks, over.Hooks, func(h Hook) string { return h.Name })
	if over.NewUUIDs != nil {
		m.NewUUIDs = over.NewUUIDs
	}
	return &m
}

// key is what tells lines of fstab apart.
func (m Mount) key() string {
	if m.Path == "none" {
		return "none " + m.Device
	}
	return m.Path
}

func replace[T ~string](dst *T, v T) {
	if v != "" {
		*dst = v
	}
}

func mergeMaps[V any](a, b map[string]V) map[string]V {
	if len(a)+len(b) == 0 {
		return nil
	}
	m := map[string]V{}
	maps.Copy(m, a)
	maps.Copy(m, b)
	return m
}

func mergeLists[T any](a, b []T, key func(T) string) []T {
	merged := slices.Clone(a)
	for _, v := range b {
		i := slices.IndexFunc(merged, func(old T) bool { return key(old) == key(v) })
		if i < 0 {
			merged = append(merged, v)
			continue
		}
		merged[i] = v
	}
	return merged
}
