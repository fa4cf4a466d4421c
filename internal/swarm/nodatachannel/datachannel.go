// Package datachannel takes the place of github.com/pion/datachannel, by a replace directive in
// swarmboot's go.mod: see package webrtc beside it.
package datachannel

import "io"

// ReadWriteCloser is a detached data channel; none is ever made.
type ReadWriteCloser = io.ReadWriteCloser
