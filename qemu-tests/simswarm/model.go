package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"swarmboot/internal/tracker"
)

// Model says what is simulated. Rates are bits per second of a port, each way.
type Model struct {
	Seed     uint64        `json:"seed"`
	Nodes    int           `json:"nodes"`
	Rack     int           `json:"rack"`     // nodes behind one switch
	Oversub  float64       `json:"oversub"`  // the ports of a rack ÷ its uplink
	Port     float64       `json:"port"`     // of a node
	Server   float64       `json:"server"`   // of the server
	Image    int64         `json:"image"`    // bytes that travel
	Piece    int64         `json:"piece"`    // bytes
	Storm    time.Duration `json:"storm"`    // nodes start at random within it
	Ordered  bool          `json:"ordered"`  // they start rack by rack
	Die      float64       `json:"die"`      // share of nodes that lose power on the way
	Slow     float64       `json:"slow"`     // share of nodes with a slow port and disk
	SlowRate float64       `json:"slowRate"` // of the ordinary rate
	Disks    float64       `json:"disks"`    // share of nodes whose disk alone is slow
	SlowDisk []int         `json:"slowDisk"` // and these
	Cut      []int         `json:"cut"`      // nodes whose cable is pulled
	CutAt    time.Duration `json:"cutAt"`    // after the beginning
	CutFor   time.Duration `json:"cutFor"`   // and put back
	Tells    float64       `json:"tells"`    // share of the slow nodes that know it: their port says its speed
	Limit    time.Duration `json:"limit"`    // of simulated time

	Costs    Costs            `json:"costs"`
	Topology tracker.Settings `json:"topology"`
}

// Costs are what a node's program and TCP add. They stand for what cannot be simulated in a fluid
// model; README.md says where the defaults are from.
type Costs struct {
	Wire      float64       `json:"wire"`      // bytes on the wire ÷ bytes of pieces
	HopPieces float64       `json:"hopPieces"` // piece-times from a byte's arrival until the next node can have it
	HopFixed  time.Duration `json:"hopFixed"`  // verify, write, announce, request
	Start     time.Duration `json:"start"`     // from the node's start to its first announce: manifest, index
	Finish    time.Duration `json:"finish"`    // from the last piece to done: fsync
	Queue     int64         `json:"queue"`     // bytes under request from each upstream
	Unwritten int64         `json:"unwritten"` // bytes that may wait for a disk
	Stall     time.Duration `json:"stall"`     // silence after which a node asks for help, or that of StallPieces pieces
	// FirstStall is the same before the first byte.
	FirstStall  time.Duration `json:"firstStall"`
	StallPieces float64       `json:"stallPieces"`
	Noise       float64       `json:"noise"`   // of measured rates: standard deviation
	Poll        time.Duration `json:"poll"`    // between two "may I go" of a finished node
	Unheard     time.Duration `json:"unheard"` // from an announce that nobody answers to the next
}

func defaultCosts() Costs {
	return Costs{
		Wire: 1.052, HopPieces: 1.2, HopFixed: 4 * time.Millisecond,
		Start: 150 * time.Millisecond, Finish: 50 * time.Millisecond,
		Queue: 512 << 10, Unwritten: 16 << 20, Stall: 750 * time.Millisecond, FirstStall: 3 * time.Second, StallPieces: 12, Poll: time.Second, Unheard: 5 * time.Second,
		Noise: 0.1,
	}
}

func (m Model) check() error {
	for _, c := range []struct {
		ok   bool
		what string
	}{
		{m.Nodes > 0 && m.Nodes <= 1<<20, "nodes"},
		{m.Rack > 0, "rack"},
		{m.Oversub > 0, "oversub"},
		{m.Port > 0 && m.Server > 0, "rates"},
		{m.Image > 0 && m.Piece > 0 && m.Image/m.Piece < 1<<24, "image and piece"},
		{m.Storm >= 0 && m.Limit > 0 && m.CutAt >= 0 && m.CutFor >= 0, "times"},
		{!slices.ContainsFunc(m.Cut, func(i int) bool { return i < 0 || i >= m.Nodes }), "cut"},
		{m.Die >= 0 && m.Die < 1 && m.Slow >= 0 && m.Slow <= 1 && m.SlowRate > 0 && m.Disks >= 0 && m.Disks <= 1, "shares"},
		{m.Costs.Wire >= 1 && m.Costs.HopPieces >= 0 && m.Costs.HopFixed > 0 && m.Costs.Poll > 0 && m.Costs.Unheard > 0, "costs"},
	} {
		if !c.ok {
			return fmt.Errorf("%s: out of range", c.what)
		}
	}
	if m.Costs.Start < 0 || m.Costs.Finish < 0 {
		return errors.New("costs: a time is negative")
	}
	return nil
}

func (m Model) pieces() int { return int((m.Image + m.Piece - 1) / m.Piece) }

// rate is how many pieces a second go through a port.
func (m Model) rate(port float64) float64 { return port / 8 / m.Costs.Wire / float64(m.Piece) }

// stall is how long nothing comes before a node asks for help.
func (m Model) stall() time.Duration {
	return max(m.Costs.Stall, time.Duration(m.Costs.StallPieces*float64(m.Piece)*8/m.Port*float64(time.Second)))
}

// floor is the time that the image's bytes take through one port, without any header.
func (m Model) floor() time.Duration {
	return time.Duration(float64(m.Image) * 8 / m.Port * float64(time.Second))
}

// step is the time that a piece takes from one node to where the next can have it, and the step of
// the simulation: what came in one step can go on in the next.
func (m Model) step() time.Duration {
	d := m.Costs.HopFixed + time.Duration(m.Costs.HopPieces*float64(m.Piece)*8/m.Port*float64(time.Second))
	return max(d, time.Millisecond)
}
