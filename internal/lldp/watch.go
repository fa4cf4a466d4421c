package lldp

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"swarmboot/internal/event"
)

// A node sends as often as 802.1AB, 9.2.5, has a station do that has just come up: msgFastTx and txFastInit, then
// msgTxInterval, until it has heard a switch. A switch whose table has a new neighbor does the same, so that the first
// frame brings the answer. No chance is mixed in: each frame goes over one cable to one switch.
const (
	fastInterval = time.Second
	fastFrames   = 4
	slowInterval = 30 * time.Second

	// readPause is between attempts to read from an interface that went down, and readTries how many there are in a row:
	// some drivers take their link down and up again when the first address is set.
	readPause = time.Second
	readTries = 120
)

// Options of a Watch.
type Options struct {
	// Heard is told of the switch at the interface in use, as soon as it is known, and when another one turns out to be nearer. One call
	// at a time.
	Heard func(event.Switch)
	Log   func(format string, args ...any) // nil: nobody is told of what goes wrong
	// Guard runs a goroutine's function; process 1 must not end with a panic. nil: it is just run.
	Guard func(func())
}

// Watch listens on network interfaces, all in the background: whatever goes wrong with it delays nobody.
//
// Some network cards (Intel's X710 and E810) have an LLDP agent in their firmware that takes these frames away unless it
// is told otherwise (ethtool --set-priv-flags). Behind those no switch is heard.
type Watch struct {
	o    Options
	wg   sync.WaitGroup
	tell sync.Mutex // held during Heard

	mu     sync.Mutex
	ports  map[string]*port
	used   string // the interface whose switch counts; "": not known yet
	closed bool
}

// port is one interface. Its fields belong to Watch.mu but for the channel.
type port struct {
	name  string
	mac   net.HardwareAddr
	stop  context.CancelFunc
	up    chan struct{} // closed when there is a carrier
	isUp  bool
	trust trust
	near  int // how near it is by the address that it sends to; more is nearer
	known event.Switch
	found chan struct{} // closed when a switch was heard
}

// New makes a Watch of no interfaces. Close it.
func New(o Options) *Watch {
	if o.Heard == nil {
		o.Heard = func(event.Switch) {}
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	if o.Guard == nil {
		o.Guard = func(f func()) { f() }
	}
	return &Watch{o: o, ports: map[string]*port{}}
}

// Link says that an interface was brought up, and, in another call, that it has a carrier. It listens from the first
// on, since a switch speaks as soon as there is a carrier, and speaks itself from the second on. It returns at once.
func (w *Watch) Link(name string, mac net.HardwareAddr, carrier bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.used != "" && w.used != name {
		return
	}
	p := w.ports[name]
	if p == nil {
		ctx, stop := context.WithCancel(context.Background())
		p = &port{name: name, mac: mac, stop: stop, up: make(chan struct{}), found: make(chan struct{})}
		w.ports[name] = p
		w.wg.Add(1)
		go w.o.Guard(func() {
			defer w.wg.Done()
			defer stop()
			if err := w.listen(ctx, p); err != nil && ctx.Err() == nil {
				w.o.Log("LLDP on %s: %v", name, err)
			}
		})
	}
	if carrier && !p.isUp {
		p.isUp = true
		close(p.up)
	}
}

// Use says which interface the node uses; the others are left alone from now on.
func (w *Watch) Use(name string) {
	w.mu.Lock()
	w.used = name
	for _, p := range w.ports {
		if p.name != name {
			p.stop()
		}
	}
	w.mu.Unlock()
	w.report()
}

// Close ends everything. Heard is not called after it has returned.
func (w *Watch) Close() {
	w.mu.Lock()
	w.closed = true
	for _, p := range w.ports {
		p.stop()
	}
	w.mu.Unlock()
	w.wg.Wait()
}

// report tells what is known of the interface in use.
func (w *Watch) report() {
	w.tell.Lock()
	defer w.tell.Unlock()
	w.mu.Lock()
	p := w.ports[w.used]
	known := p != nil && p.trust != notASwitch
	var s event.Switch
	if known {
		s = p.known
	}
	w.mu.Unlock()
	if known {
		w.o.Heard(s)
	}
}

// listen reads and sends on one interface until ctx ends.
func (w *Watch) listen(ctx context.Context, p *port) error {
	c, err := open(p.name)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })() // ends a read that waits
	w.wg.Add(1)
	go w.o.Guard(func() {
		defer w.wg.Done()
		w.speak(ctx, c, p)
	})
	buf := make([]byte, maxFrame)
	for failed := 0; ; {
		n, _, err := c.ReadFrom(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			failed = 0
			w.frame(p, buf[:n])
			continue
		}
		if failed++; failed > readTries {
			return err
		}
		if sleep(ctx, readPause, nil) != nil {
			return nil
		}
	}
}

// open opens a socket that sees nothing but LLDP.
func open(name string) (*packet.Conn, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	c, err := packet.Listen(ifi, packet.Raw, ethertype, nil)
	if err != nil {
		return nil, err
	}
	for _, group := range []net.HardwareAddr{nearestBridge, nearestNonTPMRBridge, nearestCustomerBridge} {
		if err := join(c, ifi.Index, group); err != nil {
			c.Close()
			return nil, fmt.Errorf("join %s: %w", group, err)
		}
	}
	return c, nil
}

// join has the network card take frames to a group address (packet(7), PACKET_ADD_MEMBERSHIP).
func join(c *packet.Conn, index int, group net.HardwareAddr) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	m := &unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_MULTICAST, Alen: uint16(len(group))}
	copy(m.Address[:], group)
	var serr error
	err = raw.Control(func(fd uintptr) {
		serr = unix.SetsockoptPacketMreq(int(fd), unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, m)
	})
	return errors.Join(err, serr)
}

// frame takes in what was heard.
func (w *Watch) frame(p *port, b []byte) {
	d, err := parse(b)
	if err != nil || d.trust() == notASwitch {
		return
	}
	s, t, near := d.asSwitch(), d.trust(), nearness(d.to)
	w.mu.Lock()
	first := p.trust == notASwitch
	better := t > p.trust || t == p.trust && near > p.near
	same := s.ID == p.known.ID && t == p.trust && near == p.near
	changed := s != p.known
	take := (better || same) && (changed || first)
	if better || same {
		p.trust, p.near, p.known = t, near, s
	}
	if first {
		close(p.found)
	}
	used := w.used == p.name
	w.mu.Unlock()
	if take && used {
		w.report()
	}
}

// nearness orders devices by the group address that they send to: each passes by what the one before it does not.
func nearness(to net.HardwareAddr) int {
	switch string(to) {
	case string(nearestBridge):
		return 2
	case string(nearestNonTPMRBridge):
		return 1
	}
	return 0
}

// speak sends the node's own frames until a switch was heard. That they cannot be sent is no matter for anybody.
func (w *Watch) speak(ctx context.Context, c *packet.Conn, p *port) {
	select {
	case <-ctx.Done():
		return
	case <-p.up:
	}
	frame := self{mac: p.mac, port: p.name + "-" + nonce(), name: p.name}.frame()
	for i := 1; ; i++ {
		_, _ = c.WriteTo(frame, &packet.Addr{HardwareAddr: nearestBridge})
		wait := slowInterval
		if i < fastFrames {
			wait = fastInterval
		}
		if sleep(ctx, wait, p.found) != nil {
			return
		}
	}
}

// nonce makes the port ID new: a switch that still has the entry of an earlier start, a minute ago, would see no new
// neighbor and wait for its turn.
func nonce() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return hex.EncodeToString(b[:])
}

var errFound = errors.New("found")

// sleep waits for d; an error says that ctx ended or found was closed first.
func sleep(ctx context.Context, d time.Duration, found <-chan struct{}) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-found:
		return errFound
	case <-t.C:
		return nil
	}
}
