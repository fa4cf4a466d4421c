package netboot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"

	"swarmboot/internal/pause"
)

// probeTime is how long the search for another DHCP server waits for an offer.
// dnsmasq pings an address for 3 s before it offers it. The client's second
// and last try waits twice as long as the first.
const probeTime = 4500 * time.Millisecond

// When it is looked for other DHCP servers again. A switch's port learns for up to 30 s after the carrier comes and drops what it
// gets; a cable may be plugged in at any time.
var (
	lookSoon  = 10 * time.Second // for a minute after the carrier came
	lookLater = 5 * time.Minute
)

const looksSoon = 6

// rival looks for another DHCP server: nil if none made an offer.
func (l *link) rival(ctx context.Context) (*dhcpv4.DHCPv4, error) {
	c, err := nclient4.New(l.Interface, nclient4.WithTimeout(probeTime/3), nclient4.WithRetry(2))
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
	if errors.Is(err, nclient4.ErrNoResponse) || ctx.Err() != nil {
		return nil, nil
	}
	return offer, err
}

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
	last, looks, seen := time.Now(), 0, l.carrier()
	for pause.For(ctx, min(lookSoon, time.Second)) == nil {
		if on := l.carrier(); on != seen {
			last, looks, seen = time.Now(), 0, on
		}
		wait := lookLater
		if looks < looksSoon || l.silent.Load() != nil {
			wait = lookSoon
		}
		if !seen || time.Since(last) < wait {
			continue
		}
		offer, err := l.rival(ctx)
		last, looks = time.Now(), looks+1
		switch {
		case ctx.Err() != nil || err != nil: // an interface that is down, for now
		case offer != nil:
			why := fmt.Sprintf("interface %s: another DHCP server, %s, has appeared on this network and offered %s: nothing is answered there until it is gone (--force-dhcp runs beside it)",
				l.Interface, server(offer), offer.YourIPAddr)
			if l.silent.Swap(&why) == nil {
				l.log.Error(why)
			}
		case l.silent.Swap(nil) != nil:
			l.log.Info("the other DHCP server is gone: requests are answered again")
		}
	}
	return ctx.Err()
}

// carrier says whether the interface has a link; one that does not say has.
func (l *link) carrier() bool {
	b, err := os.ReadFile("/sys/class/net/" + l.Interface + "/carrier")
	return err != nil || strings.TrimSpace(string(b)) != "0"
}

func server(offer *dhcpv4.DHCPv4) net.IP {
	if id := offer.ServerIdentifier(); id != nil {
		return id
	}
	return offer.ServerIPAddr
}
