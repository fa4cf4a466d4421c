// Package utp takes the place of github.com/anacrolix/go-utp, by a replace
// directive in swarmboot's go.mod. uTP (BEP 29) yields to other traffic on
// slow home uplinks; on the LAN that a rack is deployed over it only costs CPU,
// so swarmboot switches it off and needs no implementation of it. The BitTorrent
// library imports the package whether uTP is on or not: this is the part of the
// API that it mentions, and every constructor answers ErrNotBuiltIn.
package utp

import (
	"context"
	"errors"
	"log/slog"
	"net"
)

// ErrNotBuiltIn is what every attempt to open a uTP socket returns.
var ErrNotBuiltIn = errors.New("uTP is not built in")

// Default names the implementation in the library's error messages.
const Default = "none"

// FirewallCallback decides whether a packet from addr may open a connection.
type FirewallCallback = func(addr net.Addr) bool

// Socket is what the library expects of a uTP socket.
type Socket interface {
	net.PacketConn
	Accept() (net.Conn, error)
	Addr() net.Addr
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
	SetFirewallCallback(FirewallCallback)
}

// Option configures a Socket.
type Option func()

// WithLogger is accepted and has no effect.
func WithLogger(*slog.Logger) Option { return func() {} }

// NewSocket returns ErrNotBuiltIn.
func NewSocket(network, addr string, opts ...Option) (Socket, error) { return nil, ErrNotBuiltIn }

// NewSocketFromPacketConn returns ErrNotBuiltIn.
func NewSocketFromPacketConn(pc net.PacketConn, opts ...Option) (Socket, error) {
	return nil, ErrNotBuiltIn
}
