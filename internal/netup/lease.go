package netup

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"

	"swarmboot/internal/pause"
	"swarmboot/internal/spread"
)

// class is the node's vendor class (option 60). A server tells nodes from PXE firmware by it; u-root's own
// client says "PXE UROOT" and is offered the firmware's boot file.
const class = "swarmboot"

// The pauses between attempts grow from the first to the last, each of them up to a half shorter or longer (RFC 2131, section
// 4.1): nodes that were switched on together, or whose server was away, would else ask together each time, with more
// requests at once than the server's socket holds. The first attempt of all waits for nothing (section 4.4.1 has
// a client wait 1 to 10 s): thousands of nodes have had to load their kernel over the network before it, which spreads them.
const (
	firstPause = time.Second
	lastPause  = 16 * time.Second
	// answerWait is how long one attempt waits; a server that pings the address first takes over a second.
	answerWait = 4 * time.Second
	// leastRenewal is between two renewals, whatever the server grants: a lease of 0 s must not make the node flood it.
	leastRenewal = 10 * time.Second
)

// lease is what a server granted, and when.
type lease struct {
	*nclient4.Lease
}

func modifiers(mac net.HardwareAddr) []dhcpv4.Modifier {
	return []dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier(class)),
		dhcpv4.WithOption(dhcpv4.OptClientIdentifier(append([]byte{1}, mac...))),
		dhcpv4.WithRequestedOptions(
			dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionDomainName,
			dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionIPAddressLeaseTime, dhcpv4.OptionRenewTimeValue,
			dhcpv4.OptionRebindingTimeValue, dhcpv4.OptionTFTPServerName, dhcpv4.OptionBootfileName),
	}
}

// acquire asks for a lease until it gets one or ctx ends.
func (o Options) acquire(ctx context.Context, name string, mac net.HardwareAddr) (*lease, error) {
	wait := firstPause
	for try := 1; ; try++ {
		l, err := request(ctx, name, mac)
		if err == nil {
			return l, nil
		}
		if ctx.Err() == nil {
			o.Log("%s: DHCP attempt %d: %v", name, try, plain(err))
		}
		if pause.For(ctx, spread.Around(wait, 2)) != nil {
			return nil, fmt.Errorf("%w, %d attempts", plain(err), try)
		}
		wait = min(2*wait, lastPause)
	}
}

// plain says in our words that nobody answered.
func plain(err error) error {
	if errors.Is(err, nclient4.ErrNoResponse) || errors.Is(err, context.DeadlineExceeded) {
		return ErrNoOffer
	}
	return err
}

// withClient runs f with a DHCP client. Its raw socket sees every frame that comes in, so it is open only
// while it is needed, not during the deployment.
func withClient(name string, f func(*nclient4.Client) (*nclient4.Lease, error)) (*lease, error) {
	c, err := nclient4.New(name, nclient4.WithTimeout(answerWait), nclient4.WithRetry(1))
	if err != nil {
		return nil, fmt.Errorf("open DHCP client: %w", err)
	}
	defer c.Close()
	l, err := f(c)
	if err != nil {
		return nil, err
	}
	if l.ACK.YourIPAddr.To4() == nil || l.ACK.YourIPAddr.IsUnspecified() {
		return nil, fmt.Errorf("the DHCP server %s gave no address", l.ACK.ServerIdentifier())
	}
	return &lease{l}, nil
}

func request(ctx context.Context, name string, mac net.HardwareAddr) (*lease, error) {
	return withClient(name, func(c *nclient4.Client) (*nclient4.Lease, error) {
		return c.Request(ctx, modifiers(mac)...)
	})
}

func renew(ctx context.Context, name string, mac net.HardwareAddr, old *lease) (*lease, error) {
	return withClient(name, func(c *nclient4.Client) (*nclient4.Lease, error) {
		return c.Renew(ctx, old.Lease, modifiers(mac)...)
	})
}

// times returns when to renew and when the lease ends (RFC 2131, section 4.4.5: T1 is half of it unless given).
func (l *lease) times() (renew, end time.Time) {
	length := l.ACK.IPAddressLeaseTime(time.Hour)
	t1 := l.ACK.IPAddressRenewalTime(length / 2)
	if t1 <= 0 || t1 > length {
		t1 = length / 2
	}
	t1 = max(t1, leastRenewal)
	return l.CreationTime.Add(t1), l.CreationTime.Add(length)
}

// renewal is when to renew: up to a tenth before T1 (RFC 2131, section 4.4.5: with some fuzz), so that nodes that
// got their leases in the same second do not renew in the same second.
func (l *lease) renewal() time.Time {
	at, _ := l.times()
	wait := at.Sub(l.CreationTime)
	return at.Add(-min(rand.N(wait/10+1), wait-leastRenewal))
}

// addr returns the address and its network; without option 1 the class of the address gives the mask.
func (l *lease) addr() net.IPNet {
	ip := l.ACK.YourIPAddr.To4()
	mask := l.ACK.SubnetMask()
	if ones, bits := mask.Size(); bits != 32 || ones == 0 {
		mask = ip.DefaultMask()
	}
	return net.IPNet{IP: ip, Mask: mask}
}

func (l *lease) gateway() net.IP {
	if r := l.ACK.Router(); len(r) > 0 && !r[0].IsUnspecified() {
		return r[0].To4()
	}
	return nil
}

// bootFile is option 67, or the field of the header that it may stand in for (RFC 2132, section 9.5).
func (l *lease) bootFile() string {
	if f := l.ACK.BootFileNameOption(); f != "" {
		return f
	}
	return l.ACK.BootFileName
}

// server is where the boot files come from: siaddr, or the DHCP server where that is empty.
func (l *lease) server() net.IP {
	if ip := l.ACK.ServerIPAddr.To4(); ip != nil && !ip.IsUnspecified() {
		return ip
	}
	return l.ACK.ServerIdentifier().To4()
}

// keep renews the lease until ctx ends. When renewing fails to the end of the lease it asks for a new one; the
// old address stays meanwhile, since taking it away would only end a deployment that may still work.
func (n *Net) keep(ctx context.Context, o Options, c candidate) {
	defer close(n.done)
	l := c.lease
	for {
		at := l.renewal()
		_, end := l.times()
		if o.renewAfter > 0 {
			at = l.CreationTime.Add(o.renewAfter)
		}
		if pause.For(ctx, time.Until(at)) != nil {
			return
		}
		next := n.extend(ctx, o, l, end)
		if next == nil {
			if next = n.again(ctx, o); next == nil {
				return
			}
		}
		if !next.ACK.YourIPAddr.Equal(l.ACK.YourIPAddr) {
			o.Log("%s: address changed from %s to %s", n.Interface, l.ACK.YourIPAddr, next.ACK.YourIPAddr)
			if err := o.configure(c.link, next); err != nil {
				o.Log("%s: %v", n.Interface, err)
			}
		}
		l = next
	}
}

// extend renews l; nil when the server refuses or the lease ends first.
func (n *Net) extend(ctx context.Context, o Options, l *lease, end time.Time) *lease {
	for {
		next, err := renew(ctx, n.Interface, n.MAC, l)
		if err == nil {
			return next
		}
		if ctx.Err() != nil {
			return nil
		}
		o.Log("%s: renew lease: %v", n.Interface, plain(err))
		var nak *nclient4.ErrNak
		left := time.Until(end)
		if errors.As(err, &nak) || left <= 0 {
			return nil
		}
		if pause.For(ctx, spread.Around(min(max(left/4, time.Second), time.Minute), 2)) != nil {
			return nil
		}
	}
}

// again asks for a new lease for as long as it takes; nil only when ctx ends.
func (n *Net) again(ctx context.Context, o Options) *lease {
	l, err := o.acquire(ctx, n.Interface, n.MAC)
	if err != nil {
		return nil
	}
	return l
}
