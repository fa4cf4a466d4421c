package netboot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"

	"swarmboot/internal/pause"
)

// probeTime is how long the search for another DHCP server waits for an offer.
// dnsmasq pings an address for 3 s before it offers it. The client's second
// and last try waits twice as long as the first.
var probeTime = 4500 * time.Millisecond

// When it is looked for other DHCP servers again. A switch's port learns for up to 30 s after the carrier comes and drops what it
// gets; a cable may be plugged in at any time.
var (
	lookSoon  = 10 * time.Second // for a minute after the carrier came
	lookLater = 5 * time.Minute
)

const looksSoon = 6

// looksGone is how many searches in a row have to find nobody until another server is taken for gone: it may be started again just
// then, or miss a request.
const looksGone = 3

// rival looks for another DHCP server: nil if none made an offer. It is an error if the interface cannot have heard one all the time.
func (l *link) rival(ctx context.Context) (*dhcpv4.DHCPv4, error) {
	before := l.state()
	var ears ears
	c, err := nclient4.New(l.Interface, nclient4.WithTimeout(probeTime/3), nclient4.WithRetry(2), nclient4.WithLogger(&ears))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ask, err := dhcpv4.NewDiscovery(c.InterfaceAddr())
	if err != nil {
		return nil, err
	}
	offer, err := c.SendAndRead(ctx, c.RemoteAddr(), ask, func(p *dhcpv4.DHCPv4) bool {
		return p.MessageType() == dhcpv4.MessageTypeOffer && !slices.Contains(l.served, toAddr(server(p)))
	})
	if ctx.Err() == nil && !errors.Is(err, nclient4.ErrNoResponse) {
		return offer, err
	}
	if ears.deaf.Load() || l.state() != before {
		return nil, errors.New("the interface went down meanwhile")
	}
	return nil, nil
}

// ears know whether nclient4 still listens. When its socket breaks, as it does when the interface goes down, it only logs that, and
// nobody seems to answer.
type ears struct {
	nclient4.EmptyLogger
	deaf atomic.Bool
}

func (e *ears) Printf(string, ...any) { e.deaf.Store(true) }

// probe refuses a network on which another DHCP server answers. That it cannot ask is noted, not refused.
func (l *link) probe(ctx context.Context) error {
	offer, err := l.rival(ctx)
	switch {
	case err != nil:
		l.log.Warn("cannot look for other DHCP servers", "error", err)
	case offer == nil:
	case l.force:
		l.log.Warn("another DHCP server is on this network; nodes may listen to it instead", "server", server(offer))
	default:
		return fmt.Errorf("interface %s: another DHCP server, %s, is on this network and offered %s; stop it, or use --force-dhcp to run beside it",
			l.Interface, server(offer), offer.YourIPAddr)
	}
	return nil
}

// watch goes on looking: a port that was dark at the start has shown nobody. While there is another server nothing is answered.
func (l *link) watch(ctx context.Context) error {
	if l.force {
		return nil
	}
	last, seen := time.Now(), l.state()
	looks, empty := 0, 0 // searches, and those since the last that found another server
	for pause.For(ctx, min(lookSoon, time.Second)) == nil {
		if now := l.state(); now != seen {
			last, seen, looks, empty = time.Now(), now, 0, 0
		}
		wait := lookLater
		if looks < looksSoon || l.silent.Load() != nil {
			wait = lookSoon
		}
		if !seen.carrier || time.Since(last) < wait {
			continue
		}
		offer, err := l.rival(ctx)
		last = time.Now()
		if ctx.Err() != nil || err != nil { // an interface that is down, for now
			continue
		}
		looks, empty = looks+1, empty+1
		switch {
		case offer != nil:
			empty = 0
			l.hush(offer)
		case empty >= looksGone && l.silent.Swap(nil) != nil:
			looks = 0 // it may only be away for longer
			l.log.Info("the other DHCP server is gone: requests are answered again")
		}
	}
	return ctx.Err()
}

// hush leaves the network to the server that made the offer.
func (l *link) hush(offer *dhcpv4.DHCPv4) {
	why := fmt.Sprintf("interface %s: another DHCP server, %s, has appeared on this network and offered %s: nothing is answered there until it is gone (--force-dhcp runs beside it)",
		l.Interface, server(offer), offer.YourIPAddr)
	if l.silent.Swap(&why) == nil {
		l.log.Error(why)
	}
}

// state is that of an interface.
type state struct {
	carrier bool   // one that does not say has
	changes string // how often the carrier came and went
}

func (l *link) state() state {
	read := func(file string) string {
		b, _ := os.ReadFile("/sys/class/net/" + l.Interface + "/" + file) // an interface that is down does not say
		return strings.TrimSpace(string(b))
	}
	return state{carrier: read("carrier") != "0", changes: read("carrier_changes")}
}

func server(offer *dhcpv4.DHCPv4) net.IP {
	if id := offer.ServerIdentifier(); id != nil {
		return id
	}
	return offer.ServerIPAddr
}
