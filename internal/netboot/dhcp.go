package netboot

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// serveDHCP answers DHCP clients until the socket is closed.
func (l *link) serveDHCP(ctx context.Context) error {
	// Whoever closes the socket may do so as soon as ctx has ended, which is before a context made from it has.
	asking, cancel := context.WithCancel(ctx)
	defer l.probes.Wait()
	defer cancel()
	buf := make([]byte, 4096)
	for {
		n, peer, err := l.dhcp.ReadFromUDPAddrPort(buf)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("DHCP on interface %s: %w", l.Interface, err)
		}
		req, err := parse(buf[:n])
		if err != nil {
			l.log.Debug("not a DHCP request", "from", peer, "error", err)
			continue
		}
		if l.silent.Load() == nil && !l.later(asking, req) {
			l.reply(req)
		}
	}
}

func (l *link) reply(req *dhcpv4.DHCPv4) {
	resp := l.answer(req)
	if resp == nil {
		return
	}
	if _, err := l.dhcp.WriteToUDPAddrPort(resp.ToBytes(), destination(resp)); err != nil {
		l.log.Warn("DHCP answer not sent", "mac", req.ClientHWAddr.String(), "error", err)
	}
}

// later says that a DHCPDISCOVER is answered when the network has been asked who has the address. A client that asks again meanwhile
// gets that answer, or asks a third time.
func (l *link) later(ctx context.Context, req *dhcpv4.DHCPv4) bool {
	if l.arp == nil || req.MessageType() != dhcpv4.MessageTypeDiscover {
		return false
	}
	mac := req.ClientHWAddr
	addr, err := l.pool.offer(mac, toAddr(req.RequestedIPAddress()))
	if err != nil || l.pool.checked(mac) {
		return false
	}
	if !l.arp.begin(mac) {
		return true
	}
	l.probes.Go(func() {
		defer l.arp.end(mac)
		for range mostTaken {
			owner := l.arp.owner(ctx, addr, mac)
			if ctx.Err() != nil {
				return
			}
			if owner == nil {
				l.pool.check(mac, addr)
				l.reply(req)
				return
			}
			l.log.Warn("address is in use by a machine without a lease of it", "address", addr, "its-mac", owner.String())
			l.pool.drop(mac, addr, owner)
			if addr, err = l.pool.offer(mac, netip.Addr{}); err != nil {
				l.reply(req) // says why there is none
				return
			}
		}
	})
	return true
}

// parse reads one client's message and checks what answer relies on.
func parse(b []byte) (*dhcpv4.DHCPv4, error) {
	req, err := dhcpv4.FromBytes(b)
	switch {
	case err != nil:
		return nil, err
	case req.OpCode != dhcpv4.OpcodeBootRequest:
		return nil, fmt.Errorf("operation code %d", req.OpCode)
	case req.HWType != iana.HWTypeEthernet || len(req.ClientHWAddr) != 6:
		return nil, fmt.Errorf("hardware type %d with %d octets", req.HWType, len(req.ClientHWAddr))
	case req.ClientHWAddr[0]&1 != 0:
		return nil, fmt.Errorf("hardware address %s is a group address", req.ClientHWAddr)
	case !unspecified(req.GatewayIPAddr):
		return nil, fmt.Errorf("relayed by %s: relays are not served", req.GatewayIPAddr)
	}
	return req, nil
}

// destination: a client that has an address gets the answer there; all others,
// and every refusal, by broadcast, which also reaches a client that cannot yet
// receive what is addressed to it (RFC 2131, section 4.1).
func destination(resp *dhcpv4.DHCPv4) netip.AddrPort {
	to := netip.IPv4Unspecified()
	if resp.MessageType() != dhcpv4.MessageTypeNak {
		to = toAddr(resp.ClientIPAddr)
	}
	if to.IsUnspecified() {
		to = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	}
	return netip.AddrPortFrom(to, dhcpv4.ClientPort)
}

// answer makes the answer to a client's message, or nil when there is none to make.
func (l *link) answer(req *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	mac, wish := req.ClientHWAddr, toAddr(req.RequestedIPAddress())
	switch req.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		addr, err := l.pool.offer(mac, wish)
		if err != nil {
			l.log.Error("no address for a node", "mac", mac.String(), "range", l.First.String()+"-"+l.Last.String(), "error", err)
			return nil
		}
		return l.grant(req, dhcpv4.MessageTypeOffer, addr)
	case dhcpv4.MessageTypeRequest:
		return l.request(req)
	case dhcpv4.MessageTypeInform:
		// The client's address is not ours to judge; it only wants options (RFC 2131, section 3.4).
		return l.grant(req, dhcpv4.MessageTypeAck, netip.Addr{})
	case dhcpv4.MessageTypeRelease:
		l.pool.release(mac, toAddr(req.ClientIPAddr))
	case dhcpv4.MessageTypeDecline:
		if l.pool.drop(mac, wish, nil) {
			l.log.Warn("address is in use by a machine without a lease of it", "address", wish, "noticed-by", mac)
		}
	}
	return nil
}

// request answers DHCPREQUEST in the client states of RFC 2131, section 4.3.2.
func (l *link) request(req *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	id := toAddr(req.ServerIdentifier())
	want := toAddr(req.RequestedIPAddress())
	if want.IsUnspecified() { // renewing or rebinding
		want = toAddr(req.ClientIPAddr)
	}
	if !id.IsUnspecified() && id != l.Addr {
		return nil // it took another server's offer
	}
	if l.pool.take(req.ClientHWAddr, want) {
		return l.grant(req, dhcpv4.MessageTypeAck, want)
	}
	if id.IsUnspecified() && l.force {
		return nil // may well be the other server's lease
	}
	resp, err := dhcpv4.NewReplyFromRequest(req,
		dhcpv4.WithMessageType(dhcpv4.MessageTypeNak),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(l.Addr.AsSlice())),
		dhcpv4.WithOption(dhcpv4.OptMessage("address not available")))
	if err != nil {
		return nil
	}
	l.log.Info("address refused", "mac", req.ClientHWAddr.String(), "address", want)
	return resp
}

// grant makes an offer or acknowledgement with everything a client of its kind needs.
func (l *link) grant(req *dhcpv4.DHCPv4, mt dhcpv4.MessageType, addr netip.Addr) *dhcpv4.DHCPv4 {
	resp, err := dhcpv4.NewReplyFromRequest(req, dhcpv4.WithMessageType(mt))
	if err != nil {
		return nil
	}
	resp.ClientIPAddr = req.ClientIPAddr
	resp.UpdateOption(dhcpv4.OptServerIdentifier(l.Addr.AsSlice()))
	if addr.IsValid() {
		resp.YourIPAddr = addr.AsSlice()
		resp.UpdateOption(dhcpv4.OptIPAddressLeaseTime(leaseTime))
		resp.UpdateOption(dhcpv4.OptRenewTimeValue(leaseTime / 2))
		resp.UpdateOption(dhcpv4.OptRebindingTimeValue(leaseTime * 7 / 8))
	}
	resp.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(l.subnet.Bits(), 32)))
	if l.gateway.IsValid() {
		resp.UpdateOption(dhcpv4.OptRouter(l.gateway.AsSlice()))
	}
	// next-server: where kinds that need no TFTP also look for the server.
	resp.ServerIPAddr = l.Addr.AsSlice()
	k := classify(req)
	if err := l.answerBoot(k, req, resp); err != nil {
		l.log.Warn("a machine cannot be booted", "mac", req.ClientHWAddr.String(), "error", err)
	}
	if mt == dhcpv4.MessageTypeAck {
		l.log.Info("address given", "mac", req.ClientHWAddr.String(), "address", addr, "client", k.String(), "boot", resp.BootFileName)
	}
	return resp
}

func toAddr(ip net.IP) netip.Addr {
	if a, ok := netip.AddrFromSlice(ip.To4()); ok {
		return a
	}
	return netip.IPv4Unspecified()
}

func unspecified(ip net.IP) bool { return toAddr(ip).IsUnspecified() }

// resolution of waiting loops in this package.
const tick = 500 * time.Millisecond
