package netboot

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"swarmboot/internal/pause"
)

// How an address is probed. RFC 5227 has a host wait for seconds before it uses an address of its own; a server's probe comes before
// the client's, and a boot ROM asks again after 1 s (iPXE) to 4 s (PXE).
const (
	arpProbes = 2
	arpWait   = 250 * time.Millisecond // after each
	// mostTaken is how many addresses are tried for one request.
	mostTaken = 16
)

const (
	arpLength  = 28
	arpRequest = 1
)

// arp asks who has an address, before it is handed out: profiles, other servers and hands give addresses, too (RFC 2131, section 3.1).
type arp struct {
	conn *packet.Conn
	mac  net.HardwareAddr

	mu    sync.Mutex
	asked map[netip.Addr]chan net.HardwareAddr // who says that it has the address
	busy  map[string]bool                      // clients whose address is being probed
}

func newARP(iface string) (*arp, error) {
	ifi, err := net.InterfaceByName(iface)
	if err != nil {
		return nil, err
	}
	if len(ifi.HardwareAddr) != 6 {
		return nil, fmt.Errorf("interface %s is no Ethernet", iface)
	}
	conn, err := packet.Listen(ifi, packet.Datagram, unix.ETH_P_ARP, nil)
	if err != nil {
		return nil, err
	}
	return &arp{conn: conn, mac: ifi.HardwareAddr, asked: map[netip.Addr]chan net.HardwareAddr{}, busy: map[string]bool{}}, nil
}

func (a *arp) close() { a.conn.Close() }

// run hears who has which address until the socket is closed.
func (a *arp) run(ctx context.Context) error {
	b := make([]byte, 128)
	for {
		n, _, err := a.conn.ReadFrom(b)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, os.ErrClosed):
			return err
		case err != nil: // the interface went down, for now
			if err := pause.For(ctx, tick); err != nil {
				return err
			}
			continue
		}
		mac, ip, ok := parseARP(b[:n])
		if !ok {
			continue
		}
		a.mu.Lock()
		if c := a.asked[ip]; c != nil {
			select {
			case c <- mac:
			default: // it has said so before
			}
		}
		a.mu.Unlock()
	}
}

// parseARP returns the sender of a request or reply (RFC 826) for IPv4 on Ethernet.
func parseARP(b []byte) (mac net.HardwareAddr, ip netip.Addr, ok bool) {
	if len(b) < arpLength || !bytes.Equal(b[:6], []byte{0, 1, 8, 0, 6, 4}) {
		return nil, ip, false
	}
	return bytes.Clone(b[8:14]), netip.AddrFrom4([4]byte(b[14:18])), true
}

// probe is an ARP Probe (RFC 5227, section 2.1.1): without a sender's address it changes nobody's cache.
func (a *arp) probe(ip netip.Addr) []byte {
	b := append(make([]byte, 0, arpLength), 0, 1, 8, 0, 6, 4)
	b = binary.BigEndian.AppendUint16(b, arpRequest)
	b = append(b, a.mac...)
	b = append(b, make([]byte, 4+6)...)
	return append(b, ip.AsSlice()...)
}

// owner returns who has the address, if that is another one than the client.
func (a *arp) owner(ctx context.Context, ip netip.Addr, client net.HardwareAddr) net.HardwareAddr {
	said := make(chan net.HardwareAddr, 4)
	a.mu.Lock()
	a.asked[ip] = said
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.asked, ip)
	}()
	for range arpProbes {
		// One that cannot be sent finds nobody: nor will the offer get out.
		_, _ = a.conn.WriteTo(a.probe(ip), &packet.Addr{HardwareAddr: net.HardwareAddr{255, 255, 255, 255, 255, 255}})
		for wait := time.After(arpWait); wait != nil; {
			select {
			case <-ctx.Done():
				return nil
			case <-wait:
				wait = nil
			case mac := <-said:
				if !bytes.Equal(mac, client) {
					return mac
				}
			}
		}
	}
	return nil
}

// begin says whether no address is being probed for the client yet; end ends that.
func (a *arp) begin(mac net.HardwareAddr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.busy[string(mac)] {
		return false
	}
	a.busy[string(mac)] = true
	return true
}

func (a *arp) end(mac net.HardwareAddr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.busy, string(mac))
}
