// Package webrtc takes the place of github.com/pion/webrtc/v4, by a replace directive in
// swarmboot's go.mod. WebRTC lets browsers join a swarm; swarmboot's nodes are not browsers, and
// the switch that turns WebTorrent off does not keep its DTLS, ICE, SCTP, SRTP and TURN stacks out
// of the program. This is the part of the API that the BitTorrent library mentions: every
// connection ends in ErrNotBuiltIn before anything else of it can be reached.
package webrtc

import (
	"errors"

	"github.com/pion/datachannel"
)

// ErrNotBuiltIn is what every attempt to make a connection returns.
var ErrNotBuiltIn = errors.New("WebRTC is not built in")

// SettingEngine is accepted and has no effect.
type SettingEngine struct{ LoggerFactory any }

// DetachDataChannels has no effect.
func (*SettingEngine) DetachDataChannels() {}

// API makes connections.
type API struct{}

// NewAPI returns an API that makes none.
func NewAPI(...func(*API)) *API { return &API{} }

// WithSettingEngine is accepted and has no effect.
func WithSettingEngine(SettingEngine) func(*API) { return func(*API) {} }

// NewPeerConnection returns ErrNotBuiltIn.
func (*API) NewPeerConnection(Configuration) (*PeerConnection, error) { return nil, ErrNotBuiltIn }

// Configuration, ICEServer, OfferOptions, AnswerOptions, DataChannelInit and SessionDescription
// hold what the library puts into them.
type (
	Configuration      struct{ ICEServers []ICEServer }
	ICEServer          struct{ URLs []string }
	OfferOptions       struct{}
	AnswerOptions      struct{}
	DataChannelInit    struct{}
	SessionDescription struct{}
)

// StatsReport is always empty.
type StatsReport map[string]any

// PeerConnectionState is a state that is never reached.
type PeerConnectionState int

func (PeerConnectionState) String() string { return "not built in" }

// PeerConnection is never made: its methods only satisfy the compiler.
type PeerConnection struct{}

func (*PeerConnection) Close() error                                      { return nil }
func (*PeerConnection) GetStats() StatsReport                             { return nil }
func (*PeerConnection) OnConnectionStateChange(func(PeerConnectionState)) {}
func (*PeerConnection) OnDataChannel(func(*DataChannel))                  {}
func (*PeerConnection) LocalDescription() *SessionDescription             { return nil }
func (*PeerConnection) SetLocalDescription(SessionDescription) error      { return ErrNotBuiltIn }
func (*PeerConnection) SetRemoteDescription(SessionDescription) error     { return ErrNotBuiltIn }
func (*PeerConnection) SCTP() *SCTPTransport                              { return nil }
func (*PeerConnection) CreateOffer(*OfferOptions) (SessionDescription, error) {
	return SessionDescription{}, ErrNotBuiltIn
}
func (*PeerConnection) CreateAnswer(*AnswerOptions) (SessionDescription, error) {
	return SessionDescription{}, ErrNotBuiltIn
}
func (*PeerConnection) CreateDataChannel(string, *DataChannelInit) (*DataChannel, error) {
	return nil, ErrNotBuiltIn
}

// GatheringCompletePromise returns a channel that is closed.
func GatheringCompletePromise(*PeerConnection) <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}

// DataChannel is never made.
type DataChannel struct{}

func (*DataChannel) Close() error                                 { return nil }
func (*DataChannel) OnClose(func())                               {}
func (*DataChannel) OnOpen(func())                                {}
func (*DataChannel) Detach() (datachannel.ReadWriteCloser, error) { return nil, ErrNotBuiltIn }

// SCTPTransport, DTLSTransport and ICETransport are the way to a candidate pair that never is.
type (
	SCTPTransport struct{}
	DTLSTransport struct{}
	ICETransport  struct{}
)

func (*SCTPTransport) Transport() *DTLSTransport   { return nil }
func (*DTLSTransport) ICETransport() *ICETransport { return nil }
func (*ICETransport) GetSelectedCandidatePair() (*ICECandidatePair, error) {
	return nil, ErrNotBuiltIn
}

// ICECandidatePair holds the ends of a connection.
type ICECandidatePair struct{ Local, Remote *ICECandidate }

// ICECandidate is one end.
type ICECandidate struct {
	Address string
	Port    uint16
}
