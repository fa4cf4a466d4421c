// Package identity makes a deployed system the one of its node: name, machine ID, keys, network, files. It works on the
// mounted root file system and never outside of it, whatever symlinks the image has.
package identity

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"swarmboot/internal/params"
)

// Options of Apply.
type Options struct {
	Profile  *params.Profile
	Node     string            // the node's name on the server
	MAC      string            // what params.MACBoot stands for
	Contents map[string][]byte // of the files that the profile gives by URL, by path; verified
	Mount    Mounter           // nil: what lies in other file systems cannot be changed
}

type job struct {
	*tree
	o    Options
	p    *params.Profile
	done []string

	unmounts []func() error
}

// Apply changes the system whose root file system is mounted read-write on dir. It returns what it did, for people; after an
// error some of it is done and some not. Every file that it writes is on the disk when it returns.
func Apply(ctx context.Context, dir string, o Options) (done []string, err error) {
	t, err := openTree(dir)
	if err != nil {
		return nil, err
	}
	defer t.close()
	if !t.exists("/etc/.") || !t.exists("/usr/.") && !t.exists("/bin/.") {
		return nil, errors.New("there is no /etc with /usr or /bin: not the root of a system, or one in a subvolume")
	}
	j := &job{tree: t, o: o, p: o.Profile}
	defer func() { err = errors.Join(err, j.unmountAll()) }()
	for _, step := range []func() error{j.readMounts, j.mountWanted, j.machineID, j.hostname, j.hostKeys, j.authorizedKeys, j.network,
		j.cloudInit, j.files, j.fstab} {
		if ctx.Err() != nil {
			return j.done, context.Cause(ctx)
		}
		if err := step(); err != nil {
			return j.done, err
		}
	}
	return j.done, unix.Syncfs(int(t.root.Fd()))
}

func (j *job) did(format string, args ...any) { j.done = append(j.done, fmt.Sprintf(format, args...)) }

// text reads a file; one that is missing is empty.
func (t *tree) text(name string) (string, error) {
	b, err := t.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

// machineID empties /etc/machine-id, so that the first boot makes a new one (machine-id(5), FIRST BOOT SEMANTICS). D-Bus
// makes its own again, or links to that one; and nodes must not share a seed of random numbers.
func (j *job) machineID() error {
	if j.p.MachineID != params.MachineIDReset {
		return nil
	}
	if j.exists("/etc/machine-id") {
		if err := j.write("/etc/machine-id", nil, change{owner: owner{mode: 0o444}}); err != nil {
			return err
		}
	}
	remove := []string{"/var/lib/systemd/random-seed"}
	if !j.isLink("/var/lib/dbus/machine-id") {
		remove = append(remove, "/var/lib/dbus/machine-id")
	}
	for _, name := range remove {
		if err := j.remove(name); err != nil {
			return err
		}
	}
	j.did("machine ID reset")
	return nil
}

var plain = change{owner: owner{mode: 0o644}}

func (j *job) hostname() error {
	name := j.p.Hostname
	if name == "" {
		return nil
	}
	if err := j.write("/etc/hostname", []byte(name+"\n"), plain); err != nil {
		return err
	}
	hosts, err := j.text("/etc/hosts")
	if err != nil {
		return err
	}
	if err := j.write("/etc/hosts", []byte(withHost(hosts, name)), plain); err != nil {
		return err
	}
	j.did("hostname %s", name)
	return nil
}

// withHost gives the address 127.0.1.1, which Debian uses for it, to name; a name with a domain is followed by the one without.
func withHost(hosts, name string) string {
	line := "127.0.1.1\t" + name
	if short, _, ok := strings.Cut(name, "."); ok {
		line += " " + short
	}
	lines := strings.Split(strings.TrimRight(hosts, "\n"), "\n")
	if hosts == "" {
		lines = []string{"127.0.0.1\tlocalhost"}
	}
	at := 0
	kept := lines[:0]
	for _, l := range lines {
		f := strings.Fields(l)
		if len(f) > 0 && f[0] == "127.0.1.1" {
			at = len(kept)
			continue
		}
		kept = append(kept, l)
		if len(f) > 0 && f[0] == "127.0.0.1" {
			at = len(kept)
		}
	}
	return strings.Join(slices.Insert(kept, at, line), "\n") + "\n"
}

func (j *job) files() error {
	for _, f := range j.p.Files {
		c := plain
		if f.Mode != "" {
			m, err := strconv.ParseUint(f.Mode, 8, 12)
			if err != nil {
				return fmt.Errorf("file %s: mode: %w", f.Path, err)
			}
			mode := uint32(m)
			c.mode = &mode
		}
		c.uid, c.gid = id(f.UID), id(f.GID)
		content, ok := j.o.Contents[f.Path]
		if f.Content != nil {
			content, ok = []byte(*f.Content), true
		}
		if !ok {
			return fmt.Errorf("file %s: its content is missing", f.Path)
		}
		if err := j.write(f.Path, content, c); err != nil {
			return err
		}
		j.did("file %s", f.Path)
	}
	return nil
}

func id(v *int64) *int {
	if v == nil {
		return nil
	}
	n := int(*v)
	return &n
}

// cloudInit writes the seed of the data source NoCloud (cloud-init documentation, "NoCloud"). Another instance-id than the
// image's makes cloud-init start afresh.
func (j *job) cloudInit() error {
	c := j.p.CloudInit
	if c == (params.CloudInit{}) {
		return nil
	}
	if c.MetaData == "" {
		c.MetaData = "instance-id: swarmboot-" + strings.ReplaceAll(j.o.Node, ":", "") + "\n"
		if j.p.Hostname != "" {
			c.MetaData += "local-hostname: " + j.p.Hostname + "\n"
		}
	}
	seed := []struct{ name, text string }{{"user-data", c.UserData}, {"meta-data", c.MetaData}}
	if c.NetworkConfig != "" {
		seed = append(seed, struct{ name, text string }{"network-config", c.NetworkConfig})
	}
	for _, s := range seed {
		mode := uint32(0o600) // it may hold passwords
		if err := j.write("/var/lib/cloud/seed/nocloud/"+s.name, []byte(s.text), change{mode: &mode}); err != nil {
			return err
		}
	}
	j.did("cloud-init seed")
	return nil
}

func (j *job) fstab() error {
	if len(j.p.Fstab) == 0 {
		return nil
	}
	text, err := j.text("/etc/fstab")
	if err != nil {
		return err
	}
	for _, m := range j.p.Fstab {
		text = withMount(text, m)
	}
	if err := j.write("/etc/fstab", []byte(text), plain); err != nil {
		return err
	}
	for _, m := range j.p.Fstab {
		if m.Path == "none" || volatile(m.Path+"/") {
			continue
		}
		dir, err := j.dir(m.Path, true)
		if err != nil {
			return fmt.Errorf("mount point %s: %w", m.Path, err)
		}
		dir.Close()
	}
	j.did("%d lines of fstab", len(j.p.Fstab))
	return nil
}

// withMount replaces the line of the same path (of swap: of the same device), or adds one.
func withMount(fstab string, m params.Mount) string {
	if fstab != "" && !strings.HasSuffix(fstab, "\n") {
		fstab += "\n"
	}
	var b strings.Builder
	placed := false
	for line := range strings.Lines(fstab) {
		f := strings.Fields(line)
		if len(f) < 2 || strings.HasPrefix(f[0], "#") || unescape(f[1]) != m.Path || m.Path == "none" && unescape(f[0]) != m.Device {
			b.WriteString(line)
			continue
		}
		if !placed {
			b.WriteString(fstabLine(m) + "\n")
		}
		placed = true
	}
	if !placed {
		b.WriteString(fstabLine(m) + "\n")
	}
	return b.String()
}

var (
	escapes   = strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`)
	unescapes = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
)

func unescape(s string) string { return unescapes.Replace(s) }

func fstabLine(m params.Mount) string {
	options := m.Options
	if options == "" {
		options = "defaults"
	}
	return fmt.Sprintf("%s %s %s %s 0 %d", escapes.Replace(m.Device), escapes.Replace(m.Path), m.Type, options, m.Pass)
}
