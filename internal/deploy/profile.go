package deploy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/params"
	"swarmboot/internal/target"
	"swarmboot/internal/target/identity"
)

// maxContents is how many bytes the files that a profile gives by URL may have together: they are held in memory, so that
// nothing can be missing once the disk is written.
const maxContents = 8 << 20

// takeProfile gets the node's profile and everything that it refers to, and lets it set the parameters that were left open.
// Whatever is wrong with it is found here, before the first write, as far as the image need not be known for it.
func (e *engine) takeProfile(ctx context.Context) error {
	p, err := e.c.profile(ctx, e.o.Node, e.o.Machine.MACs, e.o.Patience, e.rep.say)
	if err == nil {
		err = e.settle(p)
	}
	if err == nil && p.HasIdentity() {
		err = e.prepareIdentity(ctx, p)
	}
	if err == nil {
		err = e.prepareHooks(ctx, p)
	}
	if err == nil {
		err = e.prepareUUIDs(p)
	}
	if err != nil {
		return cli.WithCode(profileCode(err), fmt.Errorf("profile of %s: %w", e.o.Node, err))
	}
	e.profile = p
	return nil
}

func profileCode(err error) int {
	if c := code(err); c != cli.CodeOther {
		return c
	}
	return cli.CodeUsage
}

// settle applies the parameters of the profile.
func (e *engine) settle(p *params.Profile) error {
	o := &e.o
	c := &params.Config{Disk: o.Disk, Verify: o.Verify, Then: params.Then(o.Then), OnError: params.OnError(o.OnError), Append: o.Append,
		Seed: o.Seed, Grow: o.Grow, Write: o.Write, BootEntry: o.BootEntry, Action: params.ActionDeploy}
	if o.Plan {
		c.Action = params.ActionPlan
	}
	given := o.Given
	if given["disk"] || given["layout"] { // one choice: which disks are meant
		given = maps.Clone(given)
		given["disk"], given["layout"] = true, true
	}
	c.Layout, c.Rack = o.Layout, o.Rack
	if err := p.Apply(c, given); err != nil {
		return err
	}
	if c.Disk != "" && (c.Layout != "" || o.LayoutJSON != nil) {
		return errors.New("parameters: disk and layout: the layout says which disks are meant; give one of the two")
	}
	o.Layout, o.Rack = c.Layout, c.Rack
	o.BootEntry, o.Write, o.Plan = c.BootEntry, c.Write, c.Action == params.ActionPlan
	o.Disk, o.Verify, o.Then, o.OnError, o.Append, o.Seed, o.Grow = c.Disk, c.Verify, string(c.Then), string(c.OnError), c.Append, c.Seed, c.Grow
	return nil
}

func (e *engine) prepareIdentity(ctx context.Context, p *params.Profile) error {
	if os.Geteuid() != 0 {
		return errors.New("the deployed system can be changed by root only: its file system has to be mounted")
	}
	if _, err := partExtent(e.m, e.m.Boot.Root); err != nil {
		return fmt.Errorf("the root of the boot entry: %w", err)
	}
	if err := target.CheckRoot(ctx, e.m); err != nil {
		return err
	}
	if slices.ContainsFunc(p.Network.Interfaces, func(n params.Interface) bool { return n.MAC == params.MACBoot }) {
		if e.mac = e.bootMAC(); e.mac == "" {
			return fmt.Errorf("network: mac: %s: the server is not reached through an interface with a MAC address", params.MACBoot)
		}
	}
	return e.getContents(ctx, p)
}

// bootMAC is the MAC address of the interface that reaches the server.
func (e *engine) bootMAC() string {
	if mac, err := net.ParseMAC(e.o.Node); err == nil && len(mac) == 6 {
		return mac.String()
	}
	return macTowards(e.o.Server)
}

func (e *engine) getContents(ctx context.Context, p *params.Profile) error {
	e.contents = map[string][]byte{}
	left := int64(maxContents)
	for _, f := range p.Files {
		if f.URL == "" {
			continue
		}
		b, err := e.download(ctx, f.URL, f.SHA256, left)
		if err != nil {
			return fmt.Errorf("file %s: %w", f.Path, err)
		}
		left -= int64(len(b))
		e.contents[f.Path] = b
	}
	return nil
}

// download gets at most limit bytes from a URL, or from a path on the server, and checks their SHA-256.
func (e *engine) download(ctx context.Context, from, sum string, limit int64) ([]byte, error) {
	if strings.HasPrefix(from, "/") {
		from = e.c.base + from
	}
	b, err := e.c.get(ctx, from, limit)
	if err != nil {
		return nil, err
	}
	if got := sha256.Sum256(b); !strings.EqualFold(hex.EncodeToString(got[:]), sum) {
		return nil, cli.WithCode(cli.CodeVerify, fmt.Errorf("%s has SHA-256 %x", from, got))
	}
	return b, nil
}

// identity makes the deployed system this node's.
func (e *engine) identity(ctx context.Context) (err error) {
	var done []string
	err = e.inRoot(ctx, func(dir, _ string) (err error) {
		done, err = identity.Apply(ctx, dir, identity.Options{Profile: e.profile, Node: e.o.Node, MAC: e.mac, Contents: e.contents, Mount: e.mountOwn(ctx)})
		return err
	})
	if err != nil {
		return err
	}
	e.rep.say(strings.Join(done, ", "))
	return nil
}

// partExtent returns partition n of an image. Number 0 is the whole disk, length 0.
func partExtent(m *imagefmt.Manifest, n int) (imagefmt.Partition, error) {
	if n == 0 {
		return imagefmt.Partition{}, nil
	}
	i := slices.IndexFunc(m.Table.Partitions, func(p imagefmt.Partition) bool { return p.Number == n })
	if i < 0 {
		return imagefmt.Partition{}, fmt.Errorf("the image has no partition %d", n)
	}
	return m.Table.Partitions[i], nil
}

// profile gets the profile of a node, with attempts until patience is over. The server has an answer for every node, an empty one where it has no
// profiles: 404 comes from something else, such as a proxy, and the node would go on without a name.
func (c *client) profile(ctx context.Context, node string, macs []string, patience time.Duration, say func(string)) (*params.Profile, error) {
	q := url.Values{"node": {node}, "mac": macs}
	b, err := c.fetch(ctx, c.base+"/api/v1/profile?"+q.Encode(), params.MaxProfile, patience, say)
	if err != nil {
		return nil, err
	}
	return params.ParseProfile(b)
}

// hasIdentity says whether the deployed system is to be changed.
func (e *engine) hasIdentity() bool { return e.profile != nil && e.profile.HasIdentity() }
